#include "train/data/stream_layout.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/tasks/tasks.h"
#include "kernels/base/status.h"

namespace rasq::train {
namespace {

using tasks::Random;

constexpr int64_t kMaxAnswerTokens = 40;  // longer ones are not asked for
constexpr int64_t kBunchTokens = 400;     // of text between facts that stand close together
constexpr int64_t kSentenceReach = 48;    // tokens to look ahead for the end of a sentence
// Shares of streams: facts at log-uniform distances from the end; facts that all stand in the text
// in one other way, and each in its own.
constexpr double kByDistance = 0.35, kOneSetting = 0.35, kManySettings = 0.2;

struct TokenizedFact {
  std::vector<int32_t> tokens;
  std::vector<size_t> ends;  // bytes of the fact up to the end of each token
};
// What stands before and behind a fact.
struct Setting {
  absl::string_view before, behind;
};
// In the sentence's own paragraph; between paragraphs; as an entry, a quotation, a heading, a note.
constexpr Setting kPlainSettings[] = {{" ", ""}, {"\n", ""}};
constexpr Setting kSettings[] = {{" ", ""},
                                 {"\n", ""},
                                 {"\n", "\n"},
                                 {"\n\n", "\n\n"},
                                 {"\n- ", ""},
                                 {"\n- ", "\n"},
                                 {"\n* ", "\n"},
                                 {"\n\t", "\n"},
                                 {"\n    ", "\n"},
                                 {"\n> ", "\n"},
                                 {"\n# ", "\n\n"},
                                 {"\n\nNote: ", "\n\n"},
                                 {" (", ")"},
                                 {" [", "]"},
                                 {" -- ", " --"},
                                 {"\n1. ", "\n"},
                                 {"\n...\n", "\n...\n"},
                                 {"\n| ", " |\n"},
                                 {"\n\n## News\n", "\n\n"},
                                 {"  ", " "}};

struct TokenizedQuestion {
  std::vector<int32_t> question, answer;
  int64_t when;  // asked when so many facts are told
  int32_t task;
  const std::vector<tasks::Span>* evidence;
};

// Where each fact goes: how many tokens of text come before it, ascending, 0 .. budget.
std::vector<int64_t> PlaceFacts(Random& random, size_t num_facts, int64_t budget, bool together) {
  const double way = random.Unit();
  int64_t low = 0, high = budget;
  bool by_distance = false;
  if (together || way < 0.05) {
    low = high = random.Between(0, budget);  // one after another, somewhere
  } else if (way < 0.12) {
    high = std::min(budget, kBunchTokens);  // at the start: everything is asked much later
  } else if (way < 0.17) {
    low = std::max<int64_t>(0, budget - kBunchTokens);
  } else if (way < 0.3) {
    low = random.Between(0, std::max<int64_t>(0, budget - kBunchTokens));
    high = std::min(budget, low + kBunchTokens);
  } else if (way < 0.3 + kByDistance) {
    by_distance = true;  // as many near the end as far from it
  }
  std::vector<int64_t> places(num_facts);
  for (int64_t& place : places) {
    place = by_distance ? budget - random.LogUniform(budget) : random.Between(low, high);
  }
  std::sort(places.begin(), places.end());
  return places;
}

// Builds one stream, front to back.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, const LayoutOptions& options) : options_(options) {
    stream_.tokens.reserve(options.num_tokens);
    stream_.weights.reserve(options.num_tokens);
    if (tokenizer.bos_token_id() >= 0) Add({tokenizer.bos_token_id()}, 0);
  }

  int64_t size() const { return static_cast<int64_t>(stream_.tokens.size()); }

  void Add(absl::Span<const int32_t> tokens, float weight) {
    stream_.tokens.insert(stream_.tokens.end(), tokens.begin(), tokens.end());
    stream_.weights.resize(stream_.tokens.size(), weight);
  }
  void AddFact(const TokenizedFact& fact) {
    fact_starts_.push_back(size());
    Add(fact.tokens, kTextWeight);
  }
  // Tokens of padding that put the question's last token at the begin of a segment.
  int64_t Padding(const TokenizedQuestion& asked) const {
    const int64_t last = size() + static_cast<int64_t>(asked.question.size()) - 1;
    return (options_.segment_tokens - last % options_.segment_tokens) % options_.segment_tokens;
  }
  void AddQuestion(const TokenizedQuestion& asked, const std::vector<TokenizedFact>& facts) {
    Add(asked.question, kPaddingWeight);
    const auto begin = static_cast<int32_t>(size());
    Add(asked.answer, kAnswerWeight);
    stream_.answers.push_back(
        {.begin = begin, .end = static_cast<int32_t>(size()), .task = asked.task});
    std::vector<int32_t> positions;
    for (const tasks::Span& span : *asked.evidence) {
      AddPositions(span, facts[span.fact], fact_starts_[span.fact], positions);
    }
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
    stream_.evidence.push_back(
        {.segment = begin / options_.segment_tokens, .positions = std::move(positions)});
  }
  TrainingStream Finish() {
    if (!stream_.weights.empty()) stream_.weights[0] = 0;  // nothing predicts it
    return std::move(stream_);
  }

