#include "engine/tokenizer/tokenizer_file.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int64_t kMaxTokens = 1 << 20;

// The alphabet that pieces are written in: printable Latin-1 characters stand for their own byte,
// the other bytes, in order, for the characters from U+0100. Source: the GPT-2 release.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    size_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      byte_of_[itself ? static_cast<size_t>(byte) : next++] = byte;
    }
  }
  // Nothing if a character of the piece is not of the alphabet.
  std::optional<std::string> ToBytes(absl::string_view piece) const {
    std::string bytes;
    while (!piece.empty()) {
      const Utf8Step step = NextUtf8(piece);
      if (step.code_point >= byte_of_.size() || byte_of_[step.code_point] < 0) return std::nullopt;
      bytes += static_cast<char>(byte_of_[step.code_point]);
      piece.remove_prefix(step.bytes);
    }
    return bytes;
  }

 private:
  std::array<int, 0x100 + 68> byte_of_;  // 68 bytes do not stand for themselves
};

class Parser {
 public:
  Parser(absl::string_view name, TokenizerFile& file) : name_(name), file_(file) {}

  absl::Status ReadTokenizer(const Json& json);
  absl::Status ReadConfig(const Json& json);

 private:
  absl::Status Invalid(absl::string_view where, absl::string_view fault) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ": ", where, ": ", fault));
  }
  absl::Status ReadModel(const Json& json);
  absl::Status ReadVocab(const Json& vocab, bool ignore_merges);
  absl::Status ReadMerge(const Json& merge, absl::string_view where);
  absl::Status ReadAddedToken(const Json& json, const std::string& where);
  absl::Status CheckNormalizer(const Json& json) const;
  absl::Status ReadTemplate(const Json& post_processor);
  absl::Status ReadNamedToken(const Json& config, const char* field, int32_t& id) const;
  absl::Status Define(int64_t id, const std::string& written, std::string bytes, bool special,
                      absl::string_view where);

  const std::string name_;
  TokenizerFile& file_;
  std::vector<bool> defined_;
  absl::flat_hash_set<int64_t> added_ids_;
  absl::flat_hash_map<std::string, int32_t> id_of_;  // of pieces and added tokens, as written
};

absl::Status Parser::ReadTokenizer(const Json& json) {
  FieldReader fields(json, name_);
  const Json* model = fields.Find("model");
  const Json* added = fields.Find("added_tokens");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (model == nullptr) return Invalid("model", "missing");
  RASQ_RETURN_IF_ERROR(ReadModel(*model));
  if (added != nullptr) {
    if (!added->is_array()) return Invalid("added_tokens", "not a list");
    for (size_t i = 0; i < added->size(); ++i) {
      RASQ_RETURN_IF_ERROR(
          ReadAddedToken((*added)[i], absl::StrCat(name_, ": added_tokens[", i, "]")));
    }
  }
  if (const Json* normalizer = fields.Find("normalizer")) {
    RASQ_RETURN_IF_ERROR(CheckNormalizer(*normalizer));
  }
  if (const Json* post_processor = fields.Find("post_processor")) {
    RASQ_RETURN_IF_ERROR(ReadTemplate(*post_processor));
  }
  RASQ_ASSIGN_OR_RETURN(file_.patterns, ParsePreTokenizer(fields.Find("pre_tokenizer"), name_));
  return absl::OkStatus();
}

