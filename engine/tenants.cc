#include "engine/tenants.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Of a token: levels are sums of fractions.
constexpr double kRounding = 1e-6;

double Burst(double rate) { return std::max(rate, Tenants::kLeastBurst); }

}  // namespace

double Tenants::RateOf(const TenantLimits& limits, TokenKind kind) {
  return kind == TokenKind::kAppended ? limits.appended_tokens_per_second
                                      : limits.generated_tokens_per_second;
}

void Tenants::Fill(absl::Time now, Bucket& bucket) {
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - bucket.time));
  bucket.level = std::min(Burst(bucket.rate), bucket.level + bucket.rate * seconds);
  bucket.time = now;
}

void Tenants::Set(std::map<std::string, TenantLimits> limits) {
  MutexLock lock(mu_);
  limits_ = std::move(limits);
  const absl::Time now = now_();
  for (auto next = buckets_.begin(); next != buckets_.end();) {
    auto& [of, bucket] = *next;
    Fill(now, bucket);  // up to now at the old rate
    const bool limited = RateOf(LimitsOf(of.first), of.second) > 0;
    next = limited ? std::next(next) : buckets_.erase(next);
  }
  for (const auto& [tenant, own] : limits_) {
    for (const TokenKind kind : {TokenKind::kAppended, TokenKind::kGenerated}) {
      const double rate = RateOf(own, kind);
      if (rate <= 0) continue;
      const auto [bucket, is_new] =
          buckets_.try_emplace({tenant, kind}, Bucket{rate, Burst(rate), now});
      bucket->second.rate = rate;
      Fill(now, bucket->second);
    }
  }
}

TenantLimits Tenants::LimitsOf(const std::string& tenant) const {
  const auto found = limits_.find(tenant);
  return found != limits_.end() ? found->second : TenantLimits();
}

int32_t Tenants::Weight(const std::string& tenant) const {
  MutexLock lock(mu_);
  return std::max(1, LimitsOf(tenant).weight);
}

absl::Status Tenants::AddSession(const std::string& tenant) {
  MutexLock lock(mu_);
  const int32_t most = LimitsOf(tenant).max_sessions;
  const auto found = sessions_.find(tenant);
  const int32_t open = found != sessions_.end() ? found->second : 0;
  if (most > 0 && open >= most) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tenant=", tenant, ": sessions=", open, " are open, max_sessions=", most));
  }
  sessions_[tenant] = open + 1;
  return absl::OkStatus();
}

void Tenants::AdoptSession(const std::string& tenant) {
  MutexLock lock(mu_);
  ++sessions_[tenant];
}

void Tenants::RemoveSession(const std::string& tenant) {
  MutexLock lock(mu_);
  const auto found = sessions_.find(tenant);
  RASQ_CHECK(found != sessions_.end());
  if (--found->second == 0) sessions_.erase(found);
}

Tenants::Bucket* Tenants::Filled(const std::string& tenant, TokenKind kind) {
  const auto found = buckets_.find({tenant, kind});
  if (found == buckets_.end()) return nullptr;
  Fill(now_(), found->second);
  return &found->second;
}

int64_t Tenants::Allowed(const std::string& tenant, TokenKind kind) {
  MutexLock lock(mu_);
  const Bucket* bucket = Filled(tenant, kind);
  if (bucket == nullptr) return std::numeric_limits<int64_t>::max();
  return std::max<int64_t>(0, static_cast<int64_t>(bucket->level + kRounding));
}

absl::Duration Tenants::Wait(const std::string& tenant, TokenKind kind) {
  MutexLock lock(mu_);
  const Bucket* bucket = Filled(tenant, kind);
  if (bucket == nullptr || bucket->level + kRounding >= 1) return absl::ZeroDuration();
  return absl::Seconds((1 - bucket->level) / bucket->rate);
}

void Tenants::Charge(const std::string& tenant, TokenKind kind, int64_t tokens) {
  MutexLock lock(mu_);
  if (Bucket* bucket = Filled(tenant, kind)) bucket->level -= static_cast<double>(tokens);
}

}  // namespace rasq
