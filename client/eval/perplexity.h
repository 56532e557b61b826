// Perplexity of held-out text that is streamed: exp of the mean negative log-likelihood of the
// tokens at a stream's end, each after all that came before it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/eval/results.h"
#include "client/eval/spread.h"

namespace rasq::client {

inline constexpr char kPerplexityTask[] = "perplexity";

// How many tokens at the end of a stream of so many are scored: the last quarter, rounded down, but
// at least 1,024, or all that there are.
int64_t ScoredShare(int64_t length_tokens);

struct PerplexityCell {
  std::string method;  // StreamKey::Method
  int64_t length = 0;  // tokens asked for
  int64_t streams = 0;
  int64_t tokens = 0;              // scored, of all streams
  Mean loss;                       // nats a token; a mean over streams, each for itself
  double perplexity = 0;           // exp(loss)
  double lowest = 0, highest = 0;  // of single streams
};
// Of the streams that were scored: methods in the order in which they come, lengths ascending.
std::vector<PerplexityCell> MeasurePerplexity(const std::vector<StreamResult>& streams);

}  // namespace rasq::client
