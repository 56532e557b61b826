#include "kernels/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/tensors.h"

namespace rasq {
namespace {

struct Drawn {
  absl::Status status;
  std::vector<int32_t> token, alternative;
  std::vector<float> logprob, alternative_logprob;
};

Drawn Sample(std::vector<float> logits, const std::vector<SamplePolicy>& policy,
             int32_t max_alternatives = 0) {
  const auto rows = static_cast<int64_t>(policy.size());
  Drawn d;
  d.token.resize(rows, -9);
  d.logprob.resize(rows);
  d.alternative.resize(rows * max_alternatives + 1);
  d.alternative_logprob.resize(rows * max_alternatives + 1);
  ThreadPool pool(2);
  d.status = SampleCpu({.logits = logits.data(),
                        .policy = policy.data(),
                        .rows = rows,
                        .vocab = static_cast<int64_t>(logits.size()) / rows,
                        .max_alternatives = max_alternatives,
                        .token = d.token.data(),
                        .logprob = d.logprob.data(),
                        .alternative = d.alternative.data(),
                        .alternative_logprob = d.alternative_logprob.data()},
                       pool);
  return d;
}

// How often each token is drawn.
std::vector<double> Shares(const std::vector<float>& logits, SamplePolicy policy, int draws) {
  std::vector<SamplePolicy> policies(draws, policy);
  std::vector<float> rows;
  for (int i = 0; i < draws; ++i) {
    policies[i].draw = i;
    rows.insert(rows.end(), logits.begin(), logits.end());
  }
  const Drawn d = Sample(rows, policies);
  EXPECT_TRUE(d.status.ok()) << d.status;
  std::vector<double> shares(logits.size());
  for (const int32_t token : d.token) shares[token] += 1.0 / draws;
  return shares;
}

TEST(SampleTest, GreedyByHand) {
  // Weights 1, 3, 3, 1 of 8: the lower of the equals; log(3/8).
  const float ln3 = std::log(3.0f);
  SamplePolicy policy;
  policy.num_alternatives = 3;
  const Drawn d = Sample({0, ln3, ln3, 0}, {policy}, /*max_alternatives=*/4);
  ASSERT_TRUE(d.status.ok());
  EXPECT_EQ(d.token[0], 1);
  EXPECT_NEAR(d.logprob[0], std::log(3.0 / 8), 1e-6);
  EXPECT_EQ(d.alternative[0], 1);
  EXPECT_EQ(d.alternative[1], 2);
  EXPECT_EQ(d.alternative[2], 0);
  EXPECT_EQ(d.alternative[3], -1);
  EXPECT_NEAR(d.alternative_logprob[2], std::log(1.0 / 8), 1e-6);
}

TEST(SampleTest, PenaltiesAndBansByHand) {
  // Token 0: 4 / 2 = 2. Token 1: -1 * 2 - 0.5 - 3 * 0.25 = -3.25. Token 2 is seen in the prompt
  // alone: 3 / 2 = 1.5. Token 3: banned. Token 4: 1, untouched.
  const std::vector<int32_t> seen = {0, 1, 2}, times = {0, 3, 0}, banned = {3};
  SamplePolicy policy;
  policy.repetition_penalty = 2;
  policy.presence_penalty = 0.5f;
  policy.frequency_penalty = 0.25f;
  policy.seen_id = seen.data();
  policy.seen_count = times.data();
  policy.num_seen = 3;
  policy.banned_id = banned.data();
  policy.num_banned = 1;
  policy.num_alternatives = 5;
  const Drawn d = Sample({4, -1, 3, 9, 1}, {policy}, 5);
  ASSERT_TRUE(d.status.ok());
  const double sum = std::exp(2) + std::exp(-3.25) + std::exp(1.5) + std::exp(1);
  const int32_t order[] = {0, 2, 4, 1, -1};
  const double logits[] = {2, 1.5, 1, -3.25};
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(d.alternative[i], order[i]);
    if (i < 4) {
      EXPECT_NEAR(d.alternative_logprob[i], logits[i] - std::log(sum), 1e-6);
    }
  }
  EXPECT_EQ(d.alternative_logprob[4], -std::numeric_limits<float>::infinity());
}

// Shares of 20000 draws have a deviation below 0.0036: 0.018 is five of them.
constexpr int kDraws = 20000;
constexpr double kFive = 0.018;
// Probabilities 0.5, 0.25, 0.15, 0.1, in no order.
const std::vector<float> kLogits = {std::log(0.15f), std::log(0.5f), std::log(0.1f),
                                    std::log(0.25f)};

void ExpectShares(const SamplePolicy& policy, const std::vector<double>& want) {
  const std::vector<double> got = Shares(kLogits, policy, kDraws);
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] == 0) {
      EXPECT_EQ(got[i], 0) << i;
    } else {
      EXPECT_NEAR(got[i], want[i], kFive) << i;
    }
  }
}

