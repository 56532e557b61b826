// The results of one strategy in one file: a line in a picture, and some rows of a table.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "client/eval/report.h"
#include "client/eval/results.h"

namespace rasq::client {

// What the streams of one length cost.
struct Cost {
  int64_t streams = 0, refused = 0;
  int64_t state_bytes = 0;                             // the most
  double append_tokens_per_second = 0;                 // median
  double append_seconds = 0;                           // median of a stream
  double first_token_median = 0, first_token_p99 = 0;  // seconds
  double retrieved_tokens = 0;                         // mean of a question
};

struct Series {
  std::string name;  // of a picture's line: "rasq", or "first rasq" if there are several files
  std::string file;  // NamedResults::name
  std::string strategy;
  int64_t window_tokens = 0;
  Results results;  // of this strategy alone

  std::map<int64_t, Cost> Costs() const;  // by length
};
std::vector<Series> SplitSeries(const std::vector<NamedResults>& all);

// By how much the time of a whole stream grows with its length: the slope of log time over log
// length by least squares; 0 if there are fewer than two lengths.
double ScalingExponent(const std::map<int64_t, Cost>& costs);

}  // namespace rasq::client
