#include "engine/tokenizer/tokenizer.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "engine/tokenizer/tokenizer_file.h"
#include "engine/tokenizer/tokenizer_impl.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/status.h"

namespace rasq {

size_t Tokenizer::Impl::Tokenize(absl::string_view text, bool open,
                                 std::vector<int32_t>& ids) const {
  size_t done = 0;
  while (done < text.size()) {
    const AddedTokens::Result found = added.Find(text, done, open);
    const bool section_open = open && found.kind != AddedTokens::Result::kMatch;
    done += TokenizeSection(text.substr(done, found.begin - done), section_open, ids);
    if (found.kind != AddedTokens::Result::kMatch) break;
    ids.push_back(found.id);
    done = found.end;
  }
  return done;
}

// Runs of well-formed UTF-8 go through the pre-tokenizer; each byte between them is a token.
size_t Tokenizer::Impl::TokenizeSection(absl::string_view section, bool open,
                                        std::vector<int32_t>& ids) const {
  size_t done = 0;
  while (done < section.size()) {
    size_t run_end = done;
    Utf8Step step{Utf8Step::kValid, 0, 0};
    while (run_end < section.size()) {
      step = NextUtf8(section.substr(run_end));
      if (step.kind != Utf8Step::kValid) break;
      run_end += step.bytes;
    }
    const bool run_open = open && (run_end == section.size() || step.kind == Utf8Step::kIncomplete);
    done += pre_tokenizer.Split(section.substr(done, run_end - done), run_open,
                                [&](absl::string_view word) { bpe.Encode(word, ids); });
    if (run_open || run_end == section.size()) break;
    for (; done < run_end + step.bytes; ++done) {
      ids.push_back(bpe.byte_id(static_cast<uint8_t>(section[done])));
    }
  }
  return done;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/tokenizer.json");
  RASQ_ASSIGN_OR_RETURN(const std::string tokenizer_json, ReadTextFile(path));
  auto config_json = ReadTextFile(absl::StrCat(directory, "/tokenizer_config.json"));
  if (absl::IsNotFound(config_json.status())) config_json = "";
  RASQ_RETURN_IF_ERROR(config_json.status());
  return Parse(tokenizer_json, *config_json, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(absl::string_view tokenizer_json,
                                                            absl::string_view config_json,
                                                            absl::string_view name) {
  RASQ_ASSIGN_OR_RETURN(TokenizerFile file, ParseTokenizerFile(tokenizer_json, config_json, name));
  auto impl = std::unique_ptr<Impl>(new Impl{
      .token_bytes = std::move(file.token_bytes),
      .special = std::move(file.special),
      .added = AddedTokens(std::move(file.added)),
      .pre_tokenizer = PreTokenizer(std::move(file.patterns)),
      .bpe = Bpe(file.byte_ids, file.merges, std::move(file.whole_words)),
      .bos_token_id = file.bos_token_id,
      .eos_token_id = file.eos_token_id,
      .add_bos = file.add_bos,
  });
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::unique_ptr<Tokenizer> Tokenizer::OfBytes() {
  constexpr absl::string_view kName = "the tokenizer of bytes";
  // Words, though nothing is merged in them: text that comes in pieces is held back by the word.
  const Json words = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  absl::StatusOr<std::vector<Pattern>> patterns = ParsePreTokenizer(&words, kName);
  RASQ_CHECK(patterns.ok());
  std::vector<std::string> token_bytes;
  std::array<int32_t, 256> byte_ids;
  for (int byte = 0; byte < 256; ++byte) {
    token_bytes.emplace_back(1, static_cast<char>(byte));
    byte_ids[static_cast<size_t>(byte)] = byte;
  }
  auto impl = std::unique_ptr<Impl>(new Impl{.token_bytes = std::move(token_bytes),
                                             .special = std::vector<bool>(256),
                                             .added = AddedTokens({}),
                                             .pre_tokenizer = PreTokenizer(*std::move(patterns)),
                                             .bpe = Bpe(byte_ids, {}, {})});
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(absl::string_view text) const {
  std::vector<int32_t> ids;
  impl_->Tokenize(text, /*open=*/false, ids);
  return ids;
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? impl_->token_bytes[static_cast<size_t>(id)]
                                      : absl::string_view();
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids) {
    const absl::string_view token = TokenBytes(id);
    bytes.append(token.data(), token.size());
  }
  std::string text;
  DrainUtf8(bytes, /*end=*/true, text);
  return text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->token_bytes.size()); }

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->special[static_cast<size_t>(id)];
}

int32_t Tokenizer::bos_token_id() const { return impl_->bos_token_id; }
bool Tokenizer::add_bos() const { return impl_->add_bos; }
int32_t Tokenizer::eos_token_id() const { return impl_->eos_token_id; }

}  // namespace rasq
