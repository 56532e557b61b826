#include "train/decoder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/budget_factors.h"
#include "engine/dummy_weights.h"
#include "kernels/base/status.h"
#include "train/gated_silu.h"

namespace rasq::train {
namespace {

Tensor Linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}) {
  const torch::ScalarType type = x.scalar_type();
  return torch::linear(x, weight.to(type), bias.defined() ? bias.to(type) : bias);
}

Tensor Unit(const Tensor& x) {
  const Tensor wide = x.to(torch::kFloat32);
  return (wide / wide.norm(2, -1, true).clamp_min(1e-12)).to(x.scalar_type());
}

// P^+ P of each P of [matrices, rows, columns], the projection on its rows: [matrices, columns,
// columns]. With P P^T = L L^T it is Y^T Y of Y = L^-1 P. For its gradient G it is
//   dM = (I - M) dP^T (P^+)^T + its transpose, so P's is (P^+)^T (G + G^T) (I - M),
// products alone. Of libtorch's batched solvers for GPUs, those of Cholesky factors and of
// triangles are NVIDIA's; the one for any matrix (MAGMA's) is not safe with a thread for each
// device.
class RowProjection : public torch::autograd::Function<RowProjection> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& down) {
    const Tensor gram = torch::matmul(down, down.transpose(1, 2));
    const Tensor lower = std::get<0>(at::linalg_cholesky_ex(gram));
    const Tensor rows = at::linalg_solve_triangular(lower, down, /*upper=*/false);
    const Tensor projection = torch::matmul(rows.transpose(1, 2), rows);
    const Tensor inverse_transposed =
        at::linalg_solve_triangular(lower.transpose(1, 2), rows, /*upper=*/true);
    context->save_for_backward({projection, inverse_transposed});
    return projection;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &projection = saved[0], &inverse_transposed = saved[1], &given = gradients[0];
    const Tensor ahead = torch::matmul(inverse_transposed, given + given.transpose(1, 2));
    return {ahead - torch::matmul(ahead, projection)};
  }
};

// The round trip of every kv head of x [streams, tokens, kv_heads, head_dim]. One product with the
// matrices on a diagonal: heads are few, and no rows are moved.
struct RoundTrip {
  Tensor matrix;  // [kv_heads * head_dim, the same]

  Tensor operator()(const Tensor& x) const {
    return Linear(x.flatten(2), matrix.t()).view(x.sizes());
  }
  // ||x - round trip||^2 / ||x||^2 of every eighth token, which is enough to learn from.
  Tensor Error(const Tensor& x) const {
    const Tensor some = x.detach().index({index::Slice(), index::Slice(0, index::None, 8)});
    const Tensor wide = some.flatten(2).to(torch::kFloat32);
    return (torch::matmul(wide, matrix) - wide).square().mean() / wide.square().mean();
  }
};

// Of all layers' P_k and P_v at once; [layers, 2] in that order.
std::vector<RoundTrip> MakeRoundTrips(const std::vector<Tensor>& down) {
  std::vector<RoundTrip> result;
  if (down.empty()) return result;
  const int64_t kv_heads = down.front().size(0);
  const Tensor all = RowProjection::apply(torch::cat(down));
  for (size_t i = 0; i < down.size(); ++i) {
    const Tensor own = all.narrow(0, static_cast<int64_t>(i) * kv_heads, kv_heads);
    result.push_back({torch::block_diag(own.unbind(0))});
  }
  return result;
}

// K_c = P K of every kv head, without gradient: [streams, tokens, kv_heads, compressed_dim].
Tensor Compress(const Tensor& x, const Tensor& down) {
  const torch::NoGradGuard no_grad;
  return Linear(x.flatten(2), torch::block_diag(down.unbind(0)))
      .view({x.size(0), x.size(1), x.size(2), -1});
}

// Projections that keep nothing more than anything else: rows of random rotations.
Tensor RandomProjections(at::IntArrayRef shape) {
  const Tensor square = torch::randn({shape[0], shape[2], shape[2]});
  return std::get<0>(torch::linalg_qr(square)).narrow(1, 0, shape[1]).contiguous();
}

