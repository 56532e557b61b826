#include "client/tasks/news.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tasks/names.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

enum class About { kFirm, kCity, kTeam, kPerson, kThing };

// What the news is about: {e} has a {v} that changes. {at} stands for "at 14:30" or "on 3 May".
struct Topic {
  About about;
  ValueKind kind;
  absl::string_view name;  // "the {name} of {e}" makes sense
  Words facts;             // in the present tense, beginning with a small letter or a slot
  Words now, then;         // questions
};
const std::vector<Topic> kTopics = {
    {About::kFirm,
     ValueKind::kShort,
     "share price",
     {"{e} shares <trade|change hands|stand> at {v} dollars.", "{e} is worth {v} dollars a share.",
      "one share of {e} costs {v} dollars."},
     {"at what price do {e} shares trade now?", "what does a share of {e} cost now?"},
     {"at what price did {e} shares trade {at}?", "what did a share of {e} cost {at}?"}},
    {About::kFirm,
     ValueKind::kName,
     "chief",
     {"{e} <names|appoints|picks> {v} as <its new chief|chief executive>.",
      "{v} takes over as chief of {e}.", "{v} is now at the head of {e}."},
     {"who is the chief of {e} now?", "who runs {e} now?", "who heads {e} these days?"},
     {"whom did {e} name as its chief {at}?", "who took over as chief of {e} {at}?"}},
    {About::kFirm,
     ValueKind::kCity,
     "head office",
     {"{e} moves its head office to {v}.", "{e} will be run from {v}.",
      "the head office of {e} goes to {v}."},
     {"where is the head office of {e} now?", "from which city is {e} run now?"},
     {"where did {e} move its head office {at}?"}},
    {About::kFirm,
     ValueKind::kPrice,
     "latest offer",
     {"{e} raises its offer to {v}.", "the offer on the table from {e} is {v}."},
     {"how much does {e} offer now?", "what is the offer of {e} at present?"},
     {"how much did {e} offer {at}?"}},
    {About::kFirm,
     ValueKind::kDate,
     "opening date",
     {"{e} plans to open its <factory|shop|plant> on {v}.", "{e} says it will open on {v}."},
     {"when will {e} open, according to the newest plan?", "on which day does {e} plan to open?"},
     {"which opening date did {e} give {at}?"}},
    {About::kCity,
     ValueKind::kWeather,
     "forecast",
     {"forecasters expect {v} in {e}.", "{e} <gets|will see|braces for> {v}."},
     {"which weather is expected in {e} now?", "what do forecasters now expect in {e}?"},
     {"which weather was expected in {e} {at}?"}},
    {About::kCity,
     ValueKind::kShort,
     "water level",
     {"the river at {e} stands at {v} centimetres.", "{e} reports a water level of {v}."},
     {"how high is the river at {e} now?", "which water level does {e} report now?"},
     {"how high was the river at {e} {at}?"}},
    {About::kCity,
     ValueKind::kName,
     "mayor",
     {"{v} is sworn in as mayor of {e}.", "{e} <elects|gets> {v} as mayor."},
     {"who is the mayor of {e} now?", "who governs {e} at present?"},
     {"who became mayor of {e} {at}?"}},
    {About::kCity,
     ValueKind::kTime,
     "curfew",
     {"in {e} shops <must|will> close at {v}.", "{e} sets its closing hour to {v}."},
     {"when do shops close in {e} now?"},
     {"which closing hour did {e} set {at}?"}},
    {About::kTeam,
     ValueKind::kShort,
     "score",
     {"{e} now <has|counts> {v} points.", "the score of {e} goes to {v}.",
      "{e} moves on to {v} points."},
     {"how many points does {e} have now?", "what is the score of {e} now?"},
     {"how many points did {e} have {at}?"}},
    {About::kTeam,
     ValueKind::kName,
     "coach",
     {"{e} signs {v} as coach.", "{v} will coach {e}.", "the new coach of {e} is {v}."},
     {"who coaches {e} now?", "who is the coach of {e}?"},
     {"whom did {e} sign as coach {at}?"}},
    {About::kTeam,
     ValueKind::kName,
     "leading scorer",
     {"{v} is now the leading scorer of {e}.", "nobody at {e} has scored more than {v}."},
     {"who is the leading scorer of {e} now?"},
     {"who was the leading scorer of {e} {at}?"}},
    {About::kPerson,
     ValueKind::kCity,
     "whereabouts",
     {"{e} was seen in {v}.", "{e} <arrives in|lands in|has reached> {v}.",
      "{e} sends greetings from {v}."},
     {"where is {e} now?", "where was {e} seen last?"},
     {"where was {e} {at}?"}},
    {About::kPerson,
     ValueKind::kJob,
     "post",
     {"{e} starts as {u}.", "{e} <takes up|accepts> a post as {u}."},
     {"as what does {e} work now?", "which post has {e} now?"},
     {"as what did {e} start {at}?"}},
    {About::kThing,
     ValueKind::kPrice,
     "price",
     {"{e} <costs|sells for|goes for> {v}.", "the price of {e} is set to {v}."},
     {"what does {e} cost now?", "for how much does {e} sell now?"},
     {"what did {e} cost {at}?"}},
    {About::kThing,
     ValueKind::kColour,
     "alert level",
     {"the alert level of {e} goes to {v}.", "{e} is put on {v} alert."},
     {"what is the alert level of {e} now?"},
     {"on which alert was {e} put {at}?"}},
    {About::kThing,
     ValueKind::kWord,
     "place",
     {"{e} is now kept in the {v}.", "they moved {e} to the {v}."},
     {"where is {e} kept now?", "where is {e} now?"},
     {"where did they move {e} {at}?"}},
    {About::kThing,
     ValueKind::kName,
     "owner",
     {"{e} is sold to {v}.", "{v} <buys|acquires> {e}.", "{e} now belongs to {v}."},
     {"who owns {e} now?", "to whom does {e} belong now?"},
     {"who bought {e} {at}?"}},
};

