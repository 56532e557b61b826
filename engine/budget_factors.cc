#include "engine/budget_factors.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/budget_head.h"

namespace rasq {
namespace {

constexpr double kMaxFactor = 1024;

}  // namespace

std::vector<float> ReadBudgetFactors(FieldReader& fields) {
  constexpr char kField[] = "budget_factors";
  const Json* list = fields.Find(kField);
  if (list == nullptr) return {};
  if (!list->is_array() || list->empty() || list->size() > kMaxBudgetFactors) {
    fields.Bad(kField, *list, absl::StrCat("a list of 1 to ", kMaxBudgetFactors, " numbers"));
    return {};
  }
  std::vector<float> factors;
  factors.reserve(list->size());
  for (const Json& factor : *list) {
    if (!factor.is_number() || !(factor.get<double>() > 0 && factor.get<double>() <= kMaxFactor)) {
      fields.Bad(kField, factor, absl::StrCat("above 0 and at most ", kMaxFactor));
      return {};
    }
    factors.push_back(factor.get<float>());
  }
  return factors;
}

int64_t LargestBudget(const std::vector<float>& factors, int32_t budget) {
  int64_t most = 1;
  for (const float factor : factors) {
    most = std::max<int64_t>(most, std::llround(double{factor} * budget));
  }
  return most;
}

}  // namespace rasq
