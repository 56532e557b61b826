#include "engine/tenants.h"

#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;

constexpr TokenKind kAppended = TokenKind::kAppended, kGenerated = TokenKind::kGenerated;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

class TenantsTest : public ::testing::Test {
 protected:
  absl::Time now_ = absl::UnixEpoch();
  Tenants tenants_{[this] { return now_; }};
};

TEST_F(TenantsTest, TheUnknownHaveNoLimits) {
  EXPECT_EQ(tenants_.Weight("x"), 1);
  tenants_.Charge("x", kAppended, 1 << 30);
  EXPECT_EQ(tenants_.Allowed("x", kAppended), kNoLimit);
  EXPECT_EQ(tenants_.Wait("x", kGenerated), absl::ZeroDuration());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(tenants_.AddSession("x").ok());
}

TEST_F(TenantsTest, SessionsAreCounted) {
  tenants_.Set({{"a", {.weight = 3, .max_sessions = 2}}});
  EXPECT_EQ(tenants_.Weight("a"), 3);
  EXPECT_TRUE(tenants_.AddSession("a").ok());
  EXPECT_TRUE(tenants_.AddSession("a").ok());
  const absl::Status refused = tenants_.AddSession("a");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("tenant=a: sessions=2 are open, max_sessions=2"));
  EXPECT_TRUE(tenants_.AddSession("b").ok());
  tenants_.RemoveSession("a");
  EXPECT_TRUE(tenants_.AddSession("a").ok());
}

TEST_F(TenantsTest, ABucketFillsAtItsRateAndHoldsASecond) {
  tenants_.Set({{"a", {.appended_tokens_per_second = 1000}}});
  EXPECT_EQ(tenants_.Allowed("a", kAppended), 1000);
  EXPECT_EQ(tenants_.Allowed("a", kGenerated), kNoLimit);
  tenants_.Charge("a", kAppended, 1000);
  EXPECT_EQ(tenants_.Allowed("a", kAppended), 0);
  EXPECT_EQ(tenants_.Wait("a", kAppended), absl::Milliseconds(1));
  now_ += absl::Milliseconds(500);
  EXPECT_EQ(tenants_.Allowed("a", kAppended), 500);
  now_ += absl::Hours(1);
  EXPECT_EQ(tenants_.Allowed("a", kAppended), 1000);
}

TEST_F(TenantsTest, WhoRanAheadWaitsForIt) {
  tenants_.Set({{"a", {.generated_tokens_per_second = 2}}});
  EXPECT_EQ(tenants_.Allowed("a", kGenerated), 64);  // a segment, though it takes half a minute
  tenants_.Charge("a", kGenerated, 64 + 9);
  EXPECT_EQ(tenants_.Allowed("a", kGenerated), 0);
  EXPECT_EQ(tenants_.Wait("a", kGenerated), absl::Seconds(5));
  now_ += absl::Seconds(4.9);
  EXPECT_EQ(tenants_.Allowed("a", kGenerated), 0);
  now_ += tenants_.Wait("a", kGenerated);
  EXPECT_EQ(tenants_.Allowed("a", kGenerated), 1);
}

// Over a long time a tenant that always takes all it may gets its rate, whatever the rate's and the
// clock's fractions.
TEST_F(TenantsTest, TheRateHoldsOverTime) {
  tenants_.Set({{"a", {.appended_tokens_per_second = 777.7}}});
  tenants_.Charge("a", kAppended, 777);
  int64_t moved = 0;
  const absl::Time start = now_;
  while (now_ < start + absl::Seconds(100)) {
    if (tenants_.Allowed("a", kAppended) > 0) {
      tenants_.Charge("a", kAppended, 64);
      moved += 64;
    }
    now_ += tenants_.Wait("a", kAppended);
  }
  EXPECT_NEAR(static_cast<double>(moved), 77'770, 128);
}

TEST_F(TenantsTest, NewLimitsKeepWhatWasUsed) {
  tenants_.Set({{"a", {.max_sessions = 1, .appended_tokens_per_second = 100}}});
  ASSERT_TRUE(tenants_.AddSession("a").ok());
  tenants_.Charge("a", kAppended, 300);  // 200 ahead
  now_ += absl::Seconds(1);              // 100 of them are paid
  tenants_.Set({{"a", {.max_sessions = 1, .appended_tokens_per_second = 1000}}, {"b", {}}});
  EXPECT_FALSE(tenants_.AddSession("a").ok());
  EXPECT_EQ(tenants_.Wait("a", kAppended), absl::Milliseconds(101));
  // A smaller bucket holds less of what was there.
  now_ += absl::Seconds(10);
  tenants_.Set({{"a", {.max_sessions = 2, .appended_tokens_per_second = 100}}});
  EXPECT_EQ(tenants_.Allowed("a", kAppended), 100);
  EXPECT_TRUE(tenants_.AddSession("a").ok());
  tenants_.Set({});
  EXPECT_EQ(tenants_.Allowed("a", kAppended), kNoLimit);
  tenants_.RemoveSession("a");
  tenants_.RemoveSession("a");
}

}  // namespace
}  // namespace rasq