// For any topic; {n} is its name.
const Words kFacts = {
    "the {n} of {e} is {v}.",
    "the {n} of {e} is now {v}.",
    "{e}: {n} {v}.",
    "{e} gives {v} as its {n}.",
    "{e} <reports|announces|confirms> {v} as {n}.",
    "{n} of {e}: {v}",
    "new {n} of {e}: {v}.",
    "{e} changes its {n} to {v}.",
    "for {e} the {n} is put at {v}.",
    "<officials|sources|observers> say the {n} of {e} is {v}.",
    "{v} is the {n} of {e}, <it was announced|we learn|reports say>.",
    "there is a new {n} for {e}: {v}.",
    "latest from {e}: {n} {v}.",
    "update on {e}: the {n} is {v}.",
    "the {n} of {e} <goes|changes|switches> to {v}.",
    "the {n} of {e} is said to be {v}.",
    "{e} <has|gets> {v} as {n}.",
    "a notice <says|states>: {n} of {e} {v}.",
    "it is official, the {n} of {e} is {v}.",
    "as of this report, the {n} of {e} is {v}.",
    "once more a change: the {n} of {e} is {v}.",
    "{e} informs the public that its {n} is {v}.",
    "{n} now {v}, says {e}.",
    "with immediate effect, the {n} of {e} is {v}.",
};
const Words kNow = {
    "what is the {n} of {e} now?",
    "what is the current {n} of {e}?",
    "what is the latest {n} of {e}?",
    "according to the newest report, what is the {n} of {e}?",
    "which {n} does {e} have now?",
    "as of now, the {n} of {e} is what?",
    "what is the {n} of {e}?",
    "what do the latest news give as the {n} of {e}?",
    "current {n} of {e}?",
    "which {n} was reported last for {e}?",
    "tell me the newest {n} of {e}.",
    "how does the {n} of {e} stand at the moment?",
    "what is the most recent {n} of {e}?",
    "{e}: {n} now?",
    "at the end, what is the {n} of {e}?",
    "after the last change, what is the {n} of {e}?",
};
const Words kThen = {
    "what was the {n} of {e} {at}?",
    "which {n} of {e} was reported {at}?",
    "what did {e} have as {n} {at}?",
    "<{at}>, what was the {n} of {e}?",
    "which {n} did {e} have {at}?",
    "what {n} was given for {e} {at}?",
    "{n} of {e} {at}?",
    "tell me the {n} of {e} {at}.",
};
const Words kBefore = {
    "what was the {n} of {e} before the last change?",      "what was the previous {n} of {e}?",
    "which {n} did {e} have before the present one?",       "before {v}, what was the {n} of {e}?",
    "what was reported as the {n} of {e} just before {v}?", "which {n} of {e} was replaced by {v}?",
    "the {n} of {e} is {v}. What was it before?",           "the last but one {n} of {e} was what?",
};
const Words kFirst = {
    "what was the first {n} of {e}?",
    "which {n} of {e} was reported first?",
    "at the beginning, what was the {n} of {e}?",
    "what was the original {n} of {e}?",
    "with which {n} did {e} begin?",
    "what is the oldest {n} reported for {e}?",
    "what was the {n} of {e} to begin with?",
    "before any change, what was the {n} of {e}?",
};
const Words kTeamKinds = {"Rovers", "United",  "Lions",   "Rangers", "Wanderers", "Tigers",
                          "Eagles", "Dynamos", "Pirates", "Falcons", "Giants",    "Harriers",
                          "Comets", "Bears",   "Saints",  "Wolves"};

