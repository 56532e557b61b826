// Any text as tokenizer.json; and any text, cut anywhere, through TextStream: the tokens must be
// those of the whole text, and their bytes the text.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/status.h"
#include "tests/support/small_tokenizer.h"

namespace {

using rasq::TextStream;
using rasq::Tokenizer;

const std::vector<std::unique_ptr<Tokenizer>>& SmallTokenizers() {
  static const auto& tokenizers = *[] {
    auto* list = new std::vector<std::unique_ptr<Tokenizer>>;
    for (const char* pre_tokenizer :
         {rasq::kGpt2PreTokenizer, rasq::kDigitsGpt2PreTokenizer, rasq::kLlama3PreTokenizer,
          rasq::kQwenPreTokenizer, rasq::kManyStagesPreTokenizer}) {
      const std::string json = rasq::SmallTokenizerJson(pre_tokenizer).dump();
      auto tokenizer = Tokenizer::Parse(json, "", "small");
      RASQ_CHECK(tokenizer.ok());
      list->push_back(*std::move(tokenizer));
    }
    return list;
  }();
  return tokenizers;
}

// `cuts` decides the pieces' sizes.
void CheckStream(const Tokenizer& tokenizer, absl::string_view text, uint8_t cuts) {
  const std::vector<int32_t> whole = tokenizer.Encode(text);
  std::string bytes;
  for (const int32_t id : whole) {
    const absl::string_view token = tokenizer.TokenBytes(id);
    bytes.append(token.data(), token.size());
  }
  RASQ_CHECK(bytes == text);

  TextStream stream(&tokenizer);
  std::vector<int32_t> ids;
  uint32_t state = cuts;
  for (size_t done = 0; done < text.size();) {
    state = state * 1664525 + 1013904223;  // Numerical Recipes' generator
    const size_t most = cuts < 128 ? 1 + text.size() / 64 : 1 + text.size() / 4;
    const size_t size = 1 + (state >> 8) % most;
    stream.Append(text.substr(done, size), ids);
    done += size;
  }
  stream.Finish(ids);
  RASQ_CHECK(ids == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] == '{') {
    const auto tokenizer = Tokenizer::Parse(text, "", "fuzz");
    if (tokenizer.ok()) (*tokenizer)->Encode(text);
  } else if (size > 2) {
    // The third byte repeats the text, to reach words above TextStream::kMaxWordBytes.
    const size_t repeats = data[2] < 192 ? 1 : data[2] - 190;
    text.remove_prefix(3);
    std::string repeated;
    for (size_t i = 0; i < repeats; ++i) repeated.append(text.data(), text.size());
    CheckStream(*SmallTokenizers()[data[0] % SmallTokenizers().size()], repeated, data[1]);
  }
  return 0;
}
