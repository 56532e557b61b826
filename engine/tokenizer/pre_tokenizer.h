// Splits text into words: a sequence of patterns, each of which splits the pieces that the one
// before it left into its matches and what lies between them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/pattern.h"
#include "kernels/base/mutex.h"

namespace rasq {

class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}

  using Emit = absl::FunctionRef<void(absl::string_view word)>;
  // Emits the words of `text`, in order, none longer than TextStream::kMaxWordBytes. If `open`,
  // more text may follow, and only words that it cannot change are emitted. Returns the number of
  // bytes emitted; to go on, call again with the bytes that are left and those that followed them.
  // REQUIRES: `text` is UTF-8. Many threads may call at once.
  size_t Split(absl::string_view text, bool open, Emit emit) const;

 private:
  size_t SplitFrom(size_t stage, absl::string_view text, bool open, PatternScratch& scratch,
                   Emit emit) const;

  const std::vector<Pattern> patterns_;
  mutable Mutex mu_;
  mutable std::vector<std::unique_ptr<PatternScratch>> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