absl::Status Parser::ReadModel(const Json& json) {
  FieldReader model(json, absl::StrCat(name_, ": model"));
  const std::string type = model.String("type", "BPE");
  if (type != "BPE") model.Unsupported("type", type, "only BPE is supported");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const std::string text = model.String(affix, ""); !text.empty()) {
      model.Unsupported(affix, text, "words are encoded as they are");
    }
  }
  if (model.Number("dropout", 0, 1, 0) != 0) {
    model.Unsupported("dropout", *model.Find("dropout"), "encoding is not random");
  }
  const bool ignore_merges = model.Bool("ignore_merges", false);
  const Json* vocab = model.Find("vocab");
  const Json* merges = model.Find("merges");
  RASQ_RETURN_IF_ERROR(model.status());
  if (vocab == nullptr || !vocab->is_object()) return Invalid("model: vocab", "not an object");
  if (merges == nullptr || !merges->is_array()) return Invalid("model: merges", "not a list");
  RASQ_RETURN_IF_ERROR(ReadVocab(*vocab, ignore_merges));
  if (merges->size() > static_cast<size_t>(kMaxTokens)) {
    return Invalid("model: merges", absl::StrCat("count=", merges->size(), " is too many"));
  }
  for (size_t i = 0; i < merges->size(); ++i) {
    RASQ_RETURN_IF_ERROR(ReadMerge((*merges)[i], absl::StrCat("model: merges[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status Parser::Define(int64_t id, const std::string& written, std::string bytes, bool special,
                            absl::string_view where) {
  const auto index = static_cast<size_t>(id);
  if (index >= defined_.size()) {
    defined_.resize(index + 1);
    file_.special.resize(index + 1);
    file_.token_bytes.resize(index + 1);
  }
  if (defined_[index]) return Invalid(where, absl::StrCat("id=", id, " stands twice"));
  defined_[index] = true;
  file_.special[index] = special;
  file_.token_bytes[index] = std::move(bytes);
  id_of_.emplace(written, static_cast<int32_t>(id));
  return absl::OkStatus();
}

absl::Status Parser::ReadVocab(const Json& vocab, bool ignore_merges) {
  const ByteAlphabet alphabet;
  file_.byte_ids.fill(-1);
  id_of_.reserve(vocab.size());
  for (const auto& [piece, value] : vocab.items()) {
    const std::string where = absl::StrCat("model: vocab: ", ShowJson(piece));
    const std::optional<int64_t> id = FieldReader::AsInt(value);
    if (!id || *id < 0 || *id >= kMaxTokens) {
      return Invalid(where, absl::StrCat("id=", ShowJson(value), " is not an integer in [0, ",
                                         kMaxTokens - 1, "]"));
    }
    // A piece that is not written in the alphabet is a token that no bytes merge to.
    const std::optional<std::string> bytes = alphabet.ToBytes(piece);
    RASQ_RETURN_IF_ERROR(Define(*id, piece, bytes.value_or(piece), /*special=*/false, where));
    if (!bytes) continue;
    if (bytes->size() == 1) {
      file_.byte_ids[static_cast<uint8_t>(bytes->front())] = static_cast<int32_t>(*id);
    }
    if (ignore_merges) file_.whole_words.emplace(*bytes, static_cast<int32_t>(*id));
  }
  for (size_t byte = 0; byte < file_.byte_ids.size(); ++byte) {
    if (file_.byte_ids[byte] < 0) {
      return Invalid("model: vocab",
                     absl::StrCat("byte=0x", absl::Hex(byte, absl::kZeroPad2), " has no token"));
    }
  }
  return absl::OkStatus();
}

// "left right" in older files, ["left", "right"] in newer ones.
absl::Status Parser::ReadMerge(const Json& merge, absl::string_view where) {
  std::string left, right;
  if (merge.is_string()) {
    left = merge.get<std::string>();
    const size_t space = left.find(' ');
    if (space == std::string::npos) return Invalid(where, "no pair of pieces");
    right = left.substr(space + 1);
    left.resize(space);
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    left = merge[0].get<std::string>();
    right = merge[1].get<std::string>();
  } else {
    return Invalid(where, "no pair of pieces");
  }
  int32_t ids[3];
  const std::string pieces[3] = {left, right, left + right};
  for (int i = 0; i < 3; ++i) {
    const auto it = id_of_.find(pieces[i]);
    if (it == id_of_.end()) {
      return Invalid(where,
                     absl::StrCat("piece=", ShowJson(pieces[i]), " is not in the vocabulary"));
    }
    ids[i] = it->second;
  }
  file_.merges.push_back({.left = ids[0], .right = ids[1], .result = ids[2]});
  return absl::OkStatus();
}

absl::Status Parser::ReadAddedToken(const Json& json, const std::string& where) {
  FieldReader token(json, where);
  const int64_t id = token.Int("id", 0, kMaxTokens - 1);
  const std::string content = token.String("content");
  const bool special = token.Bool("special", false);
  // They would make the token swallow text around it, or depend on text before it.
  for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
    if (token.Bool(flag, false)) token.Unsupported(flag, true, "tokens are matched as they are");
  }
  if (token.status().ok() && content.empty()) token.Bad("content", content, "a text");
  RASQ_RETURN_IF_ERROR(token.status());
  if (!added_ids_.insert(id).second) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": id=", id, " stands twice"));
  }
  // It may stand in the vocabulary too, but then as the same token.
  const auto known = id_of_.find(content);
  if (known == id_of_.end()) {
    RASQ_RETURN_IF_ERROR(Define(id, content, content, special, "added_tokens"));
  } else if (known->second != id) {
    token.Bad("id", id, absl::StrCat("the vocabulary's ", known->second));
    return token.status();
  } else {
    file_.token_bytes[static_cast<size_t>(id)] = content;
    file_.special[static_cast<size_t>(id)] = special;
  }
  file_.added.emplace_back(content, static_cast<int32_t>(id));
  return absl::OkStatus();
}

