#include "engine/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>
#include <vector>

namespace rasq {
namespace {

using nlohmann::json;

json Qwen3() {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"model_type", "qwen3"},
          {"vocab_size", 256},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"max_position_embeddings", 48},
          {"eos_token_id", 0}};
}

json Memory() {
  return {
      {"format_version", 1},        {"segment_tokens", 16},         {"window_tokens", 32},
      {"sink_tokens", 4},           {"buffer_capacity_tokens", 24}, {"retrieval_budget_tokens", 8},
      {"retrieval_layers", {1, 2}}, {"retrieval_dim", 16},          {"compressed_dim", 8}};
}

ModelConfig ParseOk(const json& config, const std::string& generation = "") {
  auto parsed = ParseModelConfig(config.dump(), generation);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *std::move(parsed) : ModelConfig();
}

TEST(ModelConfigTest, ReadsEveryField) {
  const ModelConfig config = ParseOk(Qwen3());
  EXPECT_EQ(config.architecture, "Qwen3ForCausalLM");
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_EQ(config.vocab, 256);
  EXPECT_EQ(config.hidden, 64);
  EXPECT_EQ(config.intermediate, 128);
  EXPECT_EQ(config.num_layers, 4);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_FLOAT_EQ(config.rms_norm_epsilon, 1e-5f);
  EXPECT_EQ(config.max_positions, 48);
  EXPECT_FALSE(config.tie_embeddings);
  EXPECT_EQ(config.bos_token_id, -1);
  EXPECT_EQ(config.eos_token_ids, std::vector<int32_t>{0});
  ASSERT_EQ(config.inv_freq.size(), 8);
  EXPECT_DOUBLE_EQ(config.inv_freq[0], 1);
  EXPECT_DOUBLE_EQ(config.inv_freq[4], 0.01);  // 10000^(-8/16)
}

TEST(ModelConfigTest, FamilyMembersDifferByTheirFlags) {
  json config = Qwen3();
  for (const auto& [type, bias, norm] :
       {std::tuple("llama", false, false), std::tuple("mistral", false, false),
        std::tuple("qwen2", true, false), std::tuple("qwen3", false, true)}) {
    config["model_type"] = type;
    const ModelConfig parsed = ParseOk(config);
    EXPECT_EQ(parsed.qkv_bias, bias) << type;
    EXPECT_EQ(parsed.qk_norm, norm) << type;
  }
}

TEST(ModelConfigTest, DefaultsFollowTheOtherFields) {
  json config = Qwen3();
  config.erase("num_key_value_heads");
  config["head_dim"] = nullptr;
  config.erase("rope_theta");
  config.erase("architectures");
  const ModelConfig parsed = ParseOk(config);
  EXPECT_EQ(parsed.num_kv_heads, 4);
  EXPECT_EQ(parsed.head_dim, 16);
  EXPECT_DOUBLE_EQ(parsed.inv_freq[4], 0.01);
  EXPECT_EQ(parsed.architecture, "Qwen3ForCausalLM");
}

TEST(ModelConfigTest, EosIdsAreMerged) {
  json config = Qwen3();
  config["eos_token_id"] = {7, 3};
  EXPECT_EQ(ParseOk(config, R"({"eos_token_id": [3, 9]})").eos_token_ids,
            (std::vector<int32_t>{7, 3, 9}));
  EXPECT_EQ(ParseOk(config, R"({"eos_token_id": null})").eos_token_ids,
            (std::vector<int32_t>{7, 3}));
  EXPECT_FALSE(ParseModelConfig(config.dump(), R"({"eos_token_id": 256})").ok());
}

TEST(ModelConfigTest, RopeScaling) {
  json config = Qwen3();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4}};
  EXPECT_DOUBLE_EQ(ParseOk(config).inv_freq[0], 0.25);

  // By hand, for head_dim 4 and theta 10000: frequencies 1 and 0.01. Trained on 200 * pi positions
  // (here 628) the first turns 100 times, the second once; between low=0.5 and high=1.5 turns the
  // second is half kept, half divided by 8.
  config["hidden_size"] = 16;
  config["head_dim"] = 4;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8},
                            {"low_freq_factor", 0.5},
                            {"high_freq_factor", 1.5},
                            {"original_max_position_embeddings", 628}};
  const ModelConfig llama3 = ParseOk(config);
  EXPECT_DOUBLE_EQ(llama3.inv_freq[0], 1);
  const double keep = 6.28 / (2 * std::numbers::pi) - 0.5;
  EXPECT_NEAR(llama3.inv_freq[1], 0.01 * (keep + (1 - keep) / 8), 1e-12);

  config = Qwen3();
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_DOUBLE_EQ(ParseOk(config).inv_freq[4], 1e-3);
}

TEST(ModelConfigTest, WindowThatNeverBindsIsAccepted) {
  json config = Qwen3();
  config["sliding_window"] = 32;  // off: Qwen's windows have a switch
  ParseOk(config);
  config["model_type"] = "mistral";
  EXPECT_FALSE(ParseModelConfig(config.dump(), "").ok());
  config["sliding_window"] = 48;
  ParseOk(config);
}

