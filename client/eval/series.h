// The results of one strategy under one setting in one file: a line in a picture, and some rows of
// a table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/eval/report.h"
#include "client/eval/results.h"
#include "client/eval/spread.h"

namespace rasq::client {

// What the streams of one length cost.
struct Cost {
  int64_t streams = 0, refused = 0;
  int64_t state_bytes = 0;                             // the most
  double append_tokens_per_second = 0;                 // median
  double append_slowest = 0, append_fastest = 0;       // the same of single streams
  double append_seconds = 0;                           // median of a stream
  double first_token_median = 0, first_token_p99 = 0;  // seconds
  int64_t token_gaps = 0;                              // between tokens of timed generations
  double gap_median = 0, gap_p99 = 0;                  // seconds
  double generate_tokens_per_second = 0;               // gaps over the time that they took
  double retrieved_tokens = 0;                         // mean of a question
  // Token efficiency: the keys that attention read for an answer, of those that full attention
  // reads, mean of a question. None of strategies whose reads the server's summary does not tell.
  std::optional<double> keys_read;
};

struct Series {
  std::string name;    // of a picture's line: "rasq", or "first rasq" if there are several files
  std::string file;    // NamedResults::name
  std::string method;  // StreamKey::Method
  std::string strategy, settings;
  int64_t window_tokens = 0;
  Results results;  // of this method alone

  std::map<int64_t, Cost> Costs() const;  // by length
};
std::vector<Series> SplitSeries(const std::vector<NamedResults>& all);

// By how much the time of a whole stream grows with its length: the slope of log time over log
// length by least squares; none if there are fewer than two lengths.
std::optional<double> ScalingExponent(const std::map<int64_t, Cost>& costs);

// The series of the same file and strategy under the defaults; null if there is none.
const Series* DefaultsOf(const Series& series, const std::vector<Series>& all);

// By how much one series' scores are above another's, question by question: both are told and asked
// the same. Over what both were asked in streams of `length` tokens.
struct PairedDifference {
  int64_t questions = 0;
  Mean difference;
};
PairedDifference Compare(const Series& series, const Series& other, int64_t length);

}  // namespace rasq::client
