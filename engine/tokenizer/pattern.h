// One regular expression of a pre-tokenizer, searched through a text that may not be complete yet.
//
// PCRE2's "hard" partial matching stops as soon as a match would have to look past the end of what
// is there. So a match it reports stands whatever follows, and it says from where on it cannot
// know.
//
// A match that must see more than TextStream::kMaxWordBytes (and one character to look ahead) is
// cut at that many bytes, and the search goes on behind the cut as if the text began there. A
// verdict on a place thus needs a bounded piece of text, the same piece wherever the text was cut.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace rasq {

// What a search works in; used by one thread at a time, for any pattern.
class PatternScratch {
 public:
  PatternScratch();
  ~PatternScratch();
  PatternScratch(const PatternScratch&) = delete;
  PatternScratch& operator=(const PatternScratch&) = delete;

 private:
  friend class Pattern;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* jit_stack_;
};

class Pattern {
 public:
  enum class Syntax { kRegex, kLiteral };
  // Errors begin with `where`. kUnimplemented for a pattern that looks behind, which no stream can
  // honour (what is behind is gone), or that matches the empty string.
  static absl::StatusOr<Pattern> Compile(absl::string_view pattern, Syntax syntax,
                                         absl::string_view where);

  struct Result {
    enum Kind { kMatch, kNone, kOpen } kind;
    size_t begin;  // of the match; if kOpen, no match begins before it, and one might there
    size_t end;    // of the match
  };
  // The first match in `text` at or after `from`. `open`: more text may follow.
  // REQUIRES: `text` is UTF-8; from < text.size(), on a character boundary.
  Result Find(absl::string_view text, size_t from, bool open, PatternScratch& scratch) const;

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, FreeCode>;
  explicit Pattern(Code code) : code_(std::move(code)) {}
  Code code_;
};

}  // namespace rasq
