#include "engine/step_pace.h"

#include <algorithm>
#include <bit>

namespace rasq {

void RecentValues::Add(double value) {
  if (values_.size() < most_) {
    values_.push_back(value);
  } else {
    values_[next_] = value;
  }
  next_ = (next_ + 1) % most_;
}

double RecentValues::Quantile(double part) const {
  std::vector<double> sorted = values_;
  const auto index = static_cast<std::ptrdiff_t>(part * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), sorted.begin() + index, sorted.end());
  return sorted[index];
}

int32_t StepPace::BucketOf(int32_t decoding) {
  const auto rows = static_cast<uint32_t>(decoding);
  const auto step = std::max(1, static_cast<int32_t>(std::bit_floor(rows) / 8));
  return (decoding + step - 1) / step * step;
}

const StepPace::DecodeTime* StepPace::Known(int32_t decoding) const {
  auto above = decode_.upper_bound(BucketOf(decoding));
  while (above != decode_.begin()) {
    --above;
    if (above->second.seconds.size() >= kFirstProbes) return &above->second;
  }
  return nullptr;
}

int32_t StepPace::AppendRows(int32_t decoding) const {
  if (slowdown_ <= 0) return -1;
  const DecodeTime* known = Known(decoding);
  if (known == nullptr) return 0;
  const auto own = decode_.find(BucketOf(decoding));
  if (own != decode_.end() && own->second.mixed_since >= kProbePeriod) return 0;
  if (row_seconds_.size() == 0) return least_rows_;
  const double row = row_seconds_.Quantile(0.5);
  // At most twice the last time's: what is known of few rows says little of many.
  const int32_t most = std::max(least_rows_, 2 * last_rows_);
  const double room = (slowdown_ - 1) * PlainSeconds(*known);
  const double fit = row * most <= room ? most : room / row;
  const int32_t rows = room > 0 ? static_cast<int32_t>(fit) : 0;
  if (rows >= least_rows_) return rows;
  return owed_seconds_ >= row * least_rows_ ? least_rows_ : 0;
}

void StepPace::OnStep(int32_t decoding, int32_t append_rows, bool waiting, double seconds) {
  if (decoding == 0) return;
  DecodeTime& decode = decode_[BucketOf(decoding)];
  double added = 0;
  if (append_rows == 0) {
    decode.seconds.Add(seconds);
    decode.mixed_since = 0;
  } else if (const DecodeTime* known = Known(decoding); known != nullptr) {
    ++decode.mixed_since;
    added = std::max(0.0, seconds - PlainSeconds(*known));
    row_seconds_.Add(added / append_rows);
    last_rows_ = append_rows;
  }
  owed_seconds_ = waiting ? std::max(0.0, owed_seconds_ + kShare * seconds - added) : 0;
}

}  // namespace rasq
