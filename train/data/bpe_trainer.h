// Learns a byte-level byte-pair vocabulary: text is split into words as GPT-2 does, with every
// digit a word of its own, and the most frequent pair of neighbouring tokens becomes a token, again
// and again. Source: Sennrich et al. 2016, arXiv:1508.07909.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace rasq::train {

struct BpeOptions {
  int32_t vocab_size = 8192;  // with the special token and the 256 bytes; fewer if pairs run out
  int64_t min_count = 2;      // of a pair that becomes a token
  std::string special_token = "<|endoftext|>";  // id 0, BOS and EOS
  int num_threads = 1;
};

// Files in Hugging Face's format, as Tokenizer::Parse reads them.
struct BpeFiles {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};

// The same texts give the same files, whatever their order and the number of threads: of pairs that
// are equally frequent, the one with the lower ids comes first. kInvalidArgument if `vocab_size` is
// below 257 or `min_count` below 1, or if the special token is empty or not UTF-8.
absl::StatusOr<BpeFiles> TrainBpe(absl::Span<const absl::string_view> texts,
                                  const BpeOptions& options);

}  // namespace rasq::train
