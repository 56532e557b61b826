// The factors among which a budget head chooses (kernels/budget_head.h), as adapters and recipes
// write them: "budget_factors", a list of numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/json_reader.h"

namespace rasq {

// Empty if the field is not there, or is bad, which `fields` then tells.
std::vector<float> ReadBudgetFactors(FieldReader& fields);

// The most entries that a head over these may choose, at least 1.
int64_t LargestBudget(const std::vector<float>& factors, int32_t budget);

}  // namespace rasq
