// Who shares a server, what each may use of it, and what each has used: weights for the scheduler,
// open sessions, and rates of tokens as buckets that fill over time. One for all engines of a
// group.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/base/mutex.h"

namespace rasq {

struct TenantLimits {
  int32_t weight = 1;                     // share of the server's tokens; less than 1 counts as 1
  int32_t max_sessions = 0;               // open at once; 0: no limit
  double appended_tokens_per_second = 0;  // put into states: appends, prompts, commits; 0: no limit
  double generated_tokens_per_second = 0;  // drawn; 0: no limit
};

enum class TokenKind : int8_t { kAppended, kGenerated };

// Any thread may call. Tenants without limits of their own have those of TenantLimits{}.
class Tenants {
 public:
  explicit Tenants(std::function<absl::Time()> now = absl::Now) : now_(std::move(now)) {}

  // Replaces all limits. What was used stays used: sessions stay open, buckets keep their level.
  void Set(std::map<std::string, TenantLimits> limits);
  int32_t Weight(const std::string& tenant) const;

  // kResourceExhausted if the tenant has as many sessions as it may have.
  absl::Status AddSession(const std::string& tenant);
  // The same past the limit: of a session that was there before.
  void AdoptSession(const std::string& tenant);
  void RemoveSession(const std::string& tenant);

  // Tokens that the tenant may move now: 0 if it is over its rate, the most there is without one. A
  // bucket holds what comes in a second, or kLeastBurst if that is more, and full ones stand at the
  // start. Who may move at least one token may move more than allowed, and waits longer for it.
  int64_t Allowed(const std::string& tenant, TokenKind kind);
  // Until Allowed is not 0 (if nothing is charged meanwhile).
  absl::Duration Wait(const std::string& tenant, TokenKind kind);
  void Charge(const std::string& tenant, TokenKind kind, int64_t tokens);

  static constexpr double kLeastBurst = 64;  // a whole segment of most models

 private:
  struct Bucket {
    double rate = 0;
    double level = 0;  // negative: moved ahead of its time
    absl::Time time;   // of `level`
  };
  static double RateOf(const TenantLimits& limits, TokenKind kind);
  static void Fill(absl::Time now, Bucket& bucket);
  TenantLimits LimitsOf(const std::string& tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Null if the tenant has no such limit.
  Bucket* Filled(const std::string& tenant, TokenKind kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::function<absl::Time()> now_;
  mutable Mutex mu_;
  std::map<std::string, TenantLimits> limits_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int32_t> sessions_ ABSL_GUARDED_BY(mu_);  // of tenants that have some
  std::map<std::pair<std::string, TokenKind>, Bucket> buckets_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
