#include "engine/attention_search.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "kernels/base/status.h"

namespace rasq {

std::vector<KeptSentence> KeptSentences(absl::Span<const int32_t> chunk,
                                        absl::Span<const double> scores, int32_t top,
                                        const std::vector<bool>& ends_sentence) {
  const auto first = static_cast<int64_t>(chunk.size() - scores.size());
  std::vector<int64_t> best(scores.size());
  std::iota(best.begin(), best.end(), int64_t{0});
  const auto last = best.begin() + std::min<int64_t>(top, static_cast<int64_t>(best.size()));
  std::partial_sort(best.begin(), last, best.end(), [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  best.erase(last, best.end());
  std::sort(best.begin(), best.end());

  std::vector<KeptSentence> kept;
  auto next = best.begin();
  const auto size = static_cast<int64_t>(chunk.size());
  for (int64_t begin = 0, end = 0; begin < size && next != best.end(); begin = end) {
    const auto ends = [&](int64_t i) {
      const int32_t id = chunk[i];
      return id >= 0 && id < static_cast<int64_t>(ends_sentence.size()) && ends_sentence[id];
    };
    while (end < size && !ends(end)) ++end;
    end = std::min(size, end + 1);
    if (first + *next >= end) continue;
    KeptSentence sentence{.begin = begin, .end = end, .score = 0};
    for (; next != best.end() && first + *next < end; ++next) {
      sentence.score = std::max(sentence.score, scores[*next]);
    }
    kept.push_back(sentence);
  }
  return kept;
}

bool SaysNone(absl::string_view text) {
  if (absl::StripAsciiWhitespace(text).empty()) return true;
  std::string word;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_isspace(byte) && !absl::ascii_ispunct(byte)) word.push_back(c);
  }
  return absl::StartsWithIgnoreCase(word, "none");
}

AttentionSearch::AttentionSearch(Setup setup, absl::Span<std::byte* const> states)
    : setup_(std::move(setup)), hint_(setup_.prompts->fixed_hint()), kept_(setup_.chunks.size()) {
  RASQ_CHECK(!states.empty() && !setup_.chunks.empty());
  probes_.reserve(states.size());
  for (std::byte* state : states) {
    probes_.push_back({.state = state, .queue = InputQueue(setup_.hidden)});
  }
  if (setup_.prompts->asks_for_hint()) {
    Start(probes_.front(), Probe::Task::kHint, setup_.prompts->HintPrompt(setup_.question));
  } else {
    StartChunks();
  }
}

void AttentionSearch::Start(Probe& probe, Probe::Task task, SearchPrompts::Prompt prompt) {
  probe.task = task;
  probe.fresh = true;
  probe.cursor = StreamCursor();
  probe.chunk_begin = prompt.chunk_begin;
  probe.queue.Push(std::make_shared<Input>(Input{.ids = std::move(prompt.ids)}));
}

void AttentionSearch::StartChunks() {
  for (Probe& probe : probes_) NextChunk(probe);
}

void AttentionSearch::NextChunk(Probe& probe) {
  probe.task = Probe::Task::kNone;
  if (next_chunk_ == setup_.chunks.size()) return;
  probe.chunk = next_chunk_++;
  Start(probe, Probe::Task::kAnchor,
        setup_.prompts->AnchorPrompt({.chunk = TextOf(setup_.chunks[probe.chunk]),
                                      .question = setup_.question,
                                      .hint = hint_}));
}

absl::Span<const int32_t> AttentionSearch::TextOf(const Passage& chunk) const {
  absl::Span<const int32_t> text = chunk.input->ids;
  const bool bos = chunk.position == 0 && setup_.tokenizer->add_bos() &&
                   text.front() == setup_.tokenizer->bos_token_id();
  return text.subspan(bos ? 1 : 0);
}

std::vector<int32_t> AttentionSearch::Parts(int64_t rows) const {
  const int32_t segment = setup_.layout->shape.segment_rows;
  std::vector<int32_t> parts;
  for (const Probe& probe : probes_) {
    if (rows <= 0) break;
    for (const int32_t part :
         probe.queue.Parts(probe.cursor, segment, std::max<int64_t>(segment, rows),
                           /*keep_last=*/false)) {
      parts.push_back(part);
      rows -= part;
    }
  }
  return parts;
}

void AttentionSearch::Advance(Probe& probe, const StepOutcome& outcome) {
  RASQ_CHECK(probe.queue.size() == 0 && (!probe.draws() || outcome.token >= 0));
  const auto read = [&](int32_t token) {
    probe.queue.Push(std::make_shared<Input>(Input{.ids = {token}}));
  };
  switch (probe.task) {
    case Probe::Task::kNone:
      return;
    case Probe::Task::kHint:
      AddToHint(probe, outcome.token);
      return;
    case Probe::Task::kAnchor:
      if (!setup_.tokenizer->IsSpecial(outcome.token) &&
          !SaysNone(setup_.tokenizer->Decode({&outcome.token, 1}))) {
        probe.task = Probe::Task::kScore;
        read(outcome.token);
        return;
      }
      Drop(probe, outcome.logprob);
      NextChunk(probe);
      return;
    case Probe::Task::kScore:
      Keep(probe);
      NextChunk(probe);
      return;
  }
}

// The hint ends before a token that is an end or holds a newline, or when it is long enough.
void AttentionSearch::AddToHint(Probe& probe, int32_t token) {
  const bool ends = std::find(setup_.eos.begin(), setup_.eos.end(), token) != setup_.eos.end() ||
                    absl::StrContains(setup_.tokenizer->TokenBytes(token), '\n');
  if (!ends) {
    hint_.push_back(token);
    if (static_cast<int32_t>(hint_.size()) < kMaxHintTokens) {
      probe.queue.Push(std::make_shared<Input>(Input{.ids = {token}}));
      return;
    }
  }
  if (SaysNone(setup_.tokenizer->Decode(hint_))) hint_.clear();  // the model has none
  StartChunks();
}

// Between equals the newest, in whatever order the probes come to them.
void AttentionSearch::Drop(const Probe& probe, double logprob) {
  const bool same = doubted_logprob_ == logprob;
  if (doubted_logprob_.has_value() && logprob > *doubted_logprob_) return;
  if (same && probe.chunk < doubted_) return;
  doubted_ = probe.chunk;
  doubted_logprob_ = logprob;
}

void AttentionSearch::Keep(const Probe& probe) {
  const Passage& chunk = setup_.chunks[probe.chunk];
  std::vector<double> scores(TextOf(chunk).size());
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i] = double{probe.key_weights[probe.chunk_begin + i]} / setup_.num_layers;
  }
  kept_[probe.chunk] =
      KeptSentences(chunk.input->ids, scores, setup_.top_tokens, *setup_.ends_sentence);
  any_kept_ = true;
}

