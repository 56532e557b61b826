#include "engine/razor_heads.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/state_layout.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// The kv heads of all layers with the highest scores, by layer.
void AddBest(const std::vector<double>& scores, double share, const ModelConfig& model,
             std::vector<uint64_t>& chosen) {
  const int64_t group = model.num_heads / model.num_kv_heads;
  const int64_t all = int64_t{model.num_layers} * model.num_kv_heads;
  std::vector<double> best(all);
  for (int64_t i = 0; i < all; ++i) {
    best[i] = *std::max_element(scores.begin() + i * group, scores.begin() + (i + 1) * group);
  }
  std::vector<int64_t> order(all);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return best[a] > best[b]; });
  const auto wanted = static_cast<int64_t>(std::llround(share * static_cast<double>(all)));
  for (int64_t i = 0; i < std::clamp<int64_t>(wanted, 1, all); ++i) {
    chosen[order[i] / model.num_kv_heads] |= uint64_t{1} << (order[i] % model.num_kv_heads);
  }
}

// One pass of the prompt: as many different tokens as can be had.
std::vector<int32_t> DrawTokens(const ModelConfig& model, int64_t count) {
  std::vector<int32_t> tokens;
  tokens.reserve(model.vocab);
  for (int32_t id = 0; id < model.vocab; ++id) {
    const std::vector<int32_t>& eos = model.eos_token_ids;
    const bool special =
        id == model.bos_token_id || std::find(eos.begin(), eos.end(), id) != eos.end();
    if (!special) tokens.push_back(id);
  }
  const int64_t most =
      std::min<int64_t>(static_cast<int64_t>(tokens.size()), model.max_positions / kRazorRepeats);
  count = std::clamp<int64_t>(count, 1, std::max<int64_t>(1, most));
  std::mt19937_64 random(/*seed=*/2407'15891);
  // Not std::shuffle: what it draws is the library's own.
  for (int64_t i = 0; i < count; ++i) {
    std::swap(tokens[i], tokens[i + random() % (tokens.size() - i)]);
  }
  tokens.resize(count);
  return tokens;
}

}  // namespace

std::vector<uint64_t> ChooseRetrievalHeads(const HeadScores& scores, const ModelConfig& model,
                                           const BaselineOptions& options) {
  std::vector<uint64_t> chosen(model.num_layers);
  AddBest(scores.induction, options.razor_induction_share, model, chosen);
  AddBest(scores.echo, options.razor_echo_share, model, chosen);
  return chosen;
}

absl::StatusOr<HeadScores> ScoreHeads(Model& model, Ops& ops, const BaselineOptions& options) {
  const ModelConfig& config = model.config();
  if (config.num_kv_heads > kMaxRazorHeads) {
    return absl::FailedPreconditionError(
        absl::StrCat("strategy=razor: the model has ", config.num_kv_heads,
                     " kv heads, and at most ", kMaxRazorHeads, " are served"));
  }
  const std::vector<int32_t> once = DrawTokens(config, options.razor_prompt_tokens);
  const auto period = static_cast<int64_t>(once.size());
  std::vector<InputToken> tokens;
  tokens.reserve(period * kRazorRepeats + 1);
  if (config.bos_token_id >= 0) tokens.push_back({.id = config.bos_token_id});
  const auto first = static_cast<int64_t>(tokens.size());
  for (int32_t r = 0; r < kRazorRepeats; ++r) {
    for (const int32_t id : once) tokens.push_back({.id = id});
  }
  RASQ_ASSIGN_OR_RETURN(
      const StateLayout layout,
      MakeStateLayout(Strategy::kFull, config, model.memory(), ops.element(),
                      {.full_context_tokens = static_cast<int32_t>(tokens.size())}));
  RASQ_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> state, ops.Allocate(layout.bytes));
  RASQ_ASSIGN_OR_RETURN(const std::vector<RepeatSum> sums,
                        model.SumRepeats(layout, state->data(), tokens, first, period));
  HeadScores scores;
  const auto rows = static_cast<double>((kRazorRepeats - 1) * period);
  for (const RepeatSum& sum : sums) {
    scores.echo.push_back(sum.echo / rows);
    scores.induction.push_back(sum.induction / rows);
  }
  return scores;
}

}  // namespace rasq
