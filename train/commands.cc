#include "train/commands.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"
#include "train/data/bpe_trainer.h"
#include "train/data/training_data.h"
#include "train/decoder.h"
#include "train/plot.h"
#include "train/recipe.h"
#include "train/replicas.h"
#include "train/safetensors_writer.h"
#include "train/trainer.h"
#include "train/training_state.h"

namespace rasq::train {
namespace {

absl::Status Wants(const std::string& value, absl::string_view flag) {
  if (!value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be given"));
}

absl::StatusOr<torch::ScalarType> ParseType(const std::string& name, const torch::Device& device) {
  if (name == "float32" || (name == "auto" && device.is_cpu())) return torch::kFloat32;
  if (name == "bfloat16" || name == "auto") return torch::kBFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype=\"", name, "\": must be auto, float32 or bfloat16"));
}

// What the recipe changes of the model's memory.
absl::Status ChangeMemory(const Recipe& recipe, Decoder& decoder) {
  if (!recipe.budget_factors.empty()) {
    RASQ_RETURN_IF_ERROR(decoder.AddBudgetHead(recipe.budget_factors));
  }
  if (recipe.clusters.has_value()) {
    const MemoryConfig& own = decoder.memory();
    RASQ_RETURN_IF_ERROR(decoder.SetClusters(
        {.clusters = *recipe.clusters,
         .read = recipe.read_clusters.value_or(own.read_clusters),
         .min_entries = recipe.cluster_min_entries.value_or(own.cluster_min_entries)}));
  }
  if (recipe.summary_slots == 0) return absl::OkStatus();
  return decoder.AddSummaries(recipe.summary_slots, recipe.summary_decay);
}

// The run of `output` if there is one; else the weights of the decoder as they are.
absl::StatusOr<TrainingState> Resume(const std::string& output, const Decoder& decoder) {
  absl::StatusOr<TrainingState> state = LoadTraining(output);
  if (absl::IsNotFound(state.status())) {
    TrainingState fresh;
    fresh.parameters = decoder.parameters();
    return fresh;
  }
  RASQ_RETURN_IF_ERROR(state.status());
  RASQ_RETURN_IF_ERROR(SetParameters(state->parameters, decoder));
  std::printf("going on with %s after %.1f M tokens\n", output.c_str(),
              static_cast<double>(state->progress.tokens) / 1e6);
  return state;
}

absl::Status RunTraining(const TrainingFlags& flags, bool new_weights,
                         const std::atomic<bool>& stop) {
  RASQ_RETURN_IF_ERROR(Wants(flags.model, "model"));
  RASQ_RETURN_IF_ERROR(Wants(flags.output, "output"));
  RASQ_RETURN_IF_ERROR(Wants(flags.recipe, "recipe"));
  RASQ_RETURN_IF_ERROR(Wants(flags.data, "data"));
  RASQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.recipe));
  RASQ_ASSIGN_OR_RETURN(const Recipe recipe, ParseRecipe(text, flags.recipe));
  RASQ_ASSIGN_OR_RETURN(const std::vector<torch::Device> devices, ParseDevices(flags.device));
  RASQ_ASSIGN_OR_RETURN(const torch::ScalarType type, ParseType(flags.dtype, devices.front()));
  RASQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<Checkpoint> checkpoint,
      Checkpoint::Open(flags.model, new_weights ? LoadFormat::kDummy : LoadFormat::kCheckpoint));
  if (!checkpoint->memory().has_memory()) {
    return absl::FailedPreconditionError(
        absl::StrCat(flags.model, ": there is no rasq_config.json; rasq-train init makes one"));
  }
  torch::manual_seed(recipe.seed);
  std::unique_ptr<Decoder> decoder;
  if (new_weights) {
    decoder = std::make_unique<Decoder>(Decoder::Make(checkpoint->model(), checkpoint->memory()));
  } else {
    RASQ_ASSIGN_OR_RETURN(Decoder loaded, Decoder::Load(*checkpoint));
    decoder = std::make_unique<Decoder>(std::move(loaded));
  }
  RASQ_RETURN_IF_ERROR(ChangeMemory(recipe, *decoder));
  RASQ_ASSIGN_OR_RETURN(const TrainingState state, Resume(flags.output, *decoder));

  RASQ_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, checkpoint->LoadTokenizer());
  const int threads = flags.loader_threads * static_cast<int>(devices.size());
  RASQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<TrainingData> data,
      TrainingData::Load(flags.data, *tokenizer, tasks::Split::kTraining, threads));
  std::printf("%.1f M tokens of text\n", static_cast<double>(data->num_text_tokens()) / 1e6);

  std::error_code error;
  std::filesystem::create_directories(flags.output, error);
  TrainerOptions options{.source = flags.model,
                         .output = flags.output,
                         .devices = devices,
                         .compute = type,
                         .time_limit = flags.time_limit,
                         .save_interval = flags.save_interval,
                         .loader_threads = flags.loader_threads,
                         .log_steps = flags.log_steps};
  for (int32_t task = 0; task < kNumStreamTasks; ++task) {
    options.task_names.emplace_back(StreamTaskName(static_cast<StreamTask>(task)));
  }
  const StreamFactory streams = [&](const Phase& phase) -> absl::StatusOr<StreamSource> {
    RASQ_ASSIGN_OR_RETURN(const std::shared_ptr<const StreamMixture> mixture,
                          data->Mix(phase.mixture, recipe.seed, checkpoint->memory().segment));
    return [mixture, tokens = phase.stream_tokens](int64_t i) { return mixture->Make(i, tokens); };
  };
  RASQ_ASSIGN_OR_RETURN(const Progress progress,
                        Train(options, recipe, *decoder, state, streams, stop));
  std::printf("%s: %.1f M tokens in %ld steps\n", flags.output.c_str(),
              static_cast<double>(progress.tokens) / 1e6, progress.steps);
  return absl::OkStatus();
}