TEST(SampleTest, DrawsInProportion) {
  SamplePolicy policy;
  policy.temperature = 1;
  ExpectShares(policy, {0.15, 0.5, 0.1, 0.25});
  policy.temperature = 0.5;  // squares: 0.0225, 0.25, 0.01, 0.0625 of 0.345
  ExpectShares(policy, {0.0225 / 0.345, 0.25 / 0.345, 0.01 / 0.345, 0.0625 / 0.345});
  policy.temperature = 1e-40f;
  ExpectShares(policy, {0, 1, 0, 0});
}

TEST(SampleTest, Truncations) {
  SamplePolicy policy;
  policy.temperature = 1;
  policy.top_k = 2;
  ExpectShares(policy, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  policy.top_k = 0;
  policy.top_p = 0.8f;  // 0.5, 0.25 and the one that crosses
  ExpectShares(policy, {0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9});
  policy.top_k = 3;  // of the three, 0.5 and 0.25 are 0.83
  ExpectShares(policy, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  policy.top_k = 0;
  policy.top_p = 1;
  policy.min_p = 0.25f;  // 0.125 of mass at least
  ExpectShares(policy, {0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9});
  policy.top_p = 0.01f;
  ExpectShares(policy, {0, 1, 0, 0});
}

TEST(SampleTest, TopPOverALargeVocabularyKeepsTheSmallestSet) {
  std::vector<float> logits = RandomFloats(5000, /*seed=*/1, /*scale=*/3);
  SamplePolicy policy;
  policy.temperature = 1;
  policy.top_p = 0.7f;
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  double sum = 0, part = 0;
  for (const float logit : sorted) sum += std::exp(logit);
  float least = 0;
  for (const float logit : sorted) {
    least = logit;
    part += std::exp(logit);
    if (part >= 0.7 * sum) break;
  }
  const std::vector<double> shares = Shares(logits, policy, 500);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < least) {
      EXPECT_EQ(shares[i], 0) << i;
    }
  }
}

TEST(SampleTest, SameSeedAndDrawSameToken) {
  std::vector<float> logits = RandomFloats(300, 1);
  SamplePolicy policy;
  policy.temperature = 1;
  policy.seed = 5;
  policy.draw = 9;
  const int32_t token = Sample(logits, {policy}).token[0];
  EXPECT_EQ(Sample(logits, {policy}).token[0], token);
  int same = 0;
  for (uint64_t draw = 10; draw < 30; ++draw) {
    policy.draw = draw;
    same += Sample(logits, {policy}).token[0] == token ? 1 : 0;
  }
  EXPECT_LT(same, 5);
}

TEST(SampleTest, LogitsThatAreNotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Sample({nan, inf, 1, -inf}, {SamplePolicy()}).token[0], 2);
  const Drawn d = Sample({0, 0, nan, inf}, {SamplePolicy(), SamplePolicy()});
  EXPECT_EQ(d.token, (std::vector<int32_t>{0, -1}));
}

TEST(SampleTest, ArgumentErrors) {
  const auto message = [](auto change) {
    SamplePolicy policy;
    change(policy);
    const Drawn d = Sample({0, 1}, {policy});
    EXPECT_EQ(d.status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(d.status.message());
  };
  using P = SamplePolicy;
  EXPECT_EQ(message([](P& p) { p.temperature = -1; }), "Sample: policy[0].temperature=-1");
  EXPECT_EQ(message([](P& p) { p.top_k = -1; }), "Sample: policy[0].top_k=-1");
  EXPECT_EQ(message([](P& p) { p.top_p = 0; }), "Sample: policy[0].top_p=0");
  EXPECT_EQ(message([](P& p) { p.min_p = 2; }), "Sample: policy[0].min_p=2");
  EXPECT_EQ(message([](P& p) { p.repetition_penalty = 0; }),
            "Sample: policy[0].repetition_penalty=0");
  EXPECT_EQ(message([](P& p) { p.num_alternatives = 1; }), "Sample: policy[0].num_alternatives=1");
  EXPECT_EQ(message([](P& p) { p.num_seen = 1; }), "Sample: policy[0].seen_id=null");
}

}  // namespace
}  // namespace rasq
