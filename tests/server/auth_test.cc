#include "server/auth.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kToken[] = "wire-token-0123456789";
// SHA-256 of "ops-token-0123456789", by sha256sum.
constexpr char kOpsDigest[] = "d51a4891ede9d7c8a89088e5f255d5852a7154ab4b92ad562614e8d0824bfc2b";
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::string TwoTokens() {
  return absl::StrCat(R"({"tokens": [
      {"token": ")",
                      kToken, R"(", "tenant": "news", "scopes": ["inference"]},
      {"token_sha256": ")",
                      kOpsDigest, R"(", "tenant": "ops", "scopes": ["admin"],
       "expires": "2030-01-01T00:00:00Z"}],
    "tenants": {"news": {"weight": 3, "max_sessions": 5, "appended_tokens_per_second": 1.5}}})");
}

std::string ErrorOf(const std::string& json) {
  const absl::StatusOr<AuthTable> table = ParseAuth(json);
  return table.ok() ? "no error" : std::string(table.status().message());
}

TEST(AuthFileTest, GivesTokensAndLimits) {
  const absl::StatusOr<AuthTable> table = ParseAuth(TwoTokens());
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_EQ(table->tokens.size(), 2u);
  EXPECT_EQ(table->tokens[0].digest, Sha256Of(kToken));
  EXPECT_EQ(table->tokens[0].tenant, "news");
  EXPECT_TRUE(table->tokens[0].inference);
  EXPECT_FALSE(table->tokens[0].admin);
  EXPECT_EQ(table->tokens[1].digest, Sha256Of("ops-token-0123456789"));
  EXPECT_TRUE(table->tokens[1].admin);
  const TenantLimits& limits = table->tenants.at("news");
  EXPECT_EQ(limits.weight, 3);
  EXPECT_EQ(limits.max_sessions, 5);
  EXPECT_EQ(limits.appended_tokens_per_second, 1.5);
  EXPECT_EQ(limits.generated_tokens_per_second, 0);
}

TEST(AuthFileTest, ErrorsNameTheFieldAndShowNoToken) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "auth_file: not JSON"},
      {R"({})", "tokens: must be a list"},
      {R"({"tokens": []})", "tokens: must be a list"},
      {R"({"tokens": [{"tenant": "a", "scopes": ["admin"]}]})", "tokens[0]: must have either"},
      {R"({"tokens": [{"token": "SECRET", "tenant": "a", "scopes": ["admin"]}]})",
       "tokens[0].token: must be 16 to 1024"},
      {R"({"tokens": [{"token": "SECRET SECRET SECRET", "tenant": "a", "scopes": ["admin"]}]})",
       "tokens[0].token: must be"},
      {R"({"tokens": [{"token_sha256": "SECRET", "tenant": "a", "scopes": ["admin"]}]})",
       "tokens[0].token_sha256: must be 64"},
      {R"({"tokens": [{"token": "SECRETSECRETSECRET", "tenant": "a b", "scopes": ["admin"]}]})",
       "tokens[0].tenant: must be"},
      {R"({"tokens": [{"token": "SECRETSECRETSECRET", "tenant": "a", "scopes": ["all"]}]})",
       "tokens[0].scopes: must be"},
      {R"({"tokens": [{"token": "SECRETSECRETSECRET", "tenant": "a", "scopes": []}]})",
       "tokens[0].scopes: must be"},
      {R"({"tokens": [{"SECRETSECRETSECRET": 1, "tenant": "a", "scopes": ["admin"]}]})",
       "tokens[0]: has a field that is not known"},
      {R"({"tokens": [{"token": "SECRETSECRETSECRET", "tenant": "a", "scopes": ["admin"],
           "expires": "tomorrow"}]})",
       "tokens[0].expires: must be"},
      {R"({"tokens": [{"token": "SECRETSECRETSECRET", "tenant": "a", "scopes": ["admin"]},
           {"token": "SECRETSECRETSECRET", "tenant": "b", "scopes": ["admin"]}]})",
       "tokens[1]: is the same token as tokens[0]"},
      {absl::StrReplaceAll(TwoTokens(), {{"max_sessions", "max_session"}}), "tenants.news: has a"},
      {absl::StrReplaceAll(TwoTokens(), {{": 3,", ": 0,"}}), "weight=0"},
  };
  for (const auto& [json, error] : cases) {
    EXPECT_THAT(ErrorOf(json), HasSubstr(error)) << json;
    EXPECT_THAT(ErrorOf(json), Not(HasSubstr("SECRET"))) << json;
  }
}

TEST(AuthFileTest, FilesAreReadWithoutTheirPathInErrors) {
  const std::string path = TemporaryPath("auth.json");
  EXPECT_THAT(std::string(ReadAuthFile("/no/such/auth").status().message()),
              Not(HasSubstr("/no/such")));
  WriteFile(path, TwoTokens());
  EXPECT_TRUE(ReadAuthFile(path).ok());
  chmod(path.c_str(), 0644);
  EXPECT_TRUE(ReadableByOthers(path));
  chmod(path.c_str(), 0640);
  EXPECT_FALSE(ReadableByOthers(path));
}

class AuthenticatorTest : public ::testing::Test {
 protected:
  AuthenticatorTest() { auth_.Set(std::make_shared<const AuthTable>(*ParseAuth(TwoTokens()))); }

  absl::StatusCode Code(const std::string& authorization, Scope scope, absl::Time now = kNow) {
    return auth_.TenantOf(authorization, scope, now).status().code();
  }

  Authenticator auth_;
};

TEST_F(AuthenticatorTest, TokensSpeakForTheirTenants) {
  EXPECT_EQ(*auth_.TenantOf(absl::StrCat("Bearer ", kToken), Scope::kInference, kNow), "news");
  EXPECT_EQ(*auth_.TenantOf(absl::StrCat("bearer ", kToken), Scope::kAny, kNow), "news");
  EXPECT_EQ(*auth_.TenantOf("Bearer ops-token-0123456789", Scope::kAdmin, kNow), "ops");
}

TEST_F(AuthenticatorTest, RefusesStrangersAndMissingScopes) {
  for (const std::string& authorization :
       {std::string(), std::string("Bearer "), absl::StrCat("Basic ", kToken), std::string(kToken),
        absl::StrCat("Bearer ", kToken, "x"), absl::StrCat("Bearer  ", kToken),
        absl::StrCat("Bearer ", kOpsDigest), "Bearer " + std::string(5000, 'x')}) {
    EXPECT_EQ(Code(authorization, Scope::kAny), absl::StatusCode::kUnauthenticated)
        << authorization;
  }
  EXPECT_EQ(Code(absl::StrCat("Bearer ", kToken), Scope::kAdmin),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Code("Bearer ops-token-0123456789", Scope::kInference),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(AuthenticatorTest, TokensExpire) {
  const absl::Time end = absl::FromCivil(absl::CivilDay(2030, 1, 1), absl::UTCTimeZone());
  const std::string ops = "Bearer ops-token-0123456789";
  EXPECT_EQ(Code(ops, Scope::kAdmin, end - absl::Seconds(1)), absl::StatusCode::kOk);
  EXPECT_EQ(Code(ops, Scope::kAdmin, end), absl::StatusCode::kUnauthenticated);
}

TEST(OpenServerTest, WithoutAFileWhoeverCallsMayDoAll) {
  const Authenticator open;
  EXPECT_EQ(*open.TenantOf("", Scope::kAdmin, kNow), "");
  EXPECT_EQ(*open.TenantOf("Bearer of what it likes", Scope::kInference, kNow), "");
}

}  // namespace
}  // namespace rasq
