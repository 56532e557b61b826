// Sampling on the GPU against the CPU's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/gpu_twin.h"

namespace rasq::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// A policy whose lists are still in host memory.
struct Request {
  SamplePolicy policy;
  std::vector<int32_t> seen_id, seen_count, banned_id;
};

struct Results {
  std::vector<int32_t> token, alternative;
  std::vector<float> logprob, alternative_logprob;
};

Results RunOn(Ops& ops, const std::vector<float>& logits, const std::vector<Request>& requests,
              int32_t max_alternatives) {
  Arrays arrays(ops);
  const auto rows = static_cast<int64_t>(requests.size());
  std::vector<SamplePolicy> policies;
  for (const Request& request : requests) {
    SamplePolicy policy = request.policy;
    policy.num_seen = static_cast<int32_t>(request.seen_id.size());
    policy.num_banned = static_cast<int32_t>(request.banned_id.size());
    policy.seen_id = arrays.Put(request.seen_id);
    policy.seen_count = arrays.Put(request.seen_count);
    policy.banned_id = arrays.Put(request.banned_id);
    policies.push_back(policy);
  }
  DeviceArray& token = arrays.Poisoned(rows * 4);
  DeviceArray& logprob = arrays.Poisoned(rows * 4);
  DeviceArray& alternative = arrays.Poisoned(rows * max_alternatives * 4);
  DeviceArray& alternative_logprob = arrays.Poisoned(rows * max_alternatives * 4);
  const absl::Status status =
      ops.Sample({.logits = arrays.Put(logits),
                  .policy = arrays.Put(policies),
                  .rows = rows,
                  .vocab = static_cast<int64_t>(logits.size()) / rows,
                  .max_alternatives = max_alternatives,
                  .token = token.data<int32_t>(),
                  .logprob = logprob.data<float>(),
                  .alternative = alternative.data<int32_t>(),
                  .alternative_logprob = alternative_logprob.data<float>()});
  EXPECT_TRUE(status.ok()) << status;
  return {.token = token.ToHostAs<int32_t>(),
          .alternative = alternative.ToHostAs<int32_t>(),
          .logprob = logprob.ToHostAs<float>(),
          .alternative_logprob = alternative_logprob.ToHostAs<float>()};
}

// Sums of up to 2^18 exponentials in float32, some of them rounded one after another on the CPU:
// 1e-4 is far above that and far below what an error of substance would make.
void ExpectNear(float got, float want) {
  if (std::isinf(want)) {
    EXPECT_EQ(got, want);
  } else {
    EXPECT_NEAR(got, want, 1e-4);
  }
}

// Runs both; returns the share of equal tokens. Rows with equal ones have equal log-probabilities,
// and alternatives are equal in all rows.
double ExpectTwins(const std::vector<float>& logits, const std::vector<Request>& requests,
                   int32_t max_alternatives = 0) {
  const Results got = RunOn(*Gpu(), logits, requests, max_alternatives);
  const Results want = RunOn(*Cpu(), logits, requests, max_alternatives);
  double same = 0;
  for (size_t row = 0; row < requests.size(); ++row) {
    if (got.token[row] != want.token[row]) continue;
    same += 1;
    ExpectNear(got.logprob[row], want.logprob[row]);
  }
  EXPECT_EQ(got.alternative, want.alternative);
  for (size_t i = 0; i < want.alternative_logprob.size(); ++i) {
    ExpectNear(got.alternative_logprob[i], want.alternative_logprob[i]);
  }
  return same / static_cast<double>(requests.size());
}

std::vector<float> NormalLogits(int64_t n, uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

std::vector<float> Repeated(const std::vector<float>& row, int64_t times) {
  std::vector<float> rows;
  for (int64_t i = 0; i < times; ++i) rows.insert(rows.end(), row.begin(), row.end());
  return rows;
}

class SampleCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RASQ_NEEDS_GPU();
    if (Cpu() == nullptr) GTEST_SKIP() << "no CPU backend in bfloat16";
  }
};

