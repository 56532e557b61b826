// The tiny model of tests/testdata with a budget head beside its adapter: a checkpoint of its own,
// since the head was trained for no model yet.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tensors.h"

namespace rasq::testing {

class TinyWithBudgetHead {
 public:
  // Random heads, of weights so large that segments differ in what they choose.
  explicit TinyWithBudgetHead(const std::vector<float>& factors) {
    const std::string tiny = SourcePath("tests/testdata/tiny/");
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(tiny + name, path() + "/" + name);
    }
    nlohmann::json config = nlohmann::json::parse(std::ifstream(tiny + "rasq_config.json"));
    config["budget_factors"] = factors;
    std::ofstream(path() + "/rasq_config.json") << config.dump();

    const auto adapter = SafetensorsFile::Open(tiny + "rasq.safetensors");
    RASQ_CHECK(adapter.ok());
    for (const auto& [name, tensor] : (*adapter)->tensors()) {
      Add(name, tensor.shape, *tensor.ToFloats());
    }
    const auto num_factors = static_cast<int64_t>(factors.size());
    const int64_t dim = config.at("retrieval_dim");
    for (const int layer : config.at("retrieval_layers")) {
      const std::string head = "layers." + std::to_string(layer) + ".retriever.budget.";
      Add(head + "weight", {num_factors, dim}, RandomFloats(num_factors * dim, layer, 20));
      Add(head + "bias", {num_factors}, RandomFloats(num_factors, 10 + layer));
    }
    const std::string header = header_.dump();
    const auto size = static_cast<uint64_t>(header.size());
    std::ofstream file(path() + "/rasq.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof(size));
    file << header;
    file.write(reinterpret_cast<const char*>(data_.data()),
               static_cast<int64_t>(data_.size() * sizeof(float)));
    RASQ_CHECK(file.good());
  }

  const std::string& path() const { return directory_.path(); }

 private:
  void Add(const std::string& name, const std::vector<int64_t>& shape,
           const std::vector<float>& values) {
    const size_t begin = data_.size() * sizeof(float);
    data_.insert(data_.end(), values.begin(), values.end());
    header_[name] = {{"dtype", "F32"},
                     {"shape", shape},
                     {"data_offsets", {begin, data_.size() * sizeof(float)}}};
  }

  TemporaryDirectory directory_;
  nlohmann::json header_;
  std::vector<float> data_;
};

}  // namespace rasq::testing
