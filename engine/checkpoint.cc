#include "engine/checkpoint.h"

#include <sys/stat.h>

#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr char kWeights[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kAdapterConfig[] = "rasq_config.json";
constexpr char kAdapterWeights[] = "rasq.safetensors";

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// The file's text, or nothing if there is no such file.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& path) {
  if (!Exists(path)) return std::optional<std::string>();
  RASQ_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  return std::optional<std::string>(std::move(text));
}

// A 128-bit hash of a sequence of fields. Each lane's step is a bijection of the lane for a given
// word, and of the word for a given lane, so two inputs of one length that differ in one word never
// agree. Two multiplications per eight bytes: it keeps up with the disk. It tells models apart; it
// is no defence against someone who wants two to look alike.
class Fingerprint {
 public:
  void Add(absl::string_view bytes) {
    Mix(bytes.size());
    const char* p = bytes.data();
    size_t left = bytes.size();
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), p += sizeof(uint64_t)) {
      uint64_t word;
      std::memcpy(&word, p, sizeof(word));
      Mix(word);
    }
    uint64_t tail = 0;
    std::memcpy(&tail, p, left);
    Mix(tail);
  }
  void Add(int64_t number) { Mix(static_cast<uint64_t>(number)); }

  std::string Hex() {
    Mix(0);
    Mix(0);  // spreads the last word over both lanes
    return absl::StrCat(absl::Hex(a_, absl::kZeroPad16), absl::Hex(b_, absl::kZeroPad16));
  }

 private:
  // The multipliers are odd (so bijective): the 64-bit golden ratio, and the one of splitmix64.
  void Mix(uint64_t word) {
    a_ = (a_ ^ word) * 0x9e3779b97f4a7c15u;
    b_ = (b_ ^ word) * 0xbf58476d1ce4e5b9u;
    a_ ^= a_ >> 32;
    b_ ^= b_ >> 29;
  }

  uint64_t a_ = 0x243f6a8885a308d3u;  // digits of pi
  uint64_t b_ = 0x13198a2e03707344u;
};

// Which file holds which tensor, as model.safetensors.index.json says.
using Index = std::map<std::string, std::string>;