struct Fault {
  const char* name;
  const char* patch;  // RFC 7396, on Qwen3() or Memory()
  const char* error;  // part of the message
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }
std::string NameOf(const testing::TestParamInfo<Fault>& info) { return info.param.name; }

class ModelConfigFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(ModelConfigFaultTest, IsNamed) {
  json config = Qwen3();
  config.merge_patch(json::parse(GetParam().patch));
  const auto parsed = ParseModelConfig(config.dump(), "");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find(GetParam().error), absl::string_view::npos)
      << parsed.status();
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelConfigFaultTest,
    testing::Values(
        Fault{"OtherModel", R"({"model_type": "mamba"})", "model_type=\"mamba\""},
        Fault{"NoModel", R"({"model_type": null})", "model_type is missing"},
        Fault{"NoHidden", R"({"hidden_size": null})", "hidden_size is missing"},
        Fault{"NegativeVocab", R"({"vocab_size": -1})", "vocab_size=-1"},
        Fault{"HugeLayers", R"({"num_hidden_layers": 18446744073709551615})",
              "num_hidden_layers=18446744073709551615"},
        Fault{"FloatHeads", R"({"num_attention_heads": 4.0})", "num_attention_heads=4.0"},
        Fault{"StringHidden", R"({"hidden_size": "64"})", "hidden_size=\"64\""},
        Fault{"ZeroHeads", R"({"num_attention_heads": 0})", "num_attention_heads=0"},
        Fault{"OddHeadDim", R"({"head_dim": 15})", "head_dim=15"},
        Fault{"UnevenHeads", R"({"head_dim": null, "num_attention_heads": 6})", "hidden_size=64"},
        Fault{"UnevenKvHeads", R"({"num_key_value_heads": 3})", "num_key_value_heads=3"},
        Fault{"Epsilon", R"({"rms_norm_eps": 0})", "rms_norm_eps=0"},
        Fault{"Theta", R"({"rope_theta": -5})", "rope_theta=-5"},
        Fault{"Activation", R"({"hidden_act": "gelu"})", "hidden_act=\"gelu\""},
        Fault{"OutputBias", R"({"attention_bias": true})", "attention_bias=true"},
        Fault{"MlpBias", R"({"mlp_bias": true})", "mlp_bias=true"},
        Fault{"Quantized", R"({"quantization_config": {"bits": 4}})", "quantization_config"},
        Fault{"Window", R"({"use_sliding_window": true, "sliding_window": 8})", "sliding_window=8"},
        Fault{"LayerTypes", R"({"layer_types": ["sliding_attention"]})",
              "layer_types=\"sliding_attention\""},
        Fault{"Yarn", R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})",
              "rope_scaling: rope_type=\"yarn\""},
        Fault{"NoFactor", R"({"rope_scaling": {"rope_type": "linear"}})", "factor is missing"},
        Fault{"Factors",
              R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                  "high_freq_factor": 4, "original_max_position_embeddings": 8}})",
              "high_freq_factor=4"},
        Fault{"ScalingKind", R"({"rope_scaling": [1]})", "rope_scaling: not an object"},
        Fault{"Bos", R"({"bos_token_id": 256})", "bos_token_id=256"},
        Fault{"Eos", R"({"eos_token_id": [1, -2]})", "eos_token_id=-2"}),
    NameOf);

TEST(ModelConfigTest, HostileJsonIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1]"), std::string("null"),
        std::string(200000, '['), std::string("{\"model_type\": \"qwen3\", \"model_type\": 1}"),
        std::string("{\"a\": \"\xFF\"}"), std::string("{\"a\": 1e999}")}) {
    EXPECT_FALSE(ParseModelConfig(text, "").ok()) << text.substr(0, 40);
  }
}

TEST(MemoryConfigTest, ReadsEveryField) {
  const auto memory = ParseMemoryConfig(Memory().dump(), ParseOk(Qwen3()));
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->segment, 16);
  EXPECT_EQ(memory->window, 32);
  EXPECT_EQ(memory->sinks, 4);
  EXPECT_EQ(memory->capacity, 24);
  EXPECT_EQ(memory->budget, 8);
  EXPECT_EQ(memory->index_dim, 16);
  EXPECT_EQ(memory->compressed_dim, 8);
  EXPECT_EQ(memory->num_clusters, 0);
  EXPECT_EQ(memory->read_clusters, 8);
  EXPECT_EQ(memory->cluster_min_entries, 128);
  EXPECT_EQ(memory->num_summaries, 0);
  EXPECT_TRUE(memory->has_memory());
  EXPECT_EQ(memory->retrieval_layers, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(memory->RetrievalIndex(0), -1);
  EXPECT_EQ(memory->RetrievalIndex(1), 0);
  EXPECT_EQ(memory->RetrievalIndex(2), 1);
  EXPECT_EQ(memory->RetrievalIndex(3), 1);
  EXPECT_EQ(MemoryConfig().RetrievalIndex(3), -1);
}

