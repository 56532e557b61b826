// Who may call: bearer tokens, each of one tenant and with scopes, from a JSON file:
//
//   {"tokens": [{"token_sha256": "9f86...", "tenant": "news", "scopes": ["inference"]},
//               {"token": "in the clear, for trials", "tenant": "ops", "scopes": ["admin"],
//                "expires": "2027-01-01T00:00:00Z"}],
//    "tenants": {"news": {"weight": 2, "max_sessions": 100, "appended_tokens_per_second": 5000,
//                         "generated_tokens_per_second": 200}}}
//
// A token gives either its text (16 to 1024 visible ASCII characters) or its SHA-256 as 64 hex
// digits; only digests are kept. A tenant that "tenants" does not name has no limits. Names that
// are not above are refused, so that a typo does not lift a limit. No error holds any part of a
// token.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/tenants.h"
#include "kernels/base/mutex.h"

namespace rasq {

// kAny: every known token will do.
enum class Scope : int8_t { kAny, kInference, kAdmin };

using Sha256 = std::array<uint8_t, 32>;

struct AuthTable {
  struct Token {
    Sha256 digest = {};
    std::string tenant;
    bool inference = false;
    bool admin = false;
    absl::Time expires = absl::InfiniteFuture();
  };
  std::vector<Token> tokens;
  std::map<std::string, TenantLimits> tenants;
};

// kInvalidArgument names the field, as in `tokens[3].scopes: ...`.
absl::StatusOr<AuthTable> ParseAuth(absl::string_view json);
// The same of a file. Errors do not say its path: clients hear them from AdminService.Reload.
absl::StatusOr<AuthTable> ReadAuthFile(const std::string& path);
// Whether others than the file's owner and group may read it.
bool ReadableByOthers(const std::string& path);

Sha256 Sha256Of(absl::string_view text);

// Any thread may call any method.
class Authenticator {
 public:
  // From now on. Null, as at the start: there are no tokens, and whoever calls is tenant "" and may
  // do everything.
  void Set(std::shared_ptr<const AuthTable> table);

  // The tenant that `authorization` (the call's metadata; empty: it has none) speaks for.
  // kUnauthenticated if it is no known token, kPermissionDenied if that lacks the scope. Takes the
  // same time for every token of one length that is not known.
  absl::StatusOr<std::string> TenantOf(absl::string_view authorization, Scope scope,
                                       absl::Time now) const;

 private:
  mutable Mutex mu_;
  std::shared_ptr<const AuthTable> table_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