absl::Status RunInit(const TrainingFlags& flags) {
  RASQ_RETURN_IF_ERROR(Wants(flags.model, "model"));
  RASQ_RETURN_IF_ERROR(Wants(flags.output, "output"));
  RASQ_RETURN_IF_ERROR(Wants(flags.data, "data"));
  RASQ_ASSIGN_OR_RETURN(const std::vector<torch::Device> devices, ParseDevices(flags.device));
  InitOptions options{.model = flags.model,
                      .output = flags.output,
                      .data = flags.data,
                      .shape = flags.adapter,
                      .calibration_tokens = flags.calibration_tokens,
                      .device = devices.front(),
                      .threads = flags.loader_threads};
  for (const std::string& text : flags.retrieval_layers) {
    int32_t layer;
    if (!absl::SimpleAtoi(text, &layer)) {
      return absl::InvalidArgumentError(
          absl::StrCat("retrieval_layers=\"", text, "\": must be numbers with commas between"));
    }
    options.shape.retrieval_layers.push_back(layer);
  }
  return InitAdapter(options);
}

// The model's own adapter, or one that is made in the output first, goes on with a frozen decoder
// as the recipe's phases say.
absl::Status RunConvert(TrainingFlags flags, const std::atomic<bool>& stop) {
  RASQ_RETURN_IF_ERROR(Wants(flags.model, "model"));
  RASQ_RETURN_IF_ERROR(Wants(flags.output, "output"));
  const auto has_adapter = [](const std::string& directory) {
    std::error_code error;
    return std::filesystem::exists(directory + "/rasq_config.json", error);
  };
  if (!has_adapter(flags.model)) {
    if (!has_adapter(flags.output)) RASQ_RETURN_IF_ERROR(RunInit(flags));
    flags.model = flags.output;
  }
  return RunTraining(flags, /*new_weights=*/false, stop);
}

absl::Status RunTokenizer(const TrainingFlags& flags) {
  RASQ_RETURN_IF_ERROR(Wants(flags.data, "data"));
  RASQ_RETURN_IF_ERROR(Wants(flags.output, "output"));
  RASQ_ASSIGN_OR_RETURN(const std::vector<Document> documents,
                        TrainingData::ReadDocuments(flags.data, tasks::Split::kTraining));
  std::vector<absl::string_view> texts;
  for (const Document& document : documents) texts.push_back(document.text);
  RASQ_ASSIGN_OR_RETURN(
      const BpeFiles files,
      TrainBpe(texts, {.vocab_size = flags.vocab, .num_threads = flags.loader_threads}));
  std::error_code error;
  std::filesystem::create_directories(flags.output, error);
  RASQ_RETURN_IF_ERROR(WriteTextFile(flags.output + "/tokenizer.json", files.tokenizer_json));
  return WriteTextFile(flags.output + "/tokenizer_config.json", files.tokenizer_config_json);
}

absl::Status RunPlot(const TrainingFlags& flags) {
  RASQ_RETURN_IF_ERROR(Wants(flags.output, "output"));
  return PlotRun(flags.output);
}

}  // namespace

absl::Status RunCommand(absl::string_view command, const TrainingFlags& flags,
                        const std::atomic<bool>& stop) {
  try {  // libtorch throws; nothing of it leaves this folder
    if (command == "pretrain") return RunTraining(flags, /*new_weights=*/true, stop);
    if (command == "tune") return RunTraining(flags, /*new_weights=*/false, stop);
    if (command == "convert") return RunConvert(flags, stop);
    if (command == "init") return RunInit(flags);
    if (command == "tokenizer") return RunTokenizer(flags);
    if (command == "plot") return RunPlot(flags);
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
  return absl::InvalidArgumentError("there is no such command (see --help)");
}

}  // namespace rasq::train