 private:
  static void AddPositions(const tasks::Span& span, const TokenizedFact& fact, int64_t start,
                           std::vector<int32_t>& positions) {
    size_t begin = 0;
    for (size_t i = 0; i < fact.tokens.size(); ++i) {
      if (begin < span.end && fact.ends[i] > span.begin) {
        positions.push_back(static_cast<int32_t>(start + static_cast<int64_t>(i)));
      }
      begin = fact.ends[i];
    }
  }

  const LayoutOptions& options_;
  TrainingStream stream_;
  std::vector<int64_t> fact_starts_;
};

TokenizedFact TokenizeFact(const Tokenizer& tokenizer, const Setting& setting,
                           const std::string& text) {
  TokenizedFact fact{.tokens =
                         tokenizer.Encode(absl::StrCat(setting.before, text, setting.behind))};
  size_t end = 0;
  for (const int32_t token : fact.tokens) {
    end += tokenizer.TokenBytes(token).size();
    // Tokens of what stands before alone end at 0.
    fact.ends.push_back(std::max(end, setting.before.size()) - setting.before.size());
  }
  return fact;
}

}  // namespace

void MixIn(Random& random, const tasks::Episode& added, int32_t task, MixedEpisode& mixed) {
  const tasks::Episode old = std::move(mixed.episode);
  mixed.episode = {};
  std::vector<std::string>& facts = mixed.episode.facts;
  std::vector<int> old_places, added_places;  // in the mixed episode
  while (old_places.size() < old.facts.size() || added_places.size() < added.facts.size()) {
    const auto old_left = static_cast<int64_t>(old.facts.size() - old_places.size());
    const auto added_left = static_cast<int64_t>(added.facts.size() - added_places.size());
    const bool from_old = random.Below(old_left + added_left) < old_left;
    std::vector<int>& places = from_old ? old_places : added_places;
    const std::string& fact = (from_old ? old : added).facts[places.size()];
    places.push_back(static_cast<int>(facts.size()));
    facts.push_back(fact);
  }
  const auto move = [&](const tasks::Episode& from, const std::vector<int>& places) {
    for (tasks::Question question : from.questions) {
      for (tasks::Span& span : question.evidence) span.fact = places[span.fact];
      question.after_fact = question.after_fact == 0 ? 0 : places[question.after_fact - 1] + 1;
      // Until the next fact of its own.
      question.until_fact = question.until_fact == static_cast<int>(places.size())
                                ? static_cast<int>(facts.size())
                                : places[question.until_fact];
      mixed.episode.questions.push_back(std::move(question));
    }
  };
  move(old, old_places);
  move(added, added_places);
  mixed.tasks.resize(mixed.episode.questions.size(), task);
}

StreamLayout::StreamLayout(const Tokenizer* tokenizer, const Corpus* corpus)
    : tokenizer_(tokenizer), corpus_(corpus) {
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    const absl::string_view bytes = tokenizer->TokenBytes(id);
    ends_sentence_.push_back(!bytes.empty() && absl::string_view(".!?\n").find(bytes.back()) !=
                                                   absl::string_view::npos);
  }
}