// 8190 and 7: rows that are not aligned to 16 bytes.
constexpr int32_t kVocabularies[] = {1, 2, 7, 4096, 8190, 8192, 128256};

TEST_F(SampleCudaTest, GreedyWithTiesAndAlternatives) {
  for (const int32_t vocab : kVocabularies) {
    SCOPED_TRACE(vocab);
    std::vector<float> logits = NormalLogits(4 * vocab, /*seed=*/vocab, 4);
    // Whole numbers: many ties, the zeros of either sign.
    for (int32_t i = vocab; i < 2 * vocab; ++i) logits[i] = std::round(logits[i]) * 0.5f;
    for (int32_t i = 2 * vocab; i < 3 * vocab; ++i) logits[i] = -2.5f;
    std::vector<Request> requests(4);
    requests[0].policy.num_alternatives = 20;
    requests[1].policy.num_alternatives = 7;
    requests[2].policy.num_alternatives = 20;
    EXPECT_EQ(ExpectTwins(logits, requests, 20), 1);
    EXPECT_EQ(ExpectTwins(logits, std::vector<Request>(4)), 1);
  }
}

TEST_F(SampleCudaTest, LogitsThatAreNotFinite) {
  for (const int32_t vocab : {7, 4096, 8190}) {
    std::vector<float> logits(4 * vocab, -kInf);
    for (int32_t i = 0; i < vocab; ++i) logits[i] = i % 2 == 0 ? std::nanf("") : kInf;
    logits[vocab + 5] = -1e30f;  // the only one of its row
    for (int32_t i = 2 * vocab; i < 3 * vocab; ++i) logits[i] = i % 3 == 0 ? kInf : 1;
    std::vector<Request> requests(4);
    for (Request& request : requests) request.policy.num_alternatives = 3;
    EXPECT_EQ(ExpectTwins(logits, requests, 4), 1);
    for (Request& request : requests) request.policy.temperature = 1;
    EXPECT_EQ(ExpectTwins(logits, requests, 4), 1);
    for (Request& request : requests) request.policy.top_k = 5;
    EXPECT_EQ(ExpectTwins(logits, requests, 4), 1);
    for (Request& request : requests) request.policy.top_p = 0.5f;
    EXPECT_EQ(ExpectTwins(logits, requests, 4), 1);
  }
}

TEST_F(SampleCudaTest, PenaltiesAndBans) {
  for (const int32_t vocab : {7, 8190, 128256}) {
    SCOPED_TRACE(vocab);
    std::vector<float> logits = NormalLogits(3 * vocab, 3, 4);
    logits[vocab + 2] = std::nanf("");
    std::vector<Request> requests(3);
    for (Request& request : requests) {
      request.policy.repetition_penalty = 1.3f;
      request.policy.presence_penalty = 0.4f;
      request.policy.frequency_penalty = 0.3f;
      request.policy.num_alternatives = 5;
      for (int32_t id = 0; id < vocab; id += 1 + id % 3) {
        request.seen_id.push_back(id);
        request.seen_count.push_back(id % 4);
      }
      // The best ones are banned; ids beyond the vocabulary do not count.
      request.banned_id = {2, 5, vocab + 3};
      requests[1].policy.temperature = 1;
    }
    requests[2].banned_id.clear();
    for (int32_t id = 0; id < vocab; ++id) requests[2].banned_id.push_back(id);
    EXPECT_EQ(ExpectTwins(logits, requests, 6), 1);
  }
}

// The same row over and over, one draw each. Sums round differently, so that a draw may fall to the
// other side of a boundary, rarely.
void ExpectTwinDraws(const std::vector<float>& row, const SamplePolicy& policy, int draws) {
  SCOPED_TRACE(::testing::Message()
               << "vocab " << row.size() << " temperature " << policy.temperature << " top_k "
               << policy.top_k << " top_p " << policy.top_p << " min_p " << policy.min_p);
  std::vector<Request> requests(draws, Request{.policy = policy});
  for (int i = 0; i < draws; ++i) {
    requests[i].policy.seed = 17;
    requests[i].policy.draw = i;
  }
  EXPECT_GE(ExpectTwins(Repeated(row, draws), requests), 0.99);
}

