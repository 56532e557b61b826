#include "engine/model_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "engine/budget_factors.h"
#include "engine/json_reader.h"
#include "engine/memory_limits.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr absl::string_view kConfig = "config.json";
constexpr absl::string_view kGenerationConfig = "generation_config.json";
constexpr absl::string_view kMemoryConfig = "rasq_config.json";

// Far above any decoder of the family, and low enough that every product of two of them, and of a
// matrix's two sides in bytes, stays inside int64_t.
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxHidden = 1 << 16;
constexpr int64_t kMaxIntermediate = 1 << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxPositions = 1 << 30;
constexpr int64_t kMaxMemoryDim = 1 << 13;

struct ModelType {
  absl::string_view name;
  absl::string_view architecture;
  bool qkv_bias;
  bool qk_norm;
  bool window_needs_switch;  // sliding_window counts only if use_sliding_window is true
};
constexpr ModelType kModelTypes[] = {
    {"llama", "LlamaForCausalLM", false, false, true},
    {"mistral", "MistralForCausalLM", false, false, false},
    {"qwen2", "Qwen2ForCausalLM", true, false, true},
    {"qwen3", "Qwen3ForCausalLM", false, true, true},
};

// What would change the decoder's arithmetic in a way that the kernels do not have.
void RefuseUnsupported(const ModelType& type, FieldReader& fields) {
  const std::string activation = fields.String("hidden_act", "silu");
  if (activation != "silu") fields.Unsupported("hidden_act", activation, "only silu is supported");
  if (fields.Bool("attention_bias", false)) {
    fields.Unsupported("attention_bias", true, "a bias of the output projection is not supported");
  }
  if (fields.Bool("mlp_bias", false)) {
    fields.Unsupported("mlp_bias", true, "a bias of the feed-forward is not supported");
  }
  if (const Json* value = fields.Find("quantization_config")) {
    fields.Unsupported("quantization_config", *value, "quantized weights are not supported");
  }
  if (fields.Number("partial_rotary_factor", 0, 1, 1) != 1) {
    fields.Unsupported("partial_rotary_factor", *fields.Find("partial_rotary_factor"),
                       "only whole heads are rotated");
  }
  const bool window_on = fields.Bool("use_sliding_window", !type.window_needs_switch);
  const int64_t positions = fields.Int("max_position_embeddings", 1, kMaxPositions);
  if (window_on && fields.Has("sliding_window") &&
      fields.Int("sliding_window", 1, kMaxPositions) < positions) {
    fields.Unsupported("sliding_window", *fields.Find("sliding_window"),
                       "layers with a window of their own are not supported");
  }
  if (const Json* layers = fields.Find("layer_types")) {
    if (!layers->is_array()) return fields.Bad("layer_types", *layers, "a list");
    for (const Json& layer : *layers) {
      if (layer != "full_attention") {
        return fields.Unsupported("layer_types", layer, "only full_attention is supported");
      }
    }
  }
}

