#include "engine/store_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/check_range.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

StorePlan RazorPlan(const ModelConfig& model, const MemoryConfig& memory,
                    const StoreOptions& options, int32_t size) {
  const BaselineOptions& o = options.baselines;
  const int32_t tokens = size > 0 ? size : options.full_context_tokens;
  const int32_t behind = std::max(0, tokens - memory.window);
  RazorPolicy policy{.sink_rows = o.razor_sink_tokens,
                     .retrieval_rows = behind,
                     .local_rows = 0,
                     .local_tokens = o.razor_local_tokens,
                     .compression = o.razor_compression,
                     .retrieval_heads = 0};
  if (size > 0) {
    policy.local_tokens = std::max(memory.window, tokens / o.razor_compression);
    policy.compression = 0;
  }
  const int32_t local = std::max(o.razor_local_tokens, tokens / o.razor_compression);
  const int32_t newest = size > 0 ? policy.local_tokens : local;
  policy.local_rows = std::clamp(newest - memory.window, 0, behind);
  StorePlan plan;
  plan.max_listed = policy.sink_rows + std::max(policy.retrieval_rows, policy.local_rows + 1);
  for (int32_t l = 0; l < model.num_layers; ++l) {
    policy.retrieval_heads = options.retrieval_heads[l];
    plan.razor.push_back(policy);
    plan.rows.push_back(static_cast<int32_t>(NumRazorRows(policy, model.num_kv_heads)));
  }
  return plan;
}

StorePlan PyramidPlanOf(const ModelConfig& model, const MemoryConfig& memory,
                        const StoreOptions& options, int32_t size) {
  const BaselineOptions& o = options.baselines;
  StorePlan plan;
  plan.pyramid = {.mean_tokens = size > 0 ? size : o.pyramid_budget_tokens,
                  .beta = o.pyramid_beta,
                  .num_queries = std::min(o.pyramid_query_tokens, memory.window),
                  .pool_rows = o.pyramid_pool_tokens,
                  .rows = {},
                  .streams = size > 0};
  for (int32_t l = 0; l < model.num_layers; ++l) {
    int64_t rows = options.full_context_tokens - memory.window;
    if (size > 0) {
      rows = PyramidBudget(size, memory.window, o.pyramid_beta, l, model.num_layers,
                           /*tokens=*/INT64_MAX / 2);
    }
    plan.pyramid.rows.push_back(static_cast<int32_t>(std::max<int64_t>(rows, 1)));
    plan.rows.push_back(model.num_kv_heads * plan.pyramid.rows.back());
    plan.max_listed = std::max(plan.max_listed, plan.pyramid.rows.back());
  }
  return plan;
}

StorePlan ChunkPlanOf(const ModelConfig& model, const MemoryConfig& memory,
                      const StoreOptions& options, int32_t size) {
  const int32_t behind = std::max(1, options.full_context_tokens - memory.window);
  StorePlan plan;
  plan.chunks.kept = size > 0 ? size : (behind + kChunkRows - 1) / kChunkRows;
  plan.chunks.read = std::min(options.baselines.gca_read_chunks, plan.chunks.kept);
  plan.max_listed = plan.chunks.read * kChunkRows;
  plan.rows.assign(model.num_layers, model.num_kv_heads * plan.chunks.kept * kChunkRows);
  return plan;
}

StorePlan PlanOf(Strategy strategy, const ModelConfig& model, const MemoryConfig& memory,
                 const StoreOptions& options, int32_t size) {
  switch (strategy) {
    case Strategy::kRazor:
      return RazorPlan(model, memory, options, size);
    case Strategy::kPyramid:
      return PyramidPlanOf(model, memory, options, size);
    default:
      return ChunkPlanOf(model, memory, options, size);
  }
}

}  // namespace

StorePlan MakeStorePlan(Strategy strategy, const ModelConfig& model, const MemoryConfig& memory,
                        const StoreOptions& options, int32_t size) {
  RASQ_CHECK(KeepsStore(strategy));
  StorePlan plan = PlanOf(strategy, model, memory, options, size);
  plan.max_context = size > 0 ? 0 : options.full_context_tokens;
  return plan;
}

std::map<std::string, std::string> DescribePlan(const StorePlan& plan) {
  std::map<std::string, std::string> facts;
  if (plan.max_listed > 0) facts["max_listed"] = absl::StrCat(plan.max_listed);
  if (!plan.pyramid.rows.empty()) {
    facts["pyramid_budget_tokens"] = absl::StrCat(plan.pyramid.mean_tokens);
    facts["pyramid_beta"] = absl::StrCat(plan.pyramid.beta);
    facts["pyramid_query_tokens"] = absl::StrCat(plan.pyramid.num_queries);
    facts["pyramid_pool_tokens"] = absl::StrCat(plan.pyramid.pool_rows);
    facts["pyramid_streams"] = plan.pyramid.streams ? "yes" : "no";
  }
  if (plan.chunks.kept > 0) {
    facts["gca_chunks"] = absl::StrCat(plan.chunks.kept);
    facts["gca_read_chunks"] = absl::StrCat(plan.chunks.read);
  }
  for (const RazorPolicy& layer : plan.razor) {
    facts["razor_sink_tokens"] = absl::StrCat(layer.sink_rows);
    facts["razor_retrieval_tokens"] = absl::StrCat(layer.retrieval_rows);
    facts["razor_local_tokens"] = absl::StrCat(layer.local_tokens);
    facts["razor_compression"] = absl::StrCat(layer.compression);
    absl::StrAppend(&facts["razor_heads"], absl::Hex(layer.retrieval_heads), ".");
  }
  return facts;
}

absl::Status ValidateBaselines(const BaselineOptions& o) {
  constexpr int32_t kMostTokens = 1 << 20;
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("baseline_state_bytes", o.state_bytes, 0, int64_t{1} << 50));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_sink_tokens", o.razor_sink_tokens, 0, 4096));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_local_tokens", o.razor_local_tokens, 0, kMostTokens));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_compression", o.razor_compression, 1, kMostTokens));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_induction_share", o.razor_induction_share, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_echo_share", o.razor_echo_share, 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(CheckRange("razor_prompt_tokens", o.razor_prompt_tokens, 1, 65536));
  RASQ_RETURN_IF_ERROR(
      CheckRange("pyramid_budget_tokens", o.pyramid_budget_tokens, 1, kMostTokens));
  RASQ_RETURN_IF_ERROR(CheckRange("pyramid_beta", o.pyramid_beta, 1, kMostTokens));
  RASQ_RETURN_IF_ERROR(CheckRange("pyramid_query_tokens", o.pyramid_query_tokens, 1, 64));
  RASQ_RETURN_IF_ERROR(CheckRange("pyramid_pool_tokens", o.pyramid_pool_tokens, 1, 63));
  if (o.pyramid_pool_tokens % 2 == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("pyramid_pool_tokens=", o.pyramid_pool_tokens, ": must be odd"));
  }
  return CheckRange("gca_read_chunks", o.gca_read_chunks, 1, 64);
}

}  // namespace rasq
