// The backends that a test of the engine or model runs on, by name: "float32" and "bfloat16" on the
// processor, and "cuda"; each with "_int8" behind it if entries are stored so.
#pragma once

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "kernels/entry_rows.h"
#include "kernels/ops.h"
#include "tests/support/gpu_twin.h"

namespace rasq::testing {

inline bool IsOnGpu(const std::string& backend) { return absl::StartsWith(backend, "cuda"); }

inline EntryType EntryTypeOf(const std::string& backend) {
  return absl::EndsWith(backend, "_int8") ? EntryType::kInt8 : EntryType::kElement;
}

inline OpsOptions BackendOptions(const std::string& backend) {
  if (IsOnGpu(backend)) return {.device = "cuda", .batch_invariant = true};
  return {.device = "cpu", .dtype = std::string(absl::StripSuffix(backend, "_int8"))};
}

// Runs on the backend of its parameter; skips "cuda" where there is no GPU.
class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (IsOnGpu(GetParam())) RASQ_NEEDS_GPU();
  }
  // Whether results are rounded to bfloat16 on the way.
  bool is_rough() const { return GetParam() != "float32"; }
};

inline std::string BackendName(const ::testing::TestParamInfo<std::string>& param_info) {
  return param_info.param;
}

}  // namespace rasq::testing