// Time as an episode's news write it: always forward.
class Clock {
 public:
  Clock(Random& random, Split split)
      : random_(random),
        style_(split == Split::kTraining ? random.Below(7) : 7),
        minutes_(random.Below(600)),
        day_(random.Between(1, 60)) {}

  void Advance() {
    minutes_ += random_.Between(1, 40);
    day_ += random_.Between(1, 3);
  }
  // What stands before a statement.
  std::string Prefix() const {
    switch (style_) {
      case 0:
        return absl::StrCat("[", Hour(), "] ");
      case 1:
        return absl::StrCat(Hour(), " - ");
      case 2:
        return absl::StrCat("At ", Hour(), ": ");
      case 3:
        return absl::StrCat("(", Hour(), ") ");
      case 4:
        return absl::StrCat(Date(), ": ");
      case 5:
        return absl::StrCat("Day ", day_, ". ");
      case 6:
        return absl::StrCat(IsoDate(), " ");
      default:
        return absl::StrCat(Hour(), " | ");
    }
  }
  // How a question refers to it.
  std::string At() const {
    switch (style_) {
      case 4:
        return absl::StrCat("on ", Date());
      case 5:
        return absl::StrCat("on day ", day_);
      case 6:
        return absl::StrCat("on ", IsoDate());
      default:
        return absl::StrCat("at ", Hour());
    }
  }

 private:
  std::string Hour() const {
    return absl::StrFormat("%02d:%02d", minutes_ / 60 % 24, minutes_ % 60);
  }
  // Months of 28 days are as good as others here.
  std::string Date() const { return absl::StrCat(day_ % 28 + 1, " ", Months()[day_ / 28 % 12]); }
  std::string IsoDate() const {
    return absl::StrFormat("%04d-%02d-%02d", 2031 + day_ / 336, day_ / 28 % 12 + 1, day_ % 28 + 1);
  }

  Random& random_;
  const int64_t style_;
  int64_t minutes_, day_;
};

std::string MakeSubject(Random& random, Split split, About about) {
  switch (about) {
    case About::kFirm:
      return MakeFirm(random, split);
    case About::kCity:
      return MakeCity(random, split);
    case About::kTeam:
      return Concat({"the ", MakeCity(random, split), " ", PickFrom(random, split, kTeamKinds)});
    case About::kPerson:
      return MakePersonName(random, split);
    case About::kThing:
      return absl::StrCat("the ", MakeValue(random, split, ValueKind::kTwoWords));
  }
  return "";
}

struct Statement {
  std::string value;
  std::string at;
  int fact;
};
struct Thread {
  const Topic* topic;
  std::string subject;
  std::vector<Statement> statements;
};

constexpr size_t kMaxEvidence = 6;  // the newest statements of a thread

// In the topic's own words or in those for any; `value` is the newest.
std::string Word(Random& random, Split split, const Thread& thread, const Words& own,
                 const Words& any, absl::string_view at, absl::string_view value) {
  return Fill(random, PickFrom(random, split, !own.empty() && random.Chance(0.5) ? own : any),
              {{"n", thread.topic->name}, {"e", thread.subject}, {"at", at}, {"v", value}});
}

// For the newest value once the thread's first `num_said` statements are made.
Question AskNow(Random& random, Split split, const Episode& episode, const Thread& thread,
                size_t num_said) {
  const std::vector<Statement>& said = thread.statements;
  const std::string& newest = said[num_said - 1].value;
  Question now{.text = Word(random, split, thread, thread.topic->now, kNow, "", newest),
               .answer = newest,
               .kind = "now"};
  for (size_t i = num_said; i > 0 && now.evidence.size() < kMaxEvidence; --i) {
    now.evidence.push_back(WholeFact(episode, said[i - 1].fact));
  }
  return now;
}

