#include "engine/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace rasq {
namespace {

namespace fs = std::filesystem;

constexpr char kTiny[] = RASQ_SOURCE_DIR "/tests/testdata/tiny";

void Write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A safetensors file with one tensor [1] of float32.
std::string OneTensor(const std::string& name, float value) {
  const std::string header =
      "{\"" + name + R"(": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})";
  const uint64_t size = header.size();
  std::string bytes(sizeof(size) + header.size() + sizeof(value), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  std::memcpy(bytes.data() + sizeof(size), header.data(), header.size());
  std::memcpy(bytes.data() + sizeof(size) + header.size(), &value, sizeof(value));
  return bytes;
}

// A folder of the test's own, with the tiny model's config.json in it.
class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = fs::path(testing::TempDir()) / ("checkpoint_" + std::string(info->name()));
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    fs::copy(fs::path(kTiny) / "config.json", directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  void ExpectFault(const std::string& part) {
    const auto opened = Checkpoint::Open(directory_.string());
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.status().message().find(part), absl::string_view::npos) << opened.status();
    EXPECT_NE(opened.status().message().find(directory_.string()), absl::string_view::npos)
        << opened.status();
  }
  std::string FingerprintOf() {
    return Checkpoint::Open(directory_.string()).value()->fingerprint();
  }

  fs::path directory_;
};

TEST_F(CheckpointTest, OpensTheTinyModel) {
  const auto opened = Checkpoint::Open(kTiny);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Checkpoint& checkpoint = **opened;
  EXPECT_EQ(checkpoint.directory(), kTiny);
  EXPECT_EQ(checkpoint.model().vocab, 256);
  EXPECT_EQ(checkpoint.memory().capacity, 24);
  EXPECT_EQ(checkpoint.fingerprint().size(), 32);
  EXPECT_GT(checkpoint.num_parameters(), 0);
  const auto floats = checkpoint.Floats("model.embed_tokens.weight", {256, 64});
  ASSERT_TRUE(floats.ok()) << floats.status();
  EXPECT_EQ(floats->size(), 256 * 64);
  EXPECT_TRUE(checkpoint.Floats("layers.1.memory.key_down.weight", {2, 8, 16}).ok());

  EXPECT_EQ(checkpoint.Floats("none", {1}).status().code(), absl::StatusCode::kNotFound);
  const auto wrong = checkpoint.Floats("model.embed_tokens.weight", {64, 256});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(wrong.status().message().find("model.safetensors: tensor=model.embed_tokens.weight"),
            absl::string_view::npos)
      << wrong.status();
}

TEST_F(CheckpointTest, ModelWithoutAnAdapterHasNoMemory) {
  Write(directory_ / "model.safetensors", OneTensor("a", 1));
  const auto opened = Checkpoint::Open(directory_.string());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_FALSE((*opened)->memory().has_memory());
  EXPECT_EQ((*opened)->num_parameters(), 1);
}

TEST_F(CheckpointTest, HalfAnAdapterIsRefused) {
  Write(directory_ / "model.safetensors", OneTensor("a", 1));
  fs::copy(fs::path(kTiny) / "rasq_config.json", directory_);
  ExpectFault("rasq.safetensors: not found");
  fs::remove(directory_ / "rasq_config.json");
  Write(directory_ / "rasq.safetensors", OneTensor("b", 1));
  ExpectFault("rasq_config.json: not found");
}

TEST_F(CheckpointTest, FaultsNameTheFile) {
  ExpectFault("model.safetensors: not found");
  Write(directory_ / "model.safetensors", "x");
  ExpectFault("model.safetensors: bytes=1");
  Write(directory_ / "config.json", "{}");
  ExpectFault("config.json: model_type is missing");
  fs::remove(directory_ / "config.json");
  ExpectFault("config.json: not found");
}

TEST_F(CheckpointTest, TensorInBothFilesIsRefused) {
  Write(directory_ / "model.safetensors", OneTensor("a", 1));
  fs::copy(fs::path(kTiny) / "rasq_config.json", directory_);
  Write(directory_ / "rasq.safetensors", OneTensor("a", 1));
  ExpectFault("rasq.safetensors: tensor=a is in model.safetensors too");
}

TEST_F(CheckpointTest, ReadsShards) {
  Write(directory_ / "m-1.safetensors", OneTensor("a", 1));
  Write(directory_ / "m-2.safetensors", OneTensor("b", 2));
  Write(directory_ / "model.safetensors.index.json",
        R"({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})");
  const auto opened = Checkpoint::Open(directory_.string());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->Floats("b", {1}).value(), std::vector<float>{2});
  EXPECT_EQ((*opened)->num_parameters(), 2);
}

TEST_F(CheckpointTest, HostileIndexIsRefused) {
  Write(directory_ / "m-1.safetensors", OneTensor("a", 1));
  const fs::path index = directory_ / "model.safetensors.index.json";
  for (const char* shard :
       {"../m.safetensors", "/etc/m.safetensors", "a/b.safetensors", "passwd", ".safetensors", "..",
        "", "a\\\\b.safetensors", "a\\u0000.safetensors"}) {
    Write(index, std::string(R"({"weight_map": {"a": ")") + shard + "\"}}");
    ExpectFault("is not the name of a safetensors file");
  }
  Write(index, R"({"weight_map": {"a": 7}})");
  ExpectFault("a=7 is not the name");
  Write(index, R"({"weight_map": {"a": "m-9.safetensors"}})");
  ExpectFault("m-9.safetensors: not found");
  Write(index, R"({"weight_map": {"b": "m-1.safetensors"}})");
  ExpectFault("m-1.safetensors: tensor=b is missing");
  Write(index, R"({"weight_map": []})");
  ExpectFault("weight_map is not an object");
  Write(index, R"([])");
  ExpectFault("not an object");
}

TEST_F(CheckpointTest, FingerprintTellsModelsApart) {
  Write(directory_ / "model.safetensors", OneTensor("a", 1));
  const std::string first = FingerprintOf();
  EXPECT_EQ(FingerprintOf(), first);
  Write(directory_ / "model.safetensors", OneTensor("a", 1.0000001f));
  EXPECT_NE(FingerprintOf(), first);
  Write(directory_ / "model.safetensors", OneTensor("b", 1));
  EXPECT_NE(FingerprintOf(), first);
  // The same tensors in shards are the same model.
  Write(directory_ / "m-1.safetensors", OneTensor("a", 1));
  fs::remove(directory_ / "model.safetensors");
  Write(directory_ / "model.safetensors.index.json", R"({"weight_map": {"a": "m-1.safetensors"}})");
  EXPECT_EQ(FingerprintOf(), first);
  std::ofstream(directory_ / "config.json", std::ios::app) << "\n";
  EXPECT_NE(FingerprintOf(), first);
}

}  // namespace
}  // namespace rasq
