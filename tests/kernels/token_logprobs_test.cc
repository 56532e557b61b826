#include "kernels/token_logprobs.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Logprobs(std::vector<float> logits, const std::vector<int32_t>& token) {
  std::vector<float> logprob(token.size(), 9);
  ThreadPool pool(2);
  const absl::Status status =
      TokenLogprobsCpu({.logits = logits.data(),
                        .token = token.data(),
                        .rows = static_cast<int64_t>(token.size()),
                        .vocab = static_cast<int64_t>(logits.size() / token.size()),
                        .logprob = logprob.data()},
                       pool);
  EXPECT_TRUE(status.ok()) << status;
  return logprob;
}

TEST(TokenLogprobsTest, ByHand) {
  // Weights 1, 3, 4 of 8; then the same moved up by 100, which changes no share.
  const float ln3 = std::log(3.0f), ln4 = std::log(4.0f);
  const std::vector<float> got =
      Logprobs({0, ln3, ln4, 100, 100 + ln3, 100 + ln4, 0, ln3, ln4}, {1, 2, 0});
  EXPECT_NEAR(got[0], std::log(3.0 / 8), 1e-6);
  EXPECT_NEAR(got[1], std::log(4.0 / 8), 1e-5);  // 100 + ln 4 is rounded by up to 4e-6
  EXPECT_NEAR(got[2], std::log(1.0 / 8), 1e-6);
}

TEST(TokenLogprobsTest, AVocabularyOfOneIsCertain) { EXPECT_EQ(Logprobs({-7}, {0})[0], 0); }

TEST(TokenLogprobsTest, WhatIsNotFiniteCountsAsNever) {
  const std::vector<float> got = Logprobs({0, kNan, 0, kInf,   // shares 1/2, never, 1/2, never
                                           0, kNan, 0, -kInf,  //
                                           kNan, kInf, -kInf, kNan},  // nothing that could come
                                          {2, 1, 0});
  EXPECT_NEAR(got[0], std::log(0.5), 1e-6);
  EXPECT_EQ(got[1], -kInf);
  EXPECT_EQ(got[2], -kInf);
}

TEST(TokenLogprobsTest, MatchesDoublePrecision) {
  constexpr int64_t kRows = 5, kVocab = 1003;
  const std::vector<float> logits = RandomFloats(kRows * kVocab, /*seed=*/1, /*scale=*/10);
  const std::vector<int32_t> token = {0, 1002, 17, 500, 501};
  const std::vector<float> got = Logprobs(logits, token);
  for (int64_t t = 0; t < kRows; ++t) {
    double sum = 0;
    for (int64_t i = 0; i < kVocab; ++i) sum += std::exp(double{logits[t * kVocab + i]});
    // Sums of a thousand floats, and logarithms near 10 to 20: a few 1e-6 each.
    EXPECT_NEAR(got[t], logits[t * kVocab + token[t]] - std::log(sum), 2e-5) << t;
  }
}

TEST(TokenLogprobsTest, RefusesWhatBreaksABound) {
  float logits[2] = {}, logprob[1];
  const int32_t token[1] = {2};
  TokenLogprobsArgs args{
      .logits = logits, .token = token, .rows = 1, .vocab = 2, .logprob = logprob};
  ThreadPool pool(1);
  EXPECT_THAT(std::string(TokenLogprobsCpu(args, pool).message()), HasSubstr("token[0]=2"));
  args.vocab = 0;
  EXPECT_THAT(std::string(TokenLogprobsCpu(args, pool).message()), HasSubstr("vocab=0"));
  args.vocab = 2;
  args.rows = -1;
  EXPECT_THAT(std::string(TokenLogprobsCpu(args, pool).message()), HasSubstr("rows=-1"));
  args.rows = 1;
  args.logprob = nullptr;
  EXPECT_THAT(std::string(TokenLogprobsCpu(args, pool).message()), HasSubstr("logprob=null"));
  args.rows = 0;
  EXPECT_TRUE(TokenLogprobsCpu(args, pool).ok());
}

}  // namespace
}  // namespace rasq
