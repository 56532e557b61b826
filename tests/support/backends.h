// The backends that a test of the engine or model runs on, by name: "float32" and "bfloat16" on the
// processor, and "cuda".
#pragma once

#include <string>

#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "tests/support/gpu_twin.h"

namespace rasq::testing {

inline OpsOptions BackendOptions(const std::string& backend) {
  if (backend == "cuda") return {.device = "cuda", .batch_invariant = true};
  return {.device = "cpu", .dtype = backend};
}

// Runs on the backend of its parameter; skips "cuda" where there is no GPU.
class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "cuda") RASQ_NEEDS_GPU();
  }
  // Whether results are rounded to bfloat16 on the way.
  bool is_rough() const { return GetParam() != "float32"; }
};

inline std::string BackendName(const ::testing::TestParamInfo<std::string>& param_info) {
  return param_info.param;
}

}  // namespace rasq::testing
