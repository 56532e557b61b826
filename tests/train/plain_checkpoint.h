// A decoder on disk that never saw a memory, with a tokenizer, and some text beside it.
#pragma once

#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/small_tokenizer.h"
#include "tests/support/temporary_directory.h"
#include "train/decoder.h"
#include "train/training_state.h"

namespace rasq::train::testing {

inline constexpr char kPlainConfig[] = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 300,
  "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 6,
  "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "max_position_embeddings": 256, "tie_word_embeddings": false})";

// In `model` and `data`.
class PlainCheckpoint {
 public:
  PlainCheckpoint() {
    for (const char* name : {"model", "data"}) std::filesystem::create_directories(Path(name));
    WriteFile(Path("model/config.json"), kPlainConfig);
    WriteFile(Path("model/tokenizer.json"), SmallTokenizerJson(kGpt2PreTokenizer).dump());
    torch::manual_seed(5);
    const Decoder decoder = Decoder::Make(*ParseModelConfig(kPlainConfig, ""), MemoryConfig());
    const torch::NoGradGuard no_grad;
    for (const auto& [name, parameter] : decoder.parameters()) {
      // Large enough that attention has preferences, and biases that count.
      if (parameter.dim() == 2) Tensor(parameter).mul_(8);
      if (name.ends_with(".bias")) Tensor(parameter).add_(torch::randn_like(parameter));
    }
    EXPECT_TRUE(WriteModel(Path("model"), decoder).ok());
    std::string text;
    for (int i = 0; i < 3000; ++i) {
      text += "the " + std::to_string(i * i % 977) + (i % 7 == 0 ? " ring.\n" : " thing ");
    }
    WriteFile(Path("data/text.txt"), text);
  }
  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }

 private:
  rasq::testing::TemporaryDirectory directory_;
};

}  // namespace rasq::train::testing
