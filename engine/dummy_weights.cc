#include "engine/dummy_weights.h"

#include <cmath>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace rasq {

TensorShapes MakeTensorShapes(const ModelConfig& model, const MemoryConfig& memory) {
  const int64_t hidden = model.hidden, wide = model.intermediate, head = model.head_dim;
  const int64_t q = model.num_heads * head, kv = model.num_kv_heads * head;
  TensorShapes shapes;
  shapes["model.embed_tokens.weight"] = {model.vocab, hidden};
  shapes["model.norm.weight"] = {hidden};
  if (!model.tie_embeddings) shapes["lm_head.weight"] = {model.vocab, hidden};
  for (int32_t l = 0; l < model.num_layers; ++l) {
    const std::string layer = absl::StrCat("model.layers.", l, ".");
    shapes[layer + "input_layernorm.weight"] = {hidden};
    shapes[layer + "self_attn.q_proj.weight"] = {q, hidden};
    shapes[layer + "self_attn.k_proj.weight"] = {kv, hidden};
    shapes[layer + "self_attn.v_proj.weight"] = {kv, hidden};
    shapes[layer + "self_attn.o_proj.weight"] = {hidden, q};
    shapes[layer + "post_attention_layernorm.weight"] = {hidden};
    shapes[layer + "mlp.gate_proj.weight"] = {wide, hidden};
    shapes[layer + "mlp.up_proj.weight"] = {wide, hidden};
    shapes[layer + "mlp.down_proj.weight"] = {hidden, wide};
    if (model.qkv_bias) {
      shapes[layer + "self_attn.q_proj.bias"] = {q};
      shapes[layer + "self_attn.k_proj.bias"] = {kv};
      shapes[layer + "self_attn.v_proj.bias"] = {kv};
    }
    if (model.qk_norm) {
      shapes[layer + "self_attn.q_norm.weight"] = {head};
      shapes[layer + "self_attn.k_norm.weight"] = {head};
    }
    const int32_t retrieval = memory.RetrievalIndex(l);
    if (retrieval < 0) continue;
    const std::string adapter = absl::StrCat("layers.", l, ".");
    for (const char* down : {"key_down", "value_down"}) {
      shapes[absl::StrCat(adapter, "memory.", down, ".weight")] = {model.num_kv_heads,
                                                                   memory.compressed_dim, head};
    }
    if (memory.num_summaries > 0) {
      shapes[adapter + "memory.summary_query"] = {model.num_kv_heads, memory.num_summaries,
                                                  memory.compressed_dim};
    }
    shapes[adapter + "memory.score_weight"] = {model.num_heads};
    shapes[adapter + "memory.age_slope"] = {model.num_heads};
    if (memory.retrieval_layers[retrieval] != l) continue;
    shapes[adapter + "retriever.query_proj.weight"] = {memory.index_dim, hidden};
    shapes[adapter + "retriever.key_proj.weight"] = {memory.index_dim, hidden};
    shapes[adapter + "retriever.log_temperature"] = {1};
    if (memory.has_budget_head()) {
      const auto factors = static_cast<int64_t>(memory.budget_factors.size());
      shapes[adapter + "retriever.budget.weight"] = {factors, memory.index_dim};
      shapes[adapter + "retriever.budget.bias"] = {factors};
    }
    if (retrieval > 0) continue;
    shapes[adapter + "write_gate.weight"] = {1, hidden};
    shapes[adapter + "write_gate.bias"] = {1};
  }
  return shapes;
}

// FNV-1a, 64 bits: the same on every machine, unlike std::hash.
uint64_t DummySeed(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

float DummyScale(int64_t in) { return 1 / std::sqrt(static_cast<float>(in)); }

std::vector<float> DummyFloats(absl::string_view name, absl::Span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  std::vector<float> values(count, 1.0f);
  if (absl::EndsWith(name, "norm.weight")) return values;
  const float scale = DummyScale(shape.back());
  std::mt19937_64 random(DummySeed(name));
  for (float& value : values) {
    value = (static_cast<float>(random() >> 40) * 0x1p-23f - 1.0f) * scale;
  }
  return values;
}

}  // namespace rasq
