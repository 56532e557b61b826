// Copies of the tiny model of tests/testdata whose memory is another: for what no checkpoint in
// tests/testdata has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq::testing {

class TinyCheckpoint {
 public:
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  using Tensors = std::map<std::string, Tensor>;

  // `patch` is merged into rasq_config.json; `tensors` are the adapter's in place of those of the
  // same names, or beside them.
  explicit TinyCheckpoint(const nlohmann::json& patch, const Tensors& tensors = {}) {
    const std::string tiny = SourcePath("tests/testdata/tiny/");
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(tiny + name, path() + "/" + name);
    }
    nlohmann::json config = nlohmann::json::parse(std::ifstream(tiny + "rasq_config.json"));
    config.merge_patch(patch);
    std::ofstream(path() + "/rasq_config.json") << config.dump();

    const auto adapter = SafetensorsFile::Open(tiny + "rasq.safetensors");
    RASQ_CHECK(adapter.ok());
    Tensors all = tensors;
    for (const auto& [name, tensor] : (*adapter)->tensors()) {
      all.try_emplace(name, Tensor{tensor.shape, *tensor.ToFloats()});
    }
    WriteAdapter(all);
  }

  const std::string& path() const { return directory_.path(); }

 private:
  void WriteAdapter(const Tensors& tensors) const {
    nlohmann::json header;
    std::vector<float> data;
    for (const auto& [name, tensor] : tensors) {
      const size_t begin = data.size() * sizeof(float);
      data.insert(data.end(), tensor.values.begin(), tensor.values.end());
      header[name] = {{"dtype", "F32"},
                      {"shape", tensor.shape},
                      {"data_offsets", {begin, data.size() * sizeof(float)}}};
    }
    const std::string text = header.dump();
    const auto size = static_cast<uint64_t>(text.size());
    std::ofstream file(path() + "/rasq.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof(size));
    file << text;
    file.write(reinterpret_cast<const char*>(data.data()),
               static_cast<int64_t>(data.size() * sizeof(float)));
    RASQ_CHECK(file.good());
  }

  TemporaryDirectory directory_;
};

}  // namespace rasq::testing
