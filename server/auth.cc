#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokenBytes = 1024;
constexpr size_t kMaxTokens = 10'000;
constexpr size_t kMaxTenantBytes = 64;
constexpr int64_t kMaxFileBytes = 8 << 20;
constexpr double kMaxTokensPerSecond = 1e12;

absl::Status Bad(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

// Names of fields are the operator's own words, and a token put in a wrong place would be one: they
// are not shown.
absl::Status OnlyFields(const Json& object, absl::string_view where,
                        std::initializer_list<absl::string_view> known) {
  if (!object.is_object()) return Bad(where, "must be an object");
  for (const auto& [name, unused] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return Bad(where, "has a field that is not known");
    }
  }
  return absl::OkStatus();
}

bool IsTenantName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxTenantBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

std::optional<std::string> TextOf(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

absl::StatusOr<Sha256> ParseDigest(const Json& json, absl::string_view where) {
  if (json.contains("token") == json.contains("token_sha256")) {
    return Bad(where, "must have either token or token_sha256");
  }
  if (json.contains("token")) {
    const std::optional<std::string> text = TextOf(json, "token");
    if (!text || text->size() < kMinTokenBytes || text->size() > kMaxTokenBytes ||
        !std::all_of(text->begin(), text->end(), absl::ascii_isgraph)) {
      return Bad(absl::StrCat(where, ".token"),
                 absl::StrCat("must be ", kMinTokenBytes, " to ", kMaxTokenBytes,
                              " visible ASCII characters"));
    }
    return Sha256Of(*text);
  }
  const std::optional<std::string> hex = TextOf(json, "token_sha256");
  Sha256 digest;
  if (!hex || hex->size() != 2 * digest.size() ||
      !std::all_of(hex->begin(), hex->end(), absl::ascii_isxdigit)) {
    return Bad(absl::StrCat(where, ".token_sha256"), "must be 64 hexadecimal digits");
  }
  const std::string bytes = absl::HexStringToBytes(*hex);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

absl::StatusOr<AuthTable::Token> ParseToken(const Json& json, absl::string_view where) {
  RASQ_RETURN_IF_ERROR(
      OnlyFields(json, where, {"token", "token_sha256", "tenant", "scopes", "expires"}));
  AuthTable::Token token;
  RASQ_ASSIGN_OR_RETURN(token.digest, ParseDigest(json, where));
  token.tenant = TextOf(json, "tenant").value_or("");
  if (!IsTenantName(token.tenant)) {
    return Bad(absl::StrCat(where, ".tenant"), "must be 1 to 64 of [A-Za-z0-9._-]");
  }
  const Json scopes = json.value("scopes", Json());
  if (!scopes.is_array() || scopes.empty()) {
    return Bad(absl::StrCat(where, ".scopes"), "must be a list of inference, admin");
  }
  for (const Json& scope : scopes) {
    if (scope == "inference") {
      token.inference = true;
    } else if (scope == "admin") {
      token.admin = true;
    } else {
      return Bad(absl::StrCat(where, ".scopes"), "must be a list of inference, admin");
    }
  }
  if (json.contains("expires") &&
      !absl::ParseTime(absl::RFC3339_full, TextOf(json, "expires").value_or(""), &token.expires,
                       /*err=*/nullptr)) {
    return Bad(absl::StrCat(where, ".expires"), "must be a time such as 2027-01-01T00:00:00Z");
  }
  return token;
}

absl::StatusOr<TenantLimits> ParseLimits(const Json& json, absl::string_view where) {
  RASQ_RETURN_IF_ERROR(OnlyFields(
      json, where,
      {"weight", "max_sessions", "appended_tokens_per_second", "generated_tokens_per_second"}));
  FieldReader fields(json, where);
  TenantLimits limits;
  limits.weight = static_cast<int32_t>(fields.Int("weight", 1, 1000, limits.weight));
  limits.max_sessions = static_cast<int32_t>(fields.Int("max_sessions", 0, INT32_MAX, 0));
  limits.appended_tokens_per_second =
      fields.Number("appended_tokens_per_second", 0, kMaxTokensPerSecond, 0);
  limits.generated_tokens_per_second =
      fields.Number("generated_tokens_per_second", 0, kMaxTokensPerSecond, 0);
  RASQ_RETURN_IF_ERROR(fields.status());
  return limits;
}

}  // namespace

Sha256 Sha256Of(absl::string_view text) {
  Sha256 digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

absl::StatusOr<AuthTable> ParseAuth(absl::string_view text) {
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(text, "auth_file"));
  RASQ_RETURN_IF_ERROR(OnlyFields(json, "auth_file", {"tokens", "tenants"}));
  AuthTable table;
  const Json tokens = json.value("tokens", Json());
  if (!tokens.is_array() || tokens.empty() || tokens.size() > kMaxTokens) {
    return Bad("tokens", absl::StrCat("must be a list of 1 to ", kMaxTokens));
  }
  std::map<Sha256, size_t> seen;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string where = absl::StrCat("tokens[", i, "]");
    RASQ_ASSIGN_OR_RETURN(AuthTable::Token token, ParseToken(tokens[i], where));
    const auto [before, fresh] = seen.emplace(token.digest, i);
    if (!fresh)
      return Bad(where, absl::StrCat("is the same token as tokens[", before->second, "]"));
    table.tokens.push_back(std::move(token));
  }
  const Json tenants = json.value("tenants", Json::object());
  if (!tenants.is_object()) return Bad("tenants", "must be an object");
  for (const auto& [name, limits] : tenants.items()) {
    if (!IsTenantName(name)) return Bad("tenants", "names must be 1 to 64 of [A-Za-z0-9._-]");
    RASQ_ASSIGN_OR_RETURN(table.tenants[name], ParseLimits(limits, absl::StrCat("tenants.", name)));
  }
  return table;
}

