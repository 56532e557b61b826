// Any text as each of the configs: refused, or what is read stays inside its bounds.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "engine/model_config.h"
#include "kernels/base/status.h"

namespace {

constexpr char kModel[] =
    R"({"model_type": "qwen3", "vocab_size": 256, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 48})";

void CheckModel(const rasq::ModelConfig& model) {
  RASQ_CHECK(model.num_heads % model.num_kv_heads == 0);
  RASQ_CHECK(static_cast<int64_t>(model.inv_freq.size()) * 2 == model.head_dim);
  for (const double frequency : model.inv_freq) {
    RASQ_CHECK(std::isfinite(frequency) && frequency >= 0 && frequency <= 1);
  }
  for (const int32_t id : model.eos_token_ids) RASQ_CHECK(id >= 0 && id < model.vocab);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto as_model = rasq::ParseModelConfig(text, "");
  if (as_model.ok()) CheckModel(*as_model);
  const auto as_generation = rasq::ParseModelConfig(kModel, text);
  if (as_generation.ok()) CheckModel(*as_generation);
  const auto model = rasq::ParseModelConfig(kModel, "");
  RASQ_CHECK(model.ok());
  const auto memory = rasq::ParseMemoryConfig(text, *model);
  if (memory.ok()) {
    RASQ_CHECK(memory->has_memory() && memory->budget <= memory->capacity);
    for (int32_t layer = 0; layer < model->num_layers; ++layer) {
      RASQ_CHECK(memory->RetrievalIndex(layer) <
                 static_cast<int32_t>(memory->retrieval_layers.size()));
    }
  }
  return 0;
}
