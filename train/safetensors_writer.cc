#include "train/safetensors_writer.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq::train {
namespace {

constexpr size_t kAlignment = 8;

const char* TypeName(torch::ScalarType type) {
  switch (type) {
    case torch::kBFloat16:
      return "BF16";
    case torch::kInt32:
      return "I32";
    case torch::kInt64:
      return "I64";
    default:
      RASQ_CHECK(type == torch::kFloat32);
      return "F32";
  }
}

absl::Status Unwritable(const std::string& path) {
  return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
}

// What is written under another name takes the file's place when it is complete.
template <typename Write>
absl::Status WriteWhole(const std::string& path, const Write& write) {
  const std::string partial = absl::StrCat(path, ".partial");
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  write(file);
  file.close();
  if (!file || std::rename(partial.c_str(), path.c_str()) != 0) {
    std::remove(partial.c_str());
    return Unwritable(path);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path,
                              const std::map<std::string, Tensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
    header[name] = {{"dtype", TypeName(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const uint64_t size = text.size();
  return WriteWhole(path, [&](std::ofstream& file) {
    file.write(reinterpret_cast<const char*>(&size), sizeof(size));
    file << text;
    for (const auto& [name, tensor] : tensors) {
      const Tensor plain = tensor.detach().cpu().contiguous();
      file.write(static_cast<const char*>(plain.data_ptr()),
                 plain.numel() * static_cast<int64_t>(plain.element_size()));
    }
  });
}

absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  return WriteWhole(path, [&](std::ofstream& file) { file << text; });
}

}  // namespace rasq::train