absl::StatusOr<Index> ParseIndex(absl::string_view text, absl::string_view where) {
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  FieldReader fields(json, where);
  const Json* weight_map = fields.Find("weight_map");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (weight_map == nullptr || !weight_map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": weight_map is not an object"));
  }
  Index file_of;
  for (const auto& [tensor, value] : weight_map->items()) {
    // A plain name of this directory: an index may not reach for files elsewhere.
    const std::string file = value.is_string() ? value.get<std::string>() : std::string();
    if (!absl::EndsWith(file, ".safetensors") || absl::StartsWith(file, ".") ||
        file.find_first_of("/\\\0", 0, 3) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": weight_map: ", tensor, "=",
                                                     ShowJson(value),
                                                     " is not the name of a safetensors file"));
    }
    file_of.emplace(tensor, file);
  }
  return file_of;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& directory,
                                                             LoadFormat format) {
  const auto path = [&](absl::string_view file) { return absl::StrCat(directory, "/", file); };
  const auto located = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(directory, "/", status.message()));
  };
  auto checkpoint = std::unique_ptr<Checkpoint>(new Checkpoint);
  checkpoint->directory_ = directory;
  checkpoint->format_ = format;
  Fingerprint fingerprint;

  RASQ_ASSIGN_OR_RETURN(const std::string config, ReadTextFile(path("config.json")));
  RASQ_ASSIGN_OR_RETURN(const auto generation, ReadIfThere(path("generation_config.json")));
  auto model = ParseModelConfig(config, generation.value_or(""));
  if (!model.ok()) return located(model.status());
  checkpoint->model_ = *std::move(model);
  fingerprint.Add(config);

  RASQ_ASSIGN_OR_RETURN(const auto adapter, ReadIfThere(path(kAdapterConfig)));
  if (!checkpoint->is_dummy() && adapter.has_value() != Exists(path(kAdapterWeights))) {
    return absl::NotFoundError(absl::StrCat(path(adapter ? kAdapterWeights : kAdapterConfig),
                                            ": not found, but its counterpart is there"));
  }
  if (adapter) {
    auto memory = ParseMemoryConfig(*adapter, checkpoint->model_);
    if (!memory.ok()) return located(memory.status());
    checkpoint->memory_ = *std::move(memory);
    fingerprint.Add(*adapter);
  }

  if (checkpoint->is_dummy()) {
    checkpoint->dummy_shapes_ = MakeTensorShapes(checkpoint->model_, checkpoint->memory_);
    fingerprint.Add("dummy");
    for (const auto& [name, shape] : checkpoint->dummy_shapes_) {
      int64_t elements = 1;
      fingerprint.Add(name);
      fingerprint.Add(static_cast<int64_t>(shape.size()));
      for (const int64_t dim : shape) {
        fingerprint.Add(dim);
        elements *= dim;
      }
      checkpoint->num_parameters_ += elements;
    }
    checkpoint->fingerprint_ = fingerprint.Hex();
    return checkpoint;
  }

  // Takes the tensors of one file; if there is an index, those that it says the file holds.
  const auto add_file = [&](const std::string& name, const Index* index) -> absl::Status {
    RASQ_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path(name)));
    for (const auto& [tensor_name, tensor] : file->tensors()) {
      if (index != nullptr) {
        const auto listed = index->find(tensor_name);
        if (listed == index->end() || listed->second != name) continue;
      }
      const auto [it, added] = checkpoint->file_of_.emplace(tensor_name, name);
      if (!added) {
        return absl::InvalidArgumentError(
            absl::StrCat(path(name), ": tensor=", tensor_name, " is in ", it->second, " too"));
      }
      checkpoint->tensors_.emplace(tensor_name, tensor);
    }
    checkpoint->files_.push_back(std::move(file));
    return absl::OkStatus();
  };
  if (Exists(path(kWeights)) || !Exists(path(kIndex))) {
    RASQ_RETURN_IF_ERROR(add_file(kWeights, nullptr));
  } else {
    RASQ_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path(kIndex)));
    RASQ_ASSIGN_OR_RETURN(const Index index, ParseIndex(text, path(kIndex)));
    std::set<std::string> shards;
    for (const auto& entry : index) shards.insert(entry.second);
    for (const std::string& shard : shards) RASQ_RETURN_IF_ERROR(add_file(shard, &index));
    for (const auto& [tensor, shard] : index) {
      if (checkpoint->tensors_.count(tensor) == 0) {
        return absl::NotFoundError(absl::StrCat(path(shard), ": tensor=", tensor,
                                                " is missing, but ", kIndex, " names it"));
      }
    }
  }
  if (adapter) RASQ_RETURN_IF_ERROR(add_file(kAdapterWeights, nullptr));

  for (const auto& [name, tensor] : checkpoint->tensors_) {
    checkpoint->num_parameters_ += tensor.num_elements();
    fingerprint.Add(name);
    fingerprint.Add(static_cast<int64_t>(tensor.dtype));
    fingerprint.Add(static_cast<int64_t>(tensor.shape.size()));
    for (const int64_t dim : tensor.shape) fingerprint.Add(dim);
    fingerprint.Add({reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()});
  }
  checkpoint->fingerprint_ = fingerprint.Hex();
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Checkpoint::LoadTokenizer() const {
  auto tokenizer = Tokenizer::Load(directory_);
  if (is_dummy() && absl::IsNotFound(tokenizer.status())) return Tokenizer::OfBytes();
  return tokenizer;
}

absl::StatusOr<std::vector<float>> Checkpoint::Floats(absl::string_view name,
                                                      absl::Span<const int64_t> shape) const {
  if (is_dummy()) {
    const auto known = dummy_shapes_.find(std::string(name));
    RASQ_CHECK(known != dummy_shapes_.end() && absl::MakeConstSpan(known->second) == shape);
    return DummyFloats(name, shape);
  }
  const auto it = tensors_.find(std::string(name));
  if (it == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(directory_, ": tensor=", name, " is in no file"));
  }
  const std::string where =
      absl::StrCat(directory_, "/", file_of_.at(it->first), ": tensor=", name, ": ");
  const TensorView& tensor = it->second;
  if (absl::MakeConstSpan(tensor.shape) != shape) {
    return absl::InvalidArgumentError(absl::StrCat(where, "shape=[",
                                                   absl::StrJoin(tensor.shape, ", "), "] is not [",
                                                   absl::StrJoin(shape, ", "), "]"));
  }
  auto floats = tensor.ToFloats();
  if (!floats.ok()) {
    return absl::Status(floats.status().code(), absl::StrCat(where, floats.status().message()));
  }
  return floats;
}

}  // namespace rasq
