// Finds the added tokens (special and not) in a text: the first, and of those that begin at one
// place the longest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace rasq {

class AddedTokens {
 public:
  // Contents are not empty and differ from each other.
  explicit AddedTokens(std::vector<std::pair<std::string, int32_t>> tokens);

  struct Result {
    enum Kind { kMatch, kNone, kOpen } kind;
    size_t begin;  // of the match; if kOpen, none begins before it, and one might there
    size_t end;    // of the match
    int32_t id;
  };
  // `open`: more text may follow.
  Result Find(absl::string_view text, size_t from, bool open) const;

 private:
  std::vector<std::pair<std::string, int32_t>> tokens_;  // sorted
  std::array<bool, 256> begins_{};                       // whether a token begins with the byte
};

}  // namespace rasq
