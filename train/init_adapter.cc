#include "train/init_adapter.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "kernels/base/status.h"
#include "train/batch.h"
#include "train/calibration.h"
#include "train/data/training_data.h"
#include "train/decoder.h"
#include "train/safetensors_writer.h"

namespace rasq::train {
namespace {

namespace fs = std::filesystem;

constexpr char kConfigFile[] = "rasq_config.json";
constexpr char kWeightsFile[] = "rasq.safetensors";
constexpr int32_t kLayersApart = 4;
constexpr int32_t kIndexDim = 128;

absl::Status Unwritable(const fs::path& path, const std::error_code& error) {
  return absl::UnavailableError(absl::StrCat(path.string(), ": ", error.message()));
}

// Configs and tokenizer as copies, so that they can be edited; weights as links.
absl::Status CopyDecoder(const fs::path& from, const fs::path& to) {
  std::error_code error, ignored;
  fs::create_directories(to, error);
  if (error) return Unwritable(to, error);
  if (fs::equivalent(from, to, error)) return absl::OkStatus();
  for (const fs::directory_entry& entry : fs::directory_iterator(from, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool is_weights = absl::EndsWith(name, ".safetensors");
    if (!is_weights && !absl::EndsWith(name, ".json")) continue;
    // A file in a cache of downloads may be a link to where it lies.
    const fs::path source = fs::canonical(entry.path(), error), target = to / name;
    if (error || !fs::is_regular_file(source, ignored)) continue;
    fs::remove(target, ignored);
    if (is_weights) fs::create_hard_link(source, target, error);
    if (!is_weights || error) fs::copy_file(source, target, error);
    if (error) return Unwritable(target, error);
  }
  return absl::OkStatus();
}

// Streams of plain text, always the same.
absl::StatusOr<Tensor> CalibrationTokens(const InitOptions& options, const Checkpoint& checkpoint,
                                         const MemoryConfig& memory) {
  const int64_t tokens = CalibrationStreamTokens(memory);
  if (tokens > checkpoint.model().max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("window_tokens=", memory.window, ": calibration takes streams of ", tokens,
                     " tokens, but max_position_embeddings=", checkpoint.model().max_positions));
  }
  RASQ_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, checkpoint.LoadTokenizer());
  RASQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<TrainingData> data,
      TrainingData::Load(options.data, *tokenizer, tasks::Split::kTraining, options.threads));
  RASQ_ASSIGN_OR_RETURN(const std::shared_ptr<const StreamMixture> mixture,
                        data->Mix(Json{{"text", 1}}, /*seed=*/1, memory.segment));
  std::vector<TrainingStream> streams;
  for (int64_t i = 0; i * tokens < options.calibration_tokens; ++i) {
    streams.push_back(mixture->Make(i, tokens));
  }
  return MakeBatch(streams, options.device).tokens;
}

void Report(const Calibration& calibration) {
  for (const LayerFit& fit : calibration.layers) {
    std::printf("layer %2ld: keeps %.3f of keys, %.3f of values", fit.layer, fit.keys, fit.values);
    if (fit.temperature > 0) {
      std::printf("; index keeps %.3f of logits, temperature %.2f", fit.logits, fit.temperature);
    }
    std::printf("\n");
  }
}

}  // namespace

absl::StatusOr<AdapterConfig> MakeAdapterConfig(const AdapterShape& shape,
                                                const ModelConfig& model) {
  const int32_t kv_width = model.num_kv_heads * model.head_dim;
  std::vector<int32_t> layers = shape.retrieval_layers;
  if (layers.empty()) {
    const int32_t first = std::min(std::max(1, model.num_layers / 8), model.num_layers - 1);
    for (int32_t l = first; l < model.num_layers; l += kLayersApart) layers.push_back(l);
  }
  const nlohmann::ordered_json json = {
      {"format_version", 1},
      {"segment_tokens", shape.segment},
      {"window_tokens", shape.window},
      {"sink_tokens", shape.sinks},
      {"buffer_capacity_tokens", shape.capacity},
      {"retrieval_budget_tokens", shape.budget},
      {"retrieval_layers", layers},
      {"retrieval_dim", shape.index_dim > 0 ? shape.index_dim : std::min(kIndexDim, kv_width)},
      {"compressed_dim", shape.compressed_dim > 0 ? shape.compressed_dim : model.head_dim / 2}};
  AdapterConfig config{.json = json.dump(2) + "\n"};
  RASQ_ASSIGN_OR_RETURN(config.memory, ParseMemoryConfig(config.json, model));
  if (config.memory.compressed_dim > model.head_dim) {
    return absl::InvalidArgumentError(absl::StrCat("compressed_dim=", config.memory.compressed_dim,
                                                   ": at most head_dim=", model.head_dim));
  }
  return config;
}

absl::Status InitAdapter(const InitOptions& options) {
  RASQ_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                        Checkpoint::Open(options.model));
  if (checkpoint->memory().has_memory()) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.model, "/", kConfigFile, ": there is an adapter already"));
  }
  RASQ_ASSIGN_OR_RETURN(const AdapterConfig config,
                        MakeAdapterConfig(options.shape, checkpoint->model()));
  RASQ_ASSIGN_OR_RETURN(const Tensor tokens,
                        CalibrationTokens(options, *checkpoint, config.memory));
  RASQ_ASSIGN_OR_RETURN(Decoder decoder, Decoder::Load(*checkpoint));
  decoder.MoveTo(options.device);
  const Calibration calibration = Calibrate(decoder, config.memory, tokens);
  Report(calibration);
  RASQ_RETURN_IF_ERROR(CopyDecoder(options.model, options.output));
  RASQ_RETURN_IF_ERROR(
      WriteSafetensors(absl::StrCat(options.output, "/", kWeightsFile), calibration.tensors));
  return WriteTextFile(absl::StrCat(options.output, "/", kConfigFile), config.json);
}

}  // namespace rasq::train