// NFC is accepted and not applied: text on the wire is composed already, all but always, and a text
// that is not is encoded as its own bytes, which no model misreads. To apply it would also tie what
// has been encoded to combining characters yet to come.
absl::Status Parser::CheckNormalizer(const Json& json) const {
  FieldReader normalizer(json, absl::StrCat(name_, ": normalizer"));
  const std::string type = normalizer.String("type");
  RASQ_RETURN_IF_ERROR(normalizer.status());
  const Json* list = normalizer.Find("normalizers");
  if (type == "Sequence" && list != nullptr && list->is_array()) {
    for (const Json& item : *list) RASQ_RETURN_IF_ERROR(CheckNormalizer(item));
  } else if (type != "NFC") {
    normalizer.Unsupported("type", type, "only NFC is supported");
  }
  return normalizer.status();
}

// A template whose single text begins with a special token makes that the BOS. Other processors
// only move offsets, which we do not keep.
absl::Status Parser::ReadTemplate(const Json& post_processor) {
  FieldReader fields(post_processor, absl::StrCat(name_, ": post_processor"));
  const std::string type = fields.String("type");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (type == "Sequence") {
    const Json* list = fields.Find("processors");
    if (list == nullptr || !list->is_array()) return Invalid("post_processor", "no processors");
    for (const Json& item : *list) RASQ_RETURN_IF_ERROR(ReadTemplate(item));
  }
  if (type != "TemplateProcessing") return absl::OkStatus();
  const Json* single = fields.Find("single");
  if (single == nullptr || !single->is_array()) return Invalid("post_processor", "no single");
  if (single->empty() || !single->front().is_object()) return absl::OkStatus();
  const auto first = single->front().find("SpecialToken");
  if (first == single->front().end()) return absl::OkStatus();
  FieldReader token(*first, absl::StrCat(name_, ": post_processor: SpecialToken"));
  const std::string content = token.String("id");
  RASQ_RETURN_IF_ERROR(token.status());
  const auto known = id_of_.find(content);
  if (known == id_of_.end()) {
    return Invalid("post_processor", absl::StrCat("token=", ShowJson(content), " is unknown"));
  }
  file_.bos_token_id = known->second;
  file_.add_bos = true;
  return absl::OkStatus();
}

// `config[field]` is a token's content, or an object that holds it.
absl::Status Parser::ReadNamedToken(const Json& config, const char* field, int32_t& id) const {
  const std::string where = absl::StrCat("tokenizer_config.json: ", field);
  const auto it = config.find(field);
  if (it == config.end() || it->is_null()) return absl::OkStatus();
  const Json* content = &*it;
  if (content->is_object()) {
    const auto inner = content->find("content");
    if (inner == content->end()) return Invalid(where, "no content");
    content = &*inner;
  }
  const auto known = content->is_string() ? id_of_.find(content->get<std::string>()) : id_of_.end();
  if (known == id_of_.end()) {
    return Invalid(where, absl::StrCat("token=", ShowJson(*content), " is unknown"));
  }
  id = known->second;
  return absl::OkStatus();
}

absl::Status Parser::ReadConfig(const Json& json) {
  FieldReader fields(json, absl::StrCat(name_, ": tokenizer_config.json"));
  file_.add_bos = fields.Bool("add_bos_token", file_.add_bos);
  RASQ_RETURN_IF_ERROR(fields.status());
  RASQ_RETURN_IF_ERROR(ReadNamedToken(json, "bos_token", file_.bos_token_id));
  RASQ_RETURN_IF_ERROR(ReadNamedToken(json, "eos_token", file_.eos_token_id));
  if (file_.add_bos && file_.bos_token_id < 0) {
    return Invalid("tokenizer_config.json", "add_bos_token=true without a bos_token");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerFile> ParseTokenizerFile(absl::string_view tokenizer_json,
                                                 absl::string_view config_json,
                                                 absl::string_view name) {
  TokenizerFile file;
  Parser parser(name, file);
  RASQ_ASSIGN_OR_RETURN(const Json tokenizer, ParseJson(tokenizer_json, name));
  RASQ_RETURN_IF_ERROR(parser.ReadTokenizer(tokenizer));
  if (!config_json.empty()) {
    RASQ_ASSIGN_OR_RETURN(const Json config,
                          ParseJson(config_json, absl::StrCat(name, ": tokenizer_config.json")));
    RASQ_RETURN_IF_ERROR(parser.ReadConfig(config));
  }
  return file;
}

}  // namespace rasq
