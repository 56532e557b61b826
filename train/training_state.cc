#include "train/training_state.h"

#include <charconv>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/json_reader.h"
#include "engine/safetensors.h"
#include "kernels/base/status.h"
#include "train/safetensors_writer.h"

namespace rasq::train {
namespace {

namespace fs = std::filesystem;

constexpr char kState[] = "/training.safetensors";
constexpr char kProgress[] = "/training.json";
constexpr absl::string_view kParameter = "parameter.";
constexpr absl::string_view kOptimizer = "optimizer.";
// What the model's files are beside its tensors; those that are there are copied.
constexpr const char* kCopied[] = {"config.json", "generation_config.json", "rasq_config.json",
                                   "tokenizer.json", "tokenizer_config.json"};

absl::Status CopyConfigs(const std::string& from, const std::string& to) {
  std::error_code error;
  if (fs::equivalent(from, to, error)) return absl::OkStatus();
  for (const char* name : kCopied) {
    const fs::path source = fs::path(from) / name;
    if (!fs::exists(source, error)) continue;
    fs::copy_file(source, fs::path(to) / name, fs::copy_options::overwrite_existing, error);
    if (error) return absl::UnavailableError(absl::StrCat(to, "/", name, ": cannot be written"));
  }
  return absl::OkStatus();
}

// The shortest number that reads as this one.
double Shortest(float value) {
  char text[32];
  const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
  double result = value;
  std::from_chars(std::begin(text), end, result);
  return result;
}

// The source's adapter knows nothing of what this run has changed of its memory.
absl::Status WriteMemory(const std::string& directory, const MemoryConfig& memory) {
  const std::string path = directory + "/rasq_config.json";
  RASQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  auto config = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": not an object"));
  const auto before = config;
  if (memory.has_budget_head() && !config.contains("budget_factors")) {
    config["budget_factors"] = memory.budget_factors;
  }
  if (memory.num_summaries > 0) {
    config["summary_slots"] = memory.num_summaries;
    config["summary_decay"] = Shortest(memory.summary_decay);
  }
  if (memory.num_clusters > 0) {
    config["clusters"] = memory.num_clusters;
    config["read_clusters"] = memory.read_clusters;
    config["cluster_min_entries"] = memory.cluster_min_entries;
  } else if (config.contains("clusters")) {
    config["clusters"] = 0;
  }
  if (config == before) return absl::OkStatus();
  return WriteTextFile(path, config.dump(2) + "\n");
}

absl::StatusOr<Tensor> ToTensor(const TensorView& view) {
  if (view.dtype == FileDType::kInt64) {
    Tensor tensor = torch::empty(view.shape, torch::kInt64);
    std::memcpy(tensor.data_ptr(), view.data.data(), view.data.size());
    return tensor;
  }
  RASQ_ASSIGN_OR_RETURN(std::vector<float> values, view.ToFloats());
  return torch::from_blob(values.data(), view.shape, torch::kFloat32).clone();
}

}  // namespace

absl::Status WriteModel(const std::string& directory, const Decoder& decoder) {
  std::map<std::string, Tensor> model, adapter;
  for (const auto& [name, tensor] : decoder.parameters()) {
    (IsAdapterParameter(name) ? adapter : model)[name] = tensor.detach().to(torch::kBFloat16);
  }
  RASQ_RETURN_IF_ERROR(WriteSafetensors(absl::StrCat(directory, "/model.safetensors"), model));
  if (adapter.empty()) return absl::OkStatus();
  return WriteSafetensors(absl::StrCat(directory, "/rasq.safetensors"), adapter);
}

absl::Status SaveTraining(const std::string& directory, const std::string& source,
                          const Decoder& decoder, const std::map<std::string, Tensor>& optimizer,
                          const Progress& progress) {
  std::error_code error;
  fs::create_directories(directory, error);
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, tensor] : decoder.parameters()) {
    tensors[absl::StrCat(kParameter, name)] = tensor;
  }
  for (const auto& [name, tensor] : optimizer) tensors[absl::StrCat(kOptimizer, name)] = tensor;
  RASQ_RETURN_IF_ERROR(WriteSafetensors(directory + kState, tensors));
  nlohmann::json json = {{"tokens", progress.tokens},   {"steps", progress.steps},
                         {"streams", progress.streams}, {"skipped_steps", progress.skipped_steps},
                         {"seconds", progress.seconds}, {"baseline", nlohmann::json::object()}};
  for (const auto& [task, mean] : progress.baseline) json["baseline"][absl::StrCat(task)] = mean;
  RASQ_RETURN_IF_ERROR(WriteTextFile(directory + kProgress, json.dump(2) + "\n"));
  RASQ_RETURN_IF_ERROR(CopyConfigs(source, directory));
  RASQ_RETURN_IF_ERROR(WriteMemory(directory, decoder.memory()));
  return WriteModel(directory, decoder);
}

absl::StatusOr<TrainingState> LoadTraining(const std::string& directory) {
  const std::string path = directory + kProgress;
  RASQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  FieldReader fields(json, path);
  constexpr int64_t kMost = int64_t{1} << 60;
  TrainingState state;
  state.progress.tokens = fields.Int("tokens", 0, kMost);
  state.progress.steps = fields.Int("steps", 0, kMost);
  state.progress.streams = fields.Int("streams", 0, kMost);
  state.progress.skipped_steps = fields.Int("skipped_steps", 0, kMost);
  state.progress.seconds = fields.Number("seconds", 0, 1e12);
  RASQ_RETURN_IF_ERROR(fields.status());
  if (const Json* baseline = fields.Find("baseline");
      baseline != nullptr && baseline->is_object()) {
    for (const auto& [task, mean] : baseline->items()) {
      int32_t id;
      if (absl::SimpleAtoi(task, &id) && mean.is_number()) {
        state.progress.baseline[id] = mean.get<double>();
      }
    }
  }
  RASQ_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(directory + kState));
  for (const auto& [name, view] : file->tensors()) {
    RASQ_ASSIGN_OR_RETURN(Tensor tensor, ToTensor(view));
    absl::string_view rest = name;
    if (absl::ConsumePrefix(&rest, kParameter)) {
      state.parameters[std::string(rest)] = std::move(tensor);
    } else if (absl::ConsumePrefix(&rest, kOptimizer)) {
      state.optimizer[std::string(rest)] = std::move(tensor);
    }
  }
  return state;
}

absl::Status SetParameters(const std::map<std::string, Tensor>& values, const Decoder& decoder) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : decoder.parameters()) {
    const auto found = values.find(name);
    if (found == values.end() || found->second.sizes() != parameter.sizes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("training.safetensors: ", name, " is missing or of another shape"));
    }
    Tensor(parameter).copy_(found->second);
  }
  return absl::OkStatus();
}

}  // namespace rasq::train
