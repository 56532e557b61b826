// What the benchmarks share: their flags, times, and calls that must succeed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"

namespace rasq {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline void Must(const absl::Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  RASQ_CHECK(status.ok());
}
template <typename T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return *std::move(value);
}

// The value below which that part of them lies; 0 of none.
template <typename T>
T Quantile(std::vector<T> values, double part) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(part * values.size()))];
}

// `--name=value`; of a bool `--name`; of a list with commas between its numbers.
struct Flag {
  const char* name;
  std::variant<bool*, int32_t*, int64_t*, double*, std::string*, std::vector<int64_t>*> value;
};

inline bool SetFlag(absl::string_view argument, const Flag& flag) {
  if (!absl::ConsumePrefix(&argument, flag.name)) return false;
  if (bool* const* set = std::get_if<bool*>(&flag.value)) {
    **set = true;
    return argument.empty();
  }
  if (!absl::ConsumePrefix(&argument, "=")) return false;
  if (std::string* const* text = std::get_if<std::string*>(&flag.value)) {
    **text = std::string(argument);
    return true;
  }
  if (double* const* number = std::get_if<double*>(&flag.value)) {
    return absl::SimpleAtod(argument, *number);
  }
  if (int32_t* const* number = std::get_if<int32_t*>(&flag.value)) {
    return absl::SimpleAtoi(argument, *number);
  }
  if (int64_t* const* number = std::get_if<int64_t*>(&flag.value)) {
    return absl::SimpleAtoi(argument, *number);
  }
  auto& list = *std::get<std::vector<int64_t>*>(flag.value);
  list.clear();
  for (const absl::string_view part : absl::StrSplit(argument, ',', absl::SkipEmpty())) {
    if (!absl::SimpleAtoi(part, &list.emplace_back())) return false;
  }
  return true;
}

// Ends the program if an argument is none of these.
inline void ParseFlags(int argc, char** argv, std::initializer_list<Flag> flags) {
  for (int i = 1; i < argc; ++i) {
    bool known = false;
    for (const Flag& flag : flags) known = known || SetFlag(argv[i], flag);
    if (known) continue;
    std::fprintf(stderr, "%s: not understood\n", argv[i]);
    std::exit(2);
  }
}

}  // namespace rasq