absl::StatusOr<AuthTable> ReadAuthFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMaxFileBytes);
  if (!text.ok()) {
    return Bad("auth_file", absl::StrCat("must be a file of at most ", kMaxFileBytes,
                                         " bytes that the server may read"));
  }
  return ParseAuth(*text);
}

bool ReadableByOthers(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

void Authenticator::Set(std::shared_ptr<const AuthTable> table) {
  MutexLock lock(mu_);
  table_ = std::move(table);
}

absl::StatusOr<std::string> Authenticator::TenantOf(absl::string_view authorization, Scope scope,
                                                    absl::Time now) const {
  std::shared_ptr<const AuthTable> table;
  {
    MutexLock lock(mu_);
    table = table_;
  }
  if (table == nullptr) return std::string();
  constexpr size_t kSchemeBytes = 7;
  if (!absl::StartsWithIgnoreCase(authorization, "bearer ")) {
    return absl::UnauthenticatedError("authorization: must be a bearer token");
  }
  const absl::string_view text = authorization.substr(kSchemeBytes);
  if (text.size() > kMaxTokenBytes) {
    return absl::UnauthenticatedError("authorization: is no token that this server knows");
  }
  const Sha256 digest = Sha256Of(text);
  const AuthTable::Token* found = nullptr;
  for (const AuthTable::Token& token : table->tokens) {  // all of them, whichever it is
    if (CRYPTO_memcmp(token.digest.data(), digest.data(), digest.size()) == 0) found = &token;
  }
  if (found == nullptr) {
    return absl::UnauthenticatedError("authorization: is no token that this server knows");
  }
  if (now >= found->expires) {
    return absl::UnauthenticatedError("authorization: the token has expired");
  }
  if (scope == Scope::kInference && !found->inference) {
    return absl::PermissionDeniedError("authorization: the token lacks the scope inference");
  }
  if (scope == Scope::kAdmin && !found->admin) {
    return absl::PermissionDeniedError("authorization: the token lacks the scope admin");
  }
  return found->tenant;
}

}  // namespace rasq
