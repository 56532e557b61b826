// Speed of the shipped tokenizer on its reference texts, in bytes a second of one thread.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

const Tokenizer& ShippedTokenizer() {
  static const Tokenizer& tokenizer =
      *Tokenizer::Load(RASQ_SOURCE_DIR "/models/default").value().release();
  return tokenizer;
}

const std::string& Prose() {
  static const std::string& prose = *[] {
    auto* text = new std::string;
    std::ifstream in(RASQ_SOURCE_DIR "/tests/testdata/streams.jsonl");
    for (std::string line; std::getline(in, line);) {
      *text += nlohmann::json::parse(line).at("text").get<std::string>();
    }
    RASQ_CHECK(!text->empty());
    return text;
  }();
  return prose;
}

void BM_Encode(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(ShippedTokenizer().Encode(Prose()));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(Prose().size()));
}
BENCHMARK(BM_Encode)->Unit(benchmark::kMillisecond);

// No word comes twice soon, so that every one is merged anew.
void BM_EncodeUnseenWords(benchmark::State& state) {
  uint32_t random = 1;
  std::string text;
  while (text.size() < (1 << 20)) {
    for (int i = 0; i < 9; ++i) {
      random = random * 1664525 + 1013904223;  // Numerical Recipes' generator
      text += static_cast<char>('a' + (random >> 24) % 26);
    }
    text += ' ';
  }
  for (auto _ : state) benchmark::DoNotOptimize(ShippedTokenizer().Encode(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(BM_EncodeUnseenWords)->Unit(benchmark::kMillisecond);

// One word without an end, cut every kMaxWordBytes.
void BM_EncodeEndlessWord(benchmark::State& state) {
  const std::string text(1 << 20, 'a');
  for (auto _ : state) benchmark::DoNotOptimize(ShippedTokenizer().Encode(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(BM_EncodeEndlessWord)->Unit(benchmark::kMillisecond);

// Argument: bytes of each piece.
void BM_TextStream(benchmark::State& state) {
  const auto piece_bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    TextStream stream(&ShippedTokenizer());
    std::vector<int32_t> ids;
    for (size_t done = 0; done < Prose().size(); done += piece_bytes) {
      stream.Append(absl::string_view(Prose()).substr(done, piece_bytes), ids);
    }
    stream.Finish(ids);
    benchmark::DoNotOptimize(ids);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(Prose().size()));
}
BENCHMARK(BM_TextStream)->Arg(1)->Arg(8)->Arg(64)->Arg(4096)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace rasq

BENCHMARK_MAIN();