std::optional<TrainingStream> StreamLayout::LayOut(Random& random, const MixedEpisode& mixed,
                                                   const LayoutOptions& options) const {
  const tasks::Episode& episode = mixed.episode;
  const double way = random.Unit();
  const bool training = options.split == tasks::Split::kTraining;
  const bool many_settings = training && way < kManySettings;
  Setting setting = training && way < kManySettings + kOneSetting ? random.Pick(kSettings)
                                                                  : random.Pick(kPlainSettings);
  int64_t used = options.segment_tokens;  // BOS, and rounding at the end
  std::vector<TokenizedFact> facts;
  for (const std::string& fact : episode.facts) {
    if (many_settings) setting = random.Pick(kSettings);
    facts.push_back(TokenizeFact(*tokenizer_, setting, fact));
    used += static_cast<int64_t>(facts.back().tokens.size());
    if (used > options.num_tokens) return std::nullopt;
  }

  std::vector<size_t> chosen(episode.questions.size());
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = i;
  random.Shuffle(chosen);
  const tasks::Frame frame = tasks::PickFrame(random, options.split);
  const bool at_the_end = random.Chance(0.65);
  std::vector<TokenizedQuestion> questions;
  for (const size_t i : chosen) {
    if (static_cast<int64_t>(questions.size()) == options.max_questions) break;
    const tasks::Question& question = episode.questions[i];
    TokenizedQuestion asked{
        .question = tokenizer_->Encode(absl::StrCat(frame.opening, question.text, frame.closing)),
        .answer = tokenizer_->Encode(absl::StrCat(" ", question.answer, frame.end)),
        .when = at_the_end ? question.until_fact
                           : random.Between(question.after_fact, question.until_fact),
        .task = mixed.tasks[i],
        .evidence = &question.evidence};
    const auto answer_tokens = static_cast<int64_t>(asked.answer.size());
    if (answer_tokens > std::min<int64_t>(kMaxAnswerTokens, options.segment_tokens - 2)) continue;
    const int64_t needed =
        static_cast<int64_t>(asked.question.size()) + answer_tokens + options.segment_tokens - 1;
    if (used + needed > options.num_tokens) continue;
    used += needed;
    questions.push_back(std::move(asked));
  }
  if (questions.empty()) return std::nullopt;
  std::stable_sort(questions.begin(), questions.end(),
                   [](const auto& a, const auto& b) { return a.when < b.when; });

  // The text between: one slice of the corpus, so that it goes on behind a fact where it stopped.
  const int64_t budget = options.num_tokens - used;
  std::vector<int32_t> text;
  corpus_->AppendSlice(random, budget + options.segment_tokens * (questions.size() + 2), text);
  const std::vector<int64_t> places =
      PlaceFacts(random, facts.size(), budget, options.keep_together);
  const bool whole_sentences = random.Chance(0.6);
  // Questions behind the last fact come at once, one after another, or at places of their own.
  const bool spread = random.Chance(0.4);
  const bool soon = random.Chance(0.5);  // near that fact as often as far from it
  const bool text_first = random.Chance(0.7);

  Writer writer(*tokenizer_, options);
  int64_t spent = 0;        // of the budget
  size_t next_of_text = 0;  // in `text`
  const auto add_text = [&](int64_t count, float weight) {
    writer.Add(absl::MakeSpan(text).subspan(next_of_text, count), weight);
    next_of_text += count;
  };
  const auto add_until = [&](int64_t place, bool to_sentence) {
    int64_t count = std::max<int64_t>(0, place - spent);
    if (to_sentence && count > 0) {
      for (int64_t more = 0; more < kSentenceReach && spent + count + more <= budget; ++more) {
        if (!ends_sentence_[text[next_of_text + count + more - 1]]) continue;
        count += more;
        break;
      }
    }
    add_text(count, kTextWeight);
    spent += count;
  };
  const auto ask = [&](const TokenizedQuestion& question) {
    add_text(writer.Padding(question), kPaddingWeight);
    writer.AddQuestion(question, facts);
  };

  size_t next_question = 0;
  for (size_t i = 0; i <= facts.size(); ++i) {
    const bool last = i == facts.size();
    std::vector<int64_t> waits;  // places of the questions behind the last fact
    if (last) {
      waits.resize(questions.size() - next_question);
      for (int64_t& wait : waits) {
        wait = spread && soon ? spent + random.LogUniform(budget - spent)
               : spread       ? random.Between(spent, budget)
               : text_first   ? budget
                              : spent;
      }
      std::sort(waits.begin(), waits.end());
    }
    for (size_t j = 0; next_question < questions.size() &&
                       questions[next_question].when <= static_cast<int64_t>(i);
         ++next_question, ++j) {
      if (last) add_until(waits[j], /*to_sentence=*/false);
      ask(questions[next_question]);
    }
    if (last) break;
    add_until(places[i], whole_sentences);
    writer.AddFact(facts[i]);
  }
  RASQ_CHECK(writer.size() <= options.num_tokens);
  const int64_t rest = options.num_tokens - writer.size();
  if (rest > static_cast<int64_t>(text.size() - next_of_text)) {
    corpus_->AppendSlice(random, rest, text);
  }
  add_text(rest, kPaddingWeight);
  return writer.Finish();
}

TrainingStream StreamLayout::Plain(Random& random, int64_t num_tokens) const {
  TrainingStream stream;
  if (tokenizer_->bos_token_id() >= 0) stream.tokens.push_back(tokenizer_->bos_token_id());
  corpus_->AppendSlice(random, num_tokens - static_cast<int64_t>(stream.tokens.size()),
                       stream.tokens);
  stream.weights.assign(num_tokens, kPlainWeight);
  if (num_tokens > 0) stream.weights[0] = 0;
  return stream;
}

}  // namespace rasq::train
