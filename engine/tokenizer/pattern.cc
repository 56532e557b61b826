#include "engine/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr size_t kWordBytes = TextStream::kMaxWordBytes;
constexpr size_t kWindowBytes = kWordBytes + 4;  // and the longest character
constexpr size_t kMaxPatternBytes = 1 << 16;

// Steps of one search, of at most kWindowBytes; patterns of real tokenizers need a few a byte.
constexpr uint32_t kMatchLimit = 500'000;
constexpr uint32_t kHeapLimitKib = 1 << 14;
constexpr size_t kJitStackBytes = 1 << 20;

// Unicode's White_Space, inside a class. PCRE2's own \s has U+180E besides, which the engines that
// tokenizers are trained with have not.
constexpr absl::string_view kSpace = "\\t-\\r\\x{85}\\p{Z}";

// The pattern as PCRE2 takes it. Tokenizer files are written for Oniguruma; in what they use, the
// two differ in \s, ^ and nested classes. Refused is what would make a match depend on where the
// search began.
absl::StatusOr<std::string> ToPcre2(absl::string_view pattern, absl::string_view where) {
  const auto refuse = [&](absl::string_view why) {
    return absl::UnimplementedError(absl::StrCat(where, ": pattern=", pattern, ": ", why));
  };
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 'K' || escaped == 'G') return refuse("\\K and \\G are not supported");
      if (escaped == 's') {
        absl::StrAppend(&out, in_class ? "" : "[", kSpace, in_class ? "" : "]");
      } else if (escaped == 'S' && !in_class) {
        absl::StrAppend(&out, "[^", kSpace, "]");
      } else {
        out += {c, escaped};
      }
      continue;
    }
    out += c;
    if (in_class) {
      if (c == '[') return refuse("nested classes are not supported");
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      // A caret negates, and a bracket that comes first is a character.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];
    } else if (c == '^') {
      return refuse("looks at what is before a word");
    } else if (c == '(' && i + 1 < pattern.size() && pattern[i + 1] == '*') {
      return refuse("verbs are not supported");
    }
  }
  return out;
}

}  // namespace

PatternScratch::PatternScratch()
    : data_(pcre2_match_data_create(/*ovecsize=*/1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      jit_stack_(pcre2_jit_stack_create(/*startsize=*/1 << 15, kJitStackBytes, nullptr)) {
  RASQ_CHECK(data_ != nullptr && context_ != nullptr);
  pcre2_set_match_limit(context_, kMatchLimit);
  pcre2_set_heap_limit(context_, kHeapLimitKib);
  // Null without a JIT, which then means the machine's own stack.
  pcre2_jit_stack_assign(context_, nullptr, jit_stack_);
}

PatternScratch::~PatternScratch() {
  pcre2_match_data_free(data_);
  pcre2_match_context_free(context_);
  pcre2_jit_stack_free(jit_stack_);
}

void Pattern::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

absl::StatusOr<Pattern> Pattern::Compile(absl::string_view pattern, Syntax syntax,
                                         absl::string_view where) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": pattern bytes=", pattern.size(),
                                                   " is more than ", kMaxPatternBytes));
  }
  std::string translated(pattern);
  uint32_t options = PCRE2_UTF;
  if (syntax == Syntax::kRegex) {
    RASQ_ASSIGN_OR_RETURN(translated, ToPcre2(pattern, where));
    // Multi-line as in Oniguruma, where $ also matches before a newline.
    options |= PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  } else {
    options |= PCRE2_LITERAL;
  }
  int error = 0;
  size_t offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                          options, &error, &offset, nullptr));
  if (code == nullptr) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": pattern=", pattern, ": ", reinterpret_cast<const char*>(message)));
  }
  uint32_t looks_behind = 0;
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_MAXLOOKBEHIND, &looks_behind);
  pcre2_pattern_info(code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (looks_behind != 0 || matches_empty != 0) {
    return absl::UnimplementedError(
        absl::StrCat(where, ": pattern=", pattern, ": ",
                     looks_behind != 0 ? "looks at what is before a word" : "matches no text"));
  }
  // Without a JIT (a system may forbid one) the interpreter gives the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
  return Pattern(std::move(code));
}

Pattern::Result Pattern::Find(absl::string_view text, size_t from, bool open,
                              PatternScratch& scratch) const {
  const auto cut = [&](size_t begin) {
    const size_t end = std::min(begin + kWordBytes, text.size());
    return Result{Result::kMatch, begin, Utf8Floor(text, end)};
  };
  while (from < text.size()) {
    size_t window_end = text.size();
    if (window_end - from > kWindowBytes) window_end = Utf8Floor(text, from + kWindowBytes);
    const bool truncated = window_end < text.size();
    const uint32_t options = PCRE2_NO_UTF_CHECK | (truncated || open ? PCRE2_PARTIAL_HARD : 0);
    const int rc =
        pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data() + from),
                    window_end - from, /*startoffset=*/0, options, scratch.data_, scratch.context_);
    const size_t* range = pcre2_get_ovector_pointer(scratch.data_);
    if (rc >= 0) {
      const size_t begin = from + range[0];
      const size_t end = from + range[1];
      if (end - begin > kWordBytes) return cut(begin);
      return {Result::kMatch, begin, end};
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
      from = window_end;  // no match begins in the window, whatever is behind it
    } else if (!truncated && open) {
      return {Result::kOpen, rc == PCRE2_ERROR_PARTIAL ? from + range[0] : from, 0};
    } else if (rc == PCRE2_ERROR_PARTIAL && range[0] > 0) {
      from += range[0];  // give this place a whole window
    } else {
      return cut(from);  // a word too long, or one that breaks a limit above
    }
  }
  return {Result::kNone, text.size(), text.size()};
}

}  // namespace rasq
