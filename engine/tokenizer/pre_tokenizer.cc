#include "engine/tokenizer/pre_tokenizer.h"

#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace rasq {

size_t PreTokenizer::Split(absl::string_view text, bool open, Emit emit) const {
  std::unique_ptr<PatternScratch> scratch;
  {
    MutexLock lock(mu_);
    if (!idle_.empty()) {
      scratch = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (scratch == nullptr) scratch = std::make_unique<PatternScratch>();
  const size_t emitted = SplitFrom(/*stage=*/0, text, open, *scratch, emit);
  MutexLock lock(mu_);
  idle_.push_back(std::move(scratch));
  return emitted;
}

// Why a later call may begin where this one stopped, as if the text began there: a pattern sees
// nothing before the place it is tried at, so it finds the same matches from any place on that is
// not inside one of them. And we never stop inside a match: it is passed on only when it is closed,
// and then all of it is emitted. We may stop in what lies between two matches.
size_t PreTokenizer::SplitFrom(size_t stage, absl::string_view text, bool open,
                               PatternScratch& scratch, Emit emit) const {
  if (stage == patterns_.size()) {
    size_t emitted = 0;
    constexpr size_t kWordBytes = TextStream::kMaxWordBytes;
    while (text.size() - emitted > kWordBytes) {
      const size_t end = Utf8Floor(text, emitted + kWordBytes);
      emit(text.substr(emitted, end - emitted));
      emitted = end;
    }
    if (open || emitted == text.size()) return emitted;
    emit(text.substr(emitted));
    return text.size();
  }
  size_t done = 0;
  while (done < text.size()) {
    const Pattern::Result found = patterns_[stage].Find(text, done, open, scratch);
    const bool gap_open = open && found.kind != Pattern::Result::kMatch;
    if (found.begin > done) {
      const absl::string_view gap = text.substr(done, found.begin - done);
      done += SplitFrom(stage + 1, gap, gap_open, scratch, emit);
    }
    if (found.kind != Pattern::Result::kMatch) break;
    const absl::string_view match = text.substr(found.begin, found.end - found.begin);
    SplitFrom(stage + 1, match, /*open=*/false, scratch, emit);
    done = found.end;
  }
  return done;
}

}  // namespace rasq