TEST(MemoryConfigTest, ReadsClusters) {
  json config = Memory();
  config.merge_patch({{"clusters", 32}, {"read_clusters", 4}, {"cluster_min_entries", 6}});
  const auto memory = ParseMemoryConfig(config.dump(), ParseOk(Qwen3()));
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->num_clusters, 32);
  EXPECT_EQ(memory->read_clusters, 4);
  EXPECT_EQ(memory->cluster_min_entries, 6);
}

TEST(MemoryConfigTest, ReadsSummaries) {
  json config = Memory();
  config.merge_patch({{"summary_slots", 4}, {"summary_decay", 0.875}});
  const auto memory = ParseMemoryConfig(config.dump(), ParseOk(Qwen3()));
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->num_summaries, 4);
  EXPECT_EQ(memory->summary_decay, 0.875f);
}

TEST(MemoryConfigTest, BudgetHead) {
  const auto parse = [](const json& patch) {
    json config = Memory();
    config.merge_patch(patch);
    const auto memory = ParseMemoryConfig(config.dump(), ParseOk(Qwen3()));
    EXPECT_TRUE(memory.ok()) << memory.status();
    return memory.ok() ? *memory : MemoryConfig();
  };
  const MemoryConfig without = parse(json::object());
  EXPECT_FALSE(without.has_budget_head());
  EXPECT_EQ(without.max_budget, 8);
  EXPECT_EQ(without.score_floor, -INFINITY);
  const MemoryConfig head = parse({{"budget_factors", {0.25, 1, 2.3}}, {"score_floor", -7.5}});
  EXPECT_EQ(head.budget_factors, (std::vector<float>{0.25f, 1, 2.3f}));
  EXPECT_EQ(head.max_budget, 18);  // 8 * 2.3 = 18.4
  EXPECT_EQ(head.score_floor, -7.5f);
  // All factors below one: no segment reads as many as b0.
  EXPECT_EQ(parse({{"budget_factors", {0.25, 0.5}}}).max_budget, 4);
  EXPECT_EQ(parse({{"budget_factors", {4}}, {"max_retrieval_budget_tokens", 20}}).max_budget, 20);
}

class MemoryConfigFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(MemoryConfigFaultTest, IsNamed) {
  json config = Memory();
  config.merge_patch(json::parse(GetParam().patch));
  const auto parsed = ParseMemoryConfig(config.dump(), ParseOk(Qwen3()));
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find(GetParam().error), absl::string_view::npos)
      << parsed.status();
}

INSTANTIATE_TEST_SUITE_P(
    All, MemoryConfigFaultTest,
    testing::Values(
        Fault{"Version", R"({"format_version": 2})", "format_version=2"},
        Fault{"NoVersion", R"({"format_version": null})", "format_version is missing"},
        Fault{"Segment", R"({"segment_tokens": 0})", "segment_tokens=0"},
        Fault{"Window", R"({"window_tokens": 33})", "window_tokens=33"},
        Fault{"Sinks", R"({"sink_tokens": 33})", "sink_tokens=33"},
        Fault{"Capacity", R"({"buffer_capacity_tokens": -24})", "buffer_capacity_tokens=-24"},
        Fault{"Budget", R"({"retrieval_budget_tokens": 25})", "retrieval_budget_tokens=25"},
        Fault{"NoLayers", R"({"retrieval_layers": []})", "retrieval_layers"},
        Fault{"LayerOrder", R"({"retrieval_layers": [2, 1]})", "retrieval_layers=1"},
        Fault{"LayerTwice", R"({"retrieval_layers": [1, 1]})", "retrieval_layers=1"},
        Fault{"LayerRange", R"({"retrieval_layers": [4]})", "retrieval_layers=4"},
        Fault{"IndexDim", R"({"retrieval_dim": 1000000})", "retrieval_dim=1000000"},
        Fault{"CompressedDim", R"({"compressed_dim": 8.5})", "compressed_dim=8.5"},
        Fault{"NoFactors", R"({"budget_factors": []})", "budget_factors"},
        Fault{"FactorZero", R"({"budget_factors": [1, 0]})", "budget_factors=0"},
        Fault{"FactorText", R"({"budget_factors": ["1"]})", "budget_factors"},
        Fault{"FactorLarge", R"({"budget_factors": [1025]})", "budget_factors=1025"},
        Fault{"MaxBudget", R"({"max_retrieval_budget_tokens": 0})",
              "max_retrieval_budget_tokens=0"},
        Fault{"ScoreFloor", R"({"score_floor": "low"})", "score_floor"},
        Fault{"Clusters", R"({"clusters": 65})", "clusters=65"},
        Fault{"ReadClusters", R"({"read_clusters": 0})", "read_clusters=0"},
        Fault{"ClusterMinEntries", R"({"cluster_min_entries": -1})", "cluster_min_entries=-1"},
        Fault{"Summaries", R"({"summary_slots": 33})", "summary_slots=33"},
        Fault{"SummariesOfClusters", R"({"summary_slots": 4, "clusters": 8})", "summary_slots=4"},
        Fault{"SummaryDecay", R"({"summary_decay": 1})", "summary_decay=1"}),
    NameOf);

}  // namespace
}  // namespace rasq
