// How many rows of appends may ride in a step beside generations that decode, so that those who
// read along hardly notice. Learned from the steps' own times: what a step of decoding alone takes,
// by its number of rows, and what a row of appends adds. Pure arithmetic, without a clock.
//
// Two promises: a mixed step takes at most `slowdown` times a decode-only one, as far as times
// repeat; and while appends wait, they get at least a quarter of the time of the steps (kShare).
// Where the two cannot both be kept because not even `least_rows` fit, the second one holds: a few
// steps between are long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace rasq {

// The last few of many noisy values.
class RecentValues {
 public:
  explicit RecentValues(size_t most) : most_(most) {}
  void Add(double value);
  size_t size() const { return values_.size(); }
  // The value that a `part` of them do not exceed.
  double Quantile(double part) const;

 private:
  const size_t most_;
  size_t next_ = 0;
  std::vector<double> values_;
};

class StepPace {
 public:
  // `slowdown` 0: no bound. `least_rows` >= 1: what it is worth to run appends for.
  StepPace(double slowdown, int32_t least_rows) : slowdown_(slowdown), least_rows_(least_rows) {}

  // Rows of appends for the next step, if `decoding` (> 0) generations are in it and appends wait:
  // -1: no bound, 0: none, else at least `least_rows`.
  int32_t AppendRows(int32_t decoding) const;
  // What a step was and took; `waiting`: there were appends to run, though maybe none ran.
  void OnStep(int32_t decoding, int32_t append_rows, bool waiting, double seconds);

  static constexpr double kShare = 0.25;
  // While appends wait, one step in so many is of decoding alone, to learn what that takes.
  static constexpr int32_t kProbePeriod = 16;
  static constexpr size_t kFirstProbes = 3;  // before the first mixed one

 private:
  struct DecodeTime {
    RecentValues seconds{8};
    int32_t mixed_since = 0;  // mixed steps since the last of decoding alone
  };
  // Without the stalls of a busy machine, which only ever add: no step is short by chance.
  static double PlainSeconds(const DecodeTime& decode) { return decode.seconds.Quantile(0.25); }
  // Steps of nearly as many rows take nearly the same time.
  static int32_t BucketOf(int32_t decoding);
  // What is known of decoding alone: of that bucket or, as more rows do not take less time, of one
  // below it. Null: nothing.
  const DecodeTime* Known(int32_t decoding) const;

  const double slowdown_;
  const int32_t least_rows_;
  std::map<int32_t, DecodeTime> decode_;  // by bucket
  RecentValues row_seconds_{9};           // that a row of appends adds
  int32_t last_rows_ = 0;                 // of the last mixed step
  double owed_seconds_ = 0;               // to appends
};

}  // namespace rasq