Tensor Initial(const std::string& name, at::IntArrayRef shape, int64_t num_layers) {
  const auto ends = [&](const char* suffix) { return absl::EndsWith(name, suffix); };
  if (ends("norm.weight")) return torch::ones(shape);
  if (ends("_down.weight")) return RandomProjections(shape);
  if (ends("score_weight")) return torch::full(shape, 0.3);
  if (ends("age_slope")) return torch::linspace(0, 1, shape[0]).square() * 0.2;
  if (ends("log_temperature")) return torch::full(shape, std::log(10.0));
  // Everything is worth keeping until something is learned.
  if (ends("write_gate.bias")) return torch::full(shape, 2.0);
  if (ends("write_gate.weight") || ends("budget.weight") || ends(".bias")) {
    return torch::zeros(shape);
  }
  // What adds to the residual stream is scaled down by how often that happens (GPT-2).
  const bool adds = ends("o_proj.weight") || ends("mlp.down_proj.weight");
  return torch::randn(shape) * (adds ? 0.02 / std::sqrt(2.0 * num_layers) : 0.02);
}

}  // namespace

bool IsAdapterParameter(const std::string& name) { return absl::StartsWith(name, "layers."); }

absl::StatusOr<Decoder> Decoder::Load(const Checkpoint& checkpoint) {
  Decoder decoder(checkpoint.model(), checkpoint.memory());
  for (const auto& [name, shape] : MakeTensorShapes(decoder.model_, decoder.memory_)) {
    RASQ_ASSIGN_OR_RETURN(std::vector<float> values, checkpoint.Floats(name, shape));
    decoder.parameters_[name] =
        torch::from_blob(values.data(), shape, torch::kFloat32).clone().requires_grad_();
  }
  return decoder;
}

Decoder Decoder::Make(const ModelConfig& model, const MemoryConfig& memory) {
  Decoder decoder(model, memory);
  for (const auto& [name, shape] : MakeTensorShapes(model, memory)) {
    decoder.parameters_[name] = Initial(name, shape, model.num_layers).requires_grad_();
  }
  return decoder;
}

absl::Status Decoder::AddBudgetHead(const std::vector<float>& factors) {
  if (memory_.budget_factors == factors) return absl::OkStatus();
  if (memory_.has_budget_head()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "budget_factors=[", absl::StrJoin(factors, ", "), "]: the model has a budget head over [",
        absl::StrJoin(memory_.budget_factors, ", "), "]"));
  }
  memory_.budget_factors = factors;
  const auto nearest = std::min_element(factors.begin(), factors.end(), [](float a, float b) {
    return std::abs(a - 1) < std::abs(b - 1);
  });
  memory_.max_budget = static_cast<int32_t>(LargestBudget(factors, memory_.budget));
  for (const auto& [name, shape] : MakeTensorShapes(model_, memory_)) {
    if (!absl::StrContains(name, ".retriever.budget.")) continue;
    Tensor initial = Initial(name, shape, model_.num_layers);
    if (absl::EndsWith(name, ".bias")) initial[nearest - factors.begin()] = 1;
    parameters_[name] = initial.to(head().device()).requires_grad_();
  }
  return absl::OkStatus();
}

absl::Status Decoder::AddSummaries(int32_t slots, float decay) {
  if (memory_.num_summaries == slots && memory_.summary_decay == decay) return absl::OkStatus();
  if (memory_.num_summaries > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("summary_slots=", slots, ", summary_decay=", decay, ": the model has ",
                     memory_.num_summaries, " slots that forget by ", memory_.summary_decay));
  }
  if (memory_.num_clusters > 0) {
    return absl::FailedPreconditionError(absl::StrCat("summary_slots=", slots, ": the model has ",
                                                      memory_.num_clusters, " clusters"));
  }
  memory_.num_summaries = slots;
  memory_.summary_decay = decay;
  for (const auto& [name, shape] : MakeTensorShapes(model_, memory_)) {
    if (!absl::EndsWith(name, ".memory.summary_query")) continue;
    parameters_[name] =
        Initial(name, shape, model_.num_layers).to(head().device()).requires_grad_();
  }
  return absl::OkStatus();
}

absl::Status Decoder::SetClusters(const ClusterShape& shape) {
  if (shape.clusters > 0 && memory_.num_summaries > 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "clusters=", shape.clusters, ": the model has ", memory_.num_summaries, " summary slots"));
  }
  memory_.num_clusters = static_cast<int32_t>(shape.clusters);
  memory_.read_clusters = static_cast<int32_t>(shape.read);
  memory_.cluster_min_entries = static_cast<int32_t>(shape.min_entries);
  return absl::OkStatus();
}