bool AttentionSearch::done() const {
  return std::all_of(probes_.begin(), probes_.end(),
                     [](const Probe& probe) { return probe.task == Probe::Task::kNone; });
}

int64_t AttentionSearch::num_tokens() const {
  int64_t tokens = 0;
  for (const Passage& chunk : setup_.chunks) tokens += chunk.input->size();
  return tokens;
}

std::vector<AttentionSearch::Sentence> AttentionSearch::Fitting(int64_t most_tokens) const {
  std::vector<Sentence> sentences;
  int64_t tokens = 0;
  for (size_t c = 0; c < kept_.size(); ++c) {
    for (const KeptSentence& kept : kept_[c]) {
      sentences.push_back({.chunk = c, .kept = kept});
      tokens += kept.end - kept.begin;
    }
  }
  if (tokens <= most_tokens) return sentences;
  // Between equals the older goes.
  std::stable_sort(sentences.begin(), sentences.end(), [](const Sentence& a, const Sentence& b) {
    return a.kept.score < b.kept.score;
  });
  auto first = sentences.begin();
  for (; tokens > most_tokens; ++first) tokens -= first->kept.end - first->kept.begin;
  sentences.erase(sentences.begin(), first);
  std::sort(sentences.begin(), sentences.end(), [](const Sentence& a, const Sentence& b) {
    return a.chunk != b.chunk ? a.chunk < b.chunk : a.kept.begin < b.kept.begin;
  });
  return sentences;
}

std::vector<Passage> AttentionSearch::Found(int64_t most_tokens) const {
  RASQ_CHECK(done());
  if (!any_kept_) return {setup_.chunks[doubted_]};
  const std::vector<Sentence> sentences = Fitting(most_tokens);
  std::vector<Passage> passages;
  passages.reserve(sentences.size());
  for (const Sentence& sentence : sentences) {
    const Passage& chunk = setup_.chunks[sentence.chunk];
    const auto ids = chunk.input->ids.begin();
    passages.push_back({.position = chunk.position + sentence.kept.begin,
                        .input = std::make_shared<Input>(
                            Input{.ids = {ids + sentence.kept.begin, ids + sentence.kept.end}}),
                        .score = sentence.kept.score});
  }
  return passages;
}

}  // namespace rasq