SamplePolicy Policy(float temperature, int32_t top_k, float top_p, float min_p) {
  SamplePolicy policy;
  policy.temperature = temperature;
  policy.top_k = top_k;
  policy.top_p = top_p;
  policy.min_p = min_p;
  return policy;
}

TEST_F(SampleCudaTest, Draws) {
  for (const int32_t vocab : {1, 7, 33, 5000, 8192}) {
    const std::vector<float> row = NormalLogits(vocab, /*seed=*/vocab, 3);
    std::vector<float> ties = row;
    for (float& logit : ties) logit = std::round(logit);
    for (const auto& logits : {row, ties}) {
      for (const float temperature : {1e-40f, 0.3f, 1.0f, 2.5f}) {
        ExpectTwinDraws(logits, Policy(temperature, 0, 1, 0), 200);
        ExpectTwinDraws(logits, Policy(temperature, 0, 1, 0.05f), 200);
        ExpectTwinDraws(logits, Policy(temperature, 40, 1, 0), 200);
        ExpectTwinDraws(logits, Policy(temperature, 0, 0.9f, 0), 200);
        ExpectTwinDraws(logits, Policy(temperature, 40, 0.8f, 0.02f), 200);
      }
      ExpectTwinDraws(logits, Policy(1, 1, 1, 0), 20);
      ExpectTwinDraws(logits, Policy(1, 0, 1e-6f, 0), 20);
      ExpectTwinDraws(logits, Policy(1, 0, 0.9999f, 1), 20);
    }
  }
}

TEST_F(SampleCudaTest, DrawsFromLargeVocabularies) {
  // The last shapes keep more tokens than the list in shared memory holds: nearly flat rows, a
  // top-k above the number of threads, and ties across the whole row.
  const std::vector<float> row = NormalLogits(128256, 1, 3);
  const std::vector<float> flat = NormalLogits(128256, 2, 0.1f);
  const std::vector<float> equal(128256, 1.0f);
  ExpectTwinDraws(row, Policy(1, 0, 1, 0), 100);
  ExpectTwinDraws(row, Policy(0.7f, 0, 0.95f, 0), 100);
  ExpectTwinDraws(row, Policy(1, 50, 0.9f, 0), 100);
  ExpectTwinDraws(row, Policy(1, 2000, 0.9f, 0), 100);
  ExpectTwinDraws(row, Policy(1, 20000, 1, 0.001f), 100);
  ExpectTwinDraws(flat, Policy(1, 0, 0.97f, 0), 100);
  ExpectTwinDraws(equal, Policy(1, 0, 0.5f, 0), 100);
  ExpectTwinDraws(equal, Policy(1, 30, 1, 0), 100);
}

TEST_F(SampleCudaTest, RowsDoNotDependOnTheirPlace) {
  const int32_t vocab = 8191;
  const std::vector<float> row = NormalLogits(vocab, 1, 3);
  std::vector<Request> requests(5, Request{.policy = Policy(0.8f, 0, 0.9f, 0)});
  for (Request& request : requests) request.policy.num_alternatives = 4;
  const Results r = RunOn(*Gpu(), Repeated(row, 5), requests, 4);
  for (int i = 1; i < 5; ++i) {
    EXPECT_EQ(r.token[i], r.token[0]);
    EXPECT_EQ(r.logprob[i], r.logprob[0]);
    EXPECT_EQ(r.alternative_logprob[4 * i + 3], r.alternative_logprob[3]);
  }
}

TEST_F(SampleCudaTest, TooManyAlternativesAreRefused) {
  SampleArgs args{};
  args.vocab = 1;
  args.max_alternatives = 1025;
  EXPECT_EQ(Gpu()->Sample(args).message(), "Sample: max_alternatives=1025");
}

}  // namespace
}  // namespace rasq::testing