std::vector<Question> Ask(Random& random, Split split, const Episode& episode, const Thread& thread,
                          bool dated) {
  const Topic& topic = *thread.topic;
  const std::vector<Statement>& said = thread.statements;
  const auto word = [&](const Words& own, const Words& any, absl::string_view at) {
    return Word(random, split, thread, own, any, at, said.back().value);
  };
  std::vector<Question> questions = {AskNow(random, split, episode, thread, said.size())};
  if (said.size() < 2) return questions;

  const auto older = [&](const Statement& statement, absl::string_view kind, std::string text) {
    Question question{.text = std::move(text), .answer = statement.value, .kind = kind};
    question.evidence.push_back(WholeFact(episode, statement.fact));
    questions.push_back(std::move(question));
  };
  if (dated && random.Chance(0.6)) {
    const Statement& then = random.Pick(said);
    // Two statements of a thread may bear one date.
    if (std::count_if(said.begin(), said.end(),
                      [&](const Statement& other) { return other.at == then.at; }) == 1) {
      older(then, "then", word(topic.then, kThen, then.at));
    }
  }
  if (random.Chance(0.25)) {
    const Statement& last = said.back();
    // "Before {v}" must mean one statement.
    if (std::count_if(said.begin(), said.end(),
                      [&](const Statement& other) { return other.value == last.value; }) == 1) {
      older(said[said.size() - 2], "before", word({}, kBefore, ""));
      questions.back().evidence.push_back(WholeFact(episode, last.fact));
    }
  }
  if (random.Chance(0.1)) older(said[0], "first", word({}, kFirst, ""));
  return questions;
}

struct Wire {
  std::vector<Thread> threads;
  bool dated;
  Episode episode;  // without questions
};

Wire MakeWire(Random& random, Split split, int num_facts) {
  // Few threads with many updates or many with few.
  const int64_t updates = random.Between(1, 6);
  const int64_t num_threads = std::max<int64_t>(1, num_facts / updates);
  std::vector<Thread> threads;
  std::set<std::string> used;
  for (int64_t i = 0; i < num_threads; ++i) {
    const Topic& topic = PickFrom(random, split, kTopics);
    threads.push_back({.topic = &topic, .subject = MakeFresh(used, [&] {
                                          return MakeSubject(random, split, topic.about);
                                        })});
    // Now and then two threads about one subject.
    if (random.Chance(0.3)) {
      const Topic& second = PickFrom(random, split, kTopics);
      if (second.about == topic.about && &second != &topic) {
        threads.push_back({.topic = &second, .subject = threads.back().subject});
      }
    }
  }
  Wire wire = {.threads = {}, .dated = !random.Chance(0.15), .episode = {}};
  Clock clock(random, split);
  for (int fact = 0; fact < num_facts; ++fact) {
    clock.Advance();
    Thread& thread = threads[random.Below(static_cast<int64_t>(threads.size()))];
    std::vector<Statement>& said = thread.statements;
    const Topic& topic = *thread.topic;
    std::string value = MakeValue(random, split, topic.kind);
    while (value == thread.subject || (!said.empty() && value == said.back().value)) {
      value = MakeValue(random, split, topic.kind);
    }
    const Words& words = random.Chance(0.6) ? topic.facts : kFacts;
    const std::string text =
        Fill(random, PickFrom(random, split, words),
             {{"n", topic.name}, {"e", thread.subject}, {"v", value}, {"u", WithArticle(value)}});
    wire.episode.facts.push_back(wire.dated ? absl::StrCat(clock.Prefix(), text) : text);
    said.push_back({.value = std::move(value), .at = clock.At(), .fact = fact});
  }
  wire.threads = std::move(threads);
  return wire;
}

}  // namespace

Episode MakeNews(Random& random, Split split, int num_facts) {
  Wire wire = MakeWire(random, split, num_facts);
  Episode& episode = wire.episode;
  for (const Thread& thread : wire.threads) {
    if (thread.statements.empty()) continue;
    for (Question& question : Ask(random, split, episode, thread, wire.dated)) {
      episode.questions.push_back(std::move(question));
    }
  }
  random.Shuffle(episode.questions);
  LetAnswersHoldToTheEnd(episode);
  return std::move(wire.episode);
}

Episode MakeNewsUpdates(Random& random, Split split, int num_facts) {
  Wire wire = MakeWire(random, split, num_facts);
  for (const Thread& thread : wire.threads) {
    const std::vector<Statement>& said = thread.statements;
    for (size_t i = 1; i < said.size(); ++i) {
      Question question = AskNow(random, split, wire.episode, thread, i + 1);
      question.after_fact = said[i].fact + 1;
      question.until_fact =
          i + 1 < said.size() ? said[i + 1].fact : static_cast<int>(wire.episode.facts.size());
      wire.episode.questions.push_back(std::move(question));
    }
  }
  random.Shuffle(wire.episode.questions);
  return std::move(wire.episode);
}

}  // namespace rasq::tasks