std::vector<int64_t> Decoder::Budgets(int64_t tokens) const {
  std::vector<int64_t> budgets;
  for (const float factor :
       memory_.has_budget_head() ? memory_.budget_factors : std::vector{1.0f}) {
    budgets.push_back(std::clamp<int64_t>(std::llround(double{factor} * memory_.budget), 1,
                                          std::min<int64_t>(memory_.max_budget, tokens)));
  }
  return budgets;
}

void Decoder::MoveTo(const torch::Device& device) {
  for (auto& [name, tensor] : parameters_) {
    tensor = tensor.detach().to(device, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
  }
}

const Tensor& Decoder::Of(int64_t layer, const std::string& name) const {
  return parameters_.at(absl::StrCat("model.layers.", layer, ".", name));
}

const Tensor& Decoder::OfAdapter(int64_t layer, const std::string& name) const {
  return parameters_.at(absl::StrCat("layers.", layer, ".", name));
}

const Tensor& Decoder::head() const {
  return parameters_.at(model_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
}

Tensor Decoder::Embed(const Tensor& tokens, torch::ScalarType compute) const {
  return torch::embedding(parameters_.at("model.embed_tokens.weight"), tokens).to(compute);
}

Tensor Decoder::InvFreq() const {
  return torch::tensor(model_.inv_freq, torch::kFloat64).to(head().device());
}

Tensor Decoder::Norm(const Tensor& x, const Tensor& weight) const {
  return RmsNorm(x, weight, model_.rms_norm_epsilon);
}

Heads Decoder::Project(int64_t layer, const Tensor& h, const Angles& angles,
                       const Tensor& query_bias) const {
  const auto all = [&](const char* what) {
    return torch::cat({Of(layer, absl::StrCat("self_attn.q_proj.", what)),
                       Of(layer, absl::StrCat("self_attn.k_proj.", what)),
                       Of(layer, absl::StrCat("self_attn.v_proj.", what))});
  };
  const HeadShape shape{.heads = model_.num_heads,
                        .kv_heads = model_.num_kv_heads,
                        .head_dim = model_.head_dim,
                        .epsilon = model_.rms_norm_epsilon};
  const Tensor qkv =
      Linear(h, all("weight"), model_.qkv_bias ? all("bias") : Tensor())
          .view({h.size(0), h.size(1), shape.heads + 2 * shape.kv_heads, shape.head_dim});
  const auto norm = [&](const char* name) { return model_.qk_norm ? Of(layer, name) : Tensor(); };
  return NormAndRotate(qkv, norm("self_attn.q_norm.weight"), norm("self_attn.k_norm.weight"),
                       angles, query_bias, shape);
}

Tensor Decoder::Finish(int64_t layer, const Tensor& x, const Tensor& attended) const {
  const Tensor y = x + Linear(attended.flatten(2), Of(layer, "self_attn.o_proj.weight"));
  const Tensor h = Norm(y, Of(layer, "post_attention_layernorm.weight"));
  const Tensor gate_up =
      Linear(h, torch::cat({Of(layer, "mlp.gate_proj.weight"), Of(layer, "mlp.up_proj.weight")}));
  return y + Linear(GatedSilu(gate_up), Of(layer, "mlp.down_proj.weight"));
}

ForwardResult Decoder::Forward(const Tensor& tokens, const ForwardOptions& options) const {
  const std::vector<int64_t> budgets = Budgets(tokens.size(1));
  const RetrievalShape shape{.segment = memory_.segment,
                             .window = memory_.window,
                             .sinks = memory_.sinks,
                             .budget = *std::max_element(budgets.begin(), budgets.end()),
                             .span = memory_.max_budget};
  const SegmentPlan plan(tokens.size(0), tokens.size(1), shape, InvFreq());

  std::vector<Tensor> down;
  for (int64_t l = memory_.retrieval_layers.front(); l < model_.num_layers; ++l) {
    down.push_back(OfAdapter(l, "memory.key_down.weight"));
    down.push_back(OfAdapter(l, "memory.value_down.weight"));
  }
  const std::vector<RoundTrip> round_trips = MakeRoundTrips(down);

  ForwardResult result;
  result.retrievals.reserve(memory_.retrieval_layers.size());
  Tensor alive, errors = torch::zeros({}, head().options());
  std::optional<LostEntries> lost;
  Tensor x = Embed(tokens, options.compute);
  for (int64_t l = 0; l < model_.num_layers; ++l) {
    const Tensor h = Norm(x, Of(l, "input_layernorm.weight"));
    const int64_t retrieval = memory_.RetrievalIndex(static_cast<int32_t>(l));
    if (retrieval >= 0 && memory_.retrieval_layers[retrieval] == l) {
      if (retrieval == 0) {
        const Tensor gate = Linear(h, OfAdapter(l, "write_gate.weight")).to(torch::kFloat32);
        result.log_gate = torch::log_sigmoid(gate + OfAdapter(l, "write_gate.bias")).squeeze(-1);
        alive = AliveEntries(result.log_gate, options.capacity, shape);
        if (memory_.num_summaries > 0 && options.capacity > 0) {
          lost.emplace(result.log_gate, alive, shape, memory_.summary_decay);
        }
      }
      BudgetHead budget_head;
      if (memory_.has_budget_head()) {
        budget_head = {.weight = OfAdapter(l, "retriever.budget.weight"),
                       .bias = OfAdapter(l, "retriever.budget.bias"),
                       .tokens = torch::tensor(budgets, tokens.options())};
      }
      result.retrievals.push_back(
          Retrieve({.layer = retrieval,
                    .query = Unit(Linear(h, OfAdapter(l, "retriever.query_proj.weight"))),
                    .key = Unit(Linear(h, OfAdapter(l, "retriever.key_proj.weight"))),
                    .temperature = OfAdapter(l, "retriever.log_temperature").exp(),
                    .log_gate = result.log_gate,
                    .alive = alive,
                    .budget_head = budget_head},
                   shape, options.probe));
    }
    MemoryKeys memory{.retrieval = nullptr};
    if (retrieval >= 0) {
      memory = {.retrieval = &result.retrievals.back(),
                .score_weight = OfAdapter(l, "memory.score_weight"),
                .age_slope = OfAdapter(l, "memory.age_slope")};
    }
    const Heads heads = Project(
        l, h, plan.token, QueryBias(memory, model_.num_heads, model_.head_dim, head().options()));
    if (retrieval >= 0) {
      const size_t first = 2 * static_cast<size_t>(l - memory_.retrieval_layers.front());
      const RoundTrip &of_keys = round_trips[first], &of_values = round_trips[first + 1];
      memory.key = of_keys(heads.plain_key);
      memory.value = of_values(heads.value);
      if (lost.has_value()) {
        memory.summaries = Summarise(*lost, {.query = OfAdapter(l, "memory.summary_query"),
                                             .key_down = down[first],
                                             .plain_key = heads.plain_key,
                                             .key = memory.key,
                                             .value = memory.value,
                                             .log_gate = result.log_gate});
      }
      if (memory_.num_clusters > 0) {
        memory.compressed_key = Compress(heads.plain_key, down[first]);
        memory.clusters = {.clusters = memory_.num_clusters,
                           .read = memory_.read_clusters,
                           .min_entries = memory_.cluster_min_entries};
      }
      if (options.compression_loss) {
        errors = errors + of_keys.Error(heads.plain_key) + of_values.Error(heads.value);
      }
    }
    x = Finish(l, x, SegmentAttention(heads, memory, plan));
  }
  result.hidden = Norm(x, parameters_.at("model.norm.weight"));
  result.compression_loss = errors / static_cast<double>(down.size() / 2);
  return result;
}

Tensor Decoder::ForwardFull(const Tensor& tokens, torch::ScalarType compute,
                            const LayerObserver& observe) const {
  const Angles angles = AnglesAt(torch::arange(tokens.size(1), tokens.options()), InvFreq());
  Tensor x = Embed(tokens, compute);
  for (int64_t l = 0; l < model_.num_layers; ++l) {
    const Tensor h = Norm(x, Of(l, "input_layernorm.weight"));
    const Heads heads = Project(l, h, angles, /*query_bias=*/{});
    if (observe) observe(l, h, heads);
    x = Finish(l, x,
               CausalAttention(heads.query, heads.key, heads.value,
                               1 / std::sqrt(static_cast<double>(model_.head_dim))));
  }
  return Norm(x, parameters_.at("model.norm.weight"));
}

}  // namespace rasq::train