// Llama 3's stretching: long wavelengths are divided by `factor`, short ones kept, those between
// blended. Source: the llama3 case of Hugging Face's rope utilities, Meta's Llama 3.1 release.
void ScaleAsLlama3(FieldReader& scaling, double factor, std::vector<double>& inv_freq) {
  const double low = scaling.Number("low_freq_factor", 1e-6, 1e6);
  const double high = scaling.Number("high_freq_factor", 1e-6, 1e6);
  const auto trained =
      static_cast<double>(scaling.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (scaling.status().ok() && high <= low) {
    scaling.Bad("high_freq_factor", *scaling.Find("high_freq_factor"), "above low_freq_factor");
  }
  if (!scaling.status().ok()) return;
  for (double& frequency : inv_freq) {
    const double turns = trained * frequency / (2 * std::numbers::pi);  // in the trained context
    const double keep = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    frequency = keep * frequency + (1 - keep) * frequency / factor;
  }
}

absl::StatusOr<std::vector<double>> InverseFrequencies(FieldReader& fields, int64_t head_dim) {
  constexpr double kMaxTheta = 1e15;
  const Json none = Json::object();
  // `rope_parameters` is the newer spelling, and holds rope_theta too.
  const Json* value = fields.Find("rope_parameters");
  const bool newer = value != nullptr;
  if (value == nullptr) value = fields.Find("rope_scaling");
  FieldReader scaling(value != nullptr ? *value : none,
                      absl::StrCat(kConfig, ": ", newer ? "rope_parameters" : "rope_scaling"));
  double theta = fields.Number("rope_theta", 1, kMaxTheta, 10000);
  if (newer) theta = scaling.Number("rope_theta", 1, kMaxTheta, theta);
  const char* type_field = scaling.Has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.String(type_field, "default");

  std::vector<double> inv_freq(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    inv_freq[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  }
  if (type == "linear" || type == "llama3") {
    const double factor = scaling.Number("factor", 1, 1e6);
    if (type == "llama3") {
      ScaleAsLlama3(scaling, factor, inv_freq);
    } else {
      for (double& frequency : inv_freq) frequency /= factor;
    }
  } else if (type != "default") {
    scaling.Unsupported(type_field, type, "only default, linear and llama3 are supported");
  }
  RASQ_RETURN_IF_ERROR(scaling.status());
  return inv_freq;
}

// `eos_token_id` is an integer or a list of them.
void AddEos(FieldReader& fields, int64_t vocab, std::vector<int32_t>& ids) {
  const Json* value = fields.Find("eos_token_id");
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    const std::optional<int64_t> id = FieldReader::AsInt(item);
    if (!id || *id < 0 || *id >= vocab) {
      return fields.Bad("eos_token_id", item, absl::StrCat("an integer in [0, ", vocab - 1, "]"));
    }
    if (std::find(ids.begin(), ids.end(), *id) == ids.end()) {
      ids.push_back(static_cast<int32_t>(*id));
    }
  }
}

void ReadSummaries(FieldReader& fields, MemoryConfig& memory) {
  memory.num_summaries =
      static_cast<int32_t>(fields.Int("summary_slots", 0, kMaxSummaries, memory.num_summaries));
  memory.summary_decay =
      static_cast<float>(fields.Number("summary_decay", 0, kMaxSummaryDecay, memory.summary_decay));
  if (fields.status().ok() && memory.num_summaries > 0 && memory.num_clusters > 0) {
    fields.Bad("summary_slots", memory.num_summaries, "0 in a model with clusters");
  }
}

// What says how many entries are read: the head's factors, the most, the floor.
void ReadBudget(FieldReader& fields, MemoryConfig& memory) {
  memory.budget_factors = ReadBudgetFactors(fields);
  const int64_t most = memory.has_budget_head()
                           ? LargestBudget(memory.budget_factors, memory.budget)
                           : memory.budget;
  memory.max_budget = static_cast<int32_t>(fields.Int(
      "max_retrieval_budget_tokens", 1, kMaxMemoryTokens, std::min(most, kMaxMemoryTokens)));
  constexpr double kLargest = 1e30;
  if (fields.Has("score_floor")) {
    memory.score_floor = static_cast<float>(fields.Number("score_floor", -kLargest, kLargest));
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view config_json,
                                             absl::string_view generation_config_json) {
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(config_json, kConfig));
  FieldReader fields(json, kConfig);
  const std::string type_name = fields.String("model_type");
  RASQ_RETURN_IF_ERROR(fields.status());
  const auto* type = std::find_if(std::begin(kModelTypes), std::end(kModelTypes),
                                  [&](const ModelType& t) { return t.name == type_name; });
  if (type == std::end(kModelTypes)) {
    fields.Unsupported("model_type", type_name,
                       "only llama, mistral, qwen2 and qwen3 are supported");
    return fields.status();
  }
  RefuseUnsupported(*type, fields);

  ModelConfig config;
  config.architecture = std::string(type->architecture);
  if (const Json* names = fields.Find("architectures")) {
    if (names->is_array() && names->size() == 1 && names->front().is_string()) {
      config.architecture = names->front().get<std::string>();
    } else {
      fields.Bad("architectures", *names, "a list of one name");
    }
  }
  config.qkv_bias = type->qkv_bias;
  config.qk_norm = type->qk_norm;
  const auto read = [&](const char* name, int64_t max, std::optional<int64_t> fallback = {}) {
    return static_cast<int32_t>(fields.Int(name, 1, max, fallback));
  };
  config.vocab = read("vocab_size", kMaxVocab);
  config.hidden = read("hidden_size", kMaxHidden);
  config.intermediate = read("intermediate_size", kMaxIntermediate);
  config.num_layers = read("num_hidden_layers", kMaxLayers);
  config.num_heads = read("num_attention_heads", kMaxHeads);
  config.num_kv_heads = read("num_key_value_heads", kMaxHeads, config.num_heads);
  config.head_dim = read("head_dim", kMaxHeadDim, config.hidden / config.num_heads);
  config.max_positions = read("max_position_embeddings", kMaxPositions);
  config.rms_norm_epsilon = static_cast<float>(fields.Number("rms_norm_eps", 1e-20, 1, 1e-6));
  config.tie_embeddings = fields.Bool("tie_word_embeddings", false);
  if (fields.Has("bos_token_id")) {
    config.bos_token_id = static_cast<int32_t>(fields.Int("bos_token_id", 0, config.vocab - 1));
  }
  RASQ_RETURN_IF_ERROR(fields.status());

  if (!fields.Has("head_dim") && config.hidden % config.num_heads != 0) {
    fields.Bad("hidden_size", config.hidden, "a multiple of num_attention_heads");
  }
  if (config.head_dim < 2 || config.head_dim > kMaxHeadDim || config.head_dim % 2 != 0) {
    fields.Bad("head_dim", config.head_dim, absl::StrCat("even and in [2, ", kMaxHeadDim, "]"));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.Bad("num_key_value_heads", config.num_kv_heads, "a divisor of num_attention_heads");
  }
  AddEos(fields, config.vocab, config.eos_token_ids);
  RASQ_RETURN_IF_ERROR(fields.status());
  if (!generation_config_json.empty()) {
    RASQ_ASSIGN_OR_RETURN(const Json generation,
                          ParseJson(generation_config_json, kGenerationConfig));
    FieldReader generation_fields(generation, kGenerationConfig);
    AddEos(generation_fields, config.vocab, config.eos_token_ids);
    RASQ_RETURN_IF_ERROR(generation_fields.status());
  }
  RASQ_ASSIGN_OR_RETURN(config.inv_freq, InverseFrequencies(fields, config.head_dim));
  RASQ_RETURN_IF_ERROR(fields.status());
  return config;
}

int32_t MemoryConfig::RetrievalIndex(int32_t layer) const {
  const auto after = std::upper_bound(retrieval_layers.begin(), retrieval_layers.end(), layer);
  return static_cast<int32_t>(after - retrieval_layers.begin()) - 1;
}

absl::StatusOr<MemoryConfig> ParseMemoryConfig(absl::string_view json, const ModelConfig& model) {
  RASQ_ASSIGN_OR_RETURN(const Json parsed, ParseJson(json, kMemoryConfig));
  FieldReader fields(parsed, kMemoryConfig);
  fields.Int("format_version", 1, 1);
  const auto read = [&](const char* name, int64_t min, int64_t max) {
    return static_cast<int32_t>(fields.Int(name, min, max));
  };
  MemoryConfig memory;
  memory.segment = read("segment_tokens", 1, model.max_positions);
  memory.window = read("window_tokens", 1, model.max_positions);
  if (fields.status().ok() && memory.window > model.max_positions - memory.segment) {
    fields.Bad("window_tokens", memory.window,
               "at most max_position_embeddings less segment_tokens");
  }
  memory.sinks = read("sink_tokens", 0, memory.window);
  memory.capacity = read("buffer_capacity_tokens", 1, kMaxMemoryTokens);
  memory.budget = read("retrieval_budget_tokens", 1, memory.capacity);
  memory.index_dim = read("retrieval_dim", 1, kMaxMemoryDim);
  memory.compressed_dim = read("compressed_dim", 1, kMaxMemoryDim);
  const auto read_or = [&](const char* name, int64_t min, int64_t max, int64_t fallback) {
    return static_cast<int32_t>(fields.Int(name, min, max, fallback));
  };
  memory.num_clusters = read_or("clusters", 0, kMaxMemoryClusters, memory.num_clusters);
  memory.read_clusters = read_or("read_clusters", 1, kMaxMemoryClusters, memory.read_clusters);
  memory.cluster_min_entries =
      read_or("cluster_min_entries", 0, kMaxMemoryTokens, memory.cluster_min_entries);
  ReadSummaries(fields, memory);
  ReadBudget(fields, memory);
  const Json* layers = fields.Find("retrieval_layers");
  if (layers == nullptr || !layers->is_array() || layers->empty()) {
    fields.Bad("retrieval_layers", layers != nullptr ? *layers : Json(), "a list of layers");
    return fields.status();
  }
  for (const Json& item : *layers) {
    const std::optional<int64_t> layer = FieldReader::AsInt(item);
    const int64_t least = memory.retrieval_layers.empty() ? 0 : memory.retrieval_layers.back() + 1;
    if (!layer || *layer < least || *layer >= model.num_layers) {
      fields.Bad("retrieval_layers", item,
                 absl::StrCat("a layer in [", least, ", ", model.num_layers - 1, "], ascending"));
      return fields.status();
    }
    memory.retrieval_layers.push_back(static_cast<int32_t>(*layer));
  }
  RASQ_RETURN_IF_ERROR(fields.status());
  return memory;
}

}  // namespace rasq
