// What tokenizer.json and tokenizer_config.json say, checked.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/json_reader.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/pattern.h"

namespace rasq {

struct TokenizerFile {
  std::vector<std::string> token_bytes;                // by id; empty where ids leave a hole
  std::vector<bool> special;                           // by id
  std::vector<std::pair<std::string, int32_t>> added;  // content, id
  std::array<int32_t, 256> byte_ids;                   // of the one-byte tokens
  std::vector<Bpe::Merge> merges;                      // in order of rank
  // Pieces that are one token whatever the merges say: all of them if `ignore_merges`, else none.
  absl::flat_hash_map<std::string, int32_t> whole_words;
  std::vector<Pattern> patterns;
  int32_t bos_token_id = -1;  // -1: none
  int32_t eos_token_id = -1;
  bool add_bos = false;
};

// Errors name the file as `name` and the fault; kUnimplemented for what the file may say, but we do
// not do. `config_json` may be empty.
absl::StatusOr<TokenizerFile> ParseTokenizerFile(absl::string_view tokenizer_json,
                                                 absl::string_view config_json,
                                                 absl::string_view name);

// The part of it that is the "pre_tokenizer" entry. `json` may be null.
absl::StatusOr<std::vector<Pattern>> ParsePreTokenizer(const Json* json, absl::string_view name);

}  // namespace rasq
