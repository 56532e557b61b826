// What tests expect of answers and errors.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"

namespace rasq::testing {

inline void ExpectError(const absl::Status& status, absl::StatusCode code,
                        const std::string& message) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(message));
}

// Of the tokens and of those that might have been.
inline std::vector<double> Logprobs(const Answer& answer) {
  std::vector<double> values;
  for (const GeneratedToken& token : answer.tokens) {
    values.push_back(token.logprob);
    for (const TokenLogprob& other : token.alternatives) values.push_back(other.logprob);
  }
  return values;
}

// Greedy text and every log-probability, to the last bit: the same tokens went the same way.
inline void ExpectSameAnswer(const Answer& got, const Answer& want) {
  EXPECT_EQ(got.ids(), want.ids());
  EXPECT_EQ(Logprobs(got), Logprobs(want));
}

}  // namespace rasq::testing
