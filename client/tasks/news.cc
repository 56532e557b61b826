#include "client/tasks/news.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
#include "client/tasks/news_clock.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/statements.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

enum class About { kFirm, kCity, kTeam, kPerson, kThing };
constexpr int kNumAbouts = 5;

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

// Shares of what is from the lists above; the rest is open or from the grammar.
constexpr double kListedTopics = 0.25, kListedWordings = 0.25;
// Those of an evaluation, whose lists are its old half.
constexpr double kHeldOutListed = 0.6;

// What one subject's news are about.
struct Subject {
  std::string name;   // of the subject
  std::string topic;  // "share price"
  ValueForm form;
  const Topic* listed = nullptr;
};

struct Said {
  std::string value;
  std::string at;
  int fact;
};
struct Thread {
  Subject subject;
  std::vector<Said> said;
};

constexpr size_t kMaxEvidence = 6;  // the newest statements of a thread

class Wire {
 public:
  Wire(const Source& from, int num_facts)
      : from_(from),
        random_(from.random),
        wordings_(from.training() ? kListedWordings : kHeldOutListed),
        dated_(!random_.Chance(0.15)) {
    MakeThreads(num_facts);
    Tell(num_facts);
  }

  // Of what holds at the end, and of what was before.
  Episode AskAtTheEnd() {
    for (const Thread& thread : threads_) {
      if (!thread.said.empty()) Ask(thread);
    }
    random_.Shuffle(episode_.questions);
    LetAnswersHoldToTheEnd(episode_);
    return std::move(episode_);
  }

  // Of the newest value behind each update.
  Episode AskAlong() {
    for (const Thread& thread : threads_) {
      const std::vector<Said>& said = thread.said;
      for (size_t i = 1; i < said.size(); ++i) {
        Question question = AskNow(thread, i + 1);
        question.after_fact = said[i].fact + 1;
        question.until_fact =
            i + 1 < said.size() ? said[i + 1].fact : static_cast<int>(episode_.facts.size());
        episode_.questions.push_back(std::move(question));
      }
    }
    random_.Shuffle(episode_.questions);
    return std::move(episode_);
  }

 private:
  Subject MakeTopic() {
    if (random_.Chance(from_.training() ? kListedTopics : kHeldOutListed)) {
      const Topic& topic = PickFrom(random_, from_.split, kTopics);
      return {.name = MakeSubject(random_, from_.split, topic.about),
              .topic = std::string(topic.name),
              .form = {.listed = topic.kind},
              .listed = &topic};
    }
    Subject subject{.name = MakeOpenSubject(), .topic = MakeOpenRelation(from_)};
    subject.form = PickValueForm(random_);
    return subject;
  }

  std::string MakeOpenSubject() {
    if (random_.Chance(0.4)) return MakeOpenKey(from_);
    if (random_.Chance(0.3)) return MakeOpenPerson(from_);
    return MakeSubject(random_, from_.split, static_cast<About>(random_.Below(kNumAbouts)));
  }

  void MakeThreads(int num_facts) {
    // Few threads with many updates or many with few.
    const int64_t updates = random_.Between(1, random_.Chance(0.2) ? 20 : 6);
    const int64_t num_threads = std::max<int64_t>(1, num_facts / updates);
    std::set<std::string> used;
    for (int64_t i = 0; i < num_threads; ++i) {
      Subject subject = MakeTopic();
      if (!used.insert(subject.name).second) continue;
      threads_.push_back({.subject = std::move(subject), .said = {}});
      // Now and then two threads about one subject.
      if (!random_.Chance(0.3)) continue;
      const Subject first = threads_.back().subject;
      Subject second = MakeTopic();
      const bool fits = first.listed == nullptr || second.listed == nullptr ||
                        first.listed->about == second.listed->about;
      if (!fits || second.topic == first.topic) continue;
      second.name = first.name;
      threads_.push_back({.subject = std::move(second), .said = {}});
    }
  }

  void Tell(int num_facts) {
    NewsClock clock(random_, from_.split);
    for (int fact = 0; fact < num_facts; ++fact) {
      clock.Advance();
      Thread& thread = threads_[random_.Below(static_cast<int64_t>(threads_.size()))];
      const Subject& subject = thread.subject;
      std::vector<Said>& said = thread.said;
      const auto make = [&] { return MakeFormed(from_, subject.form); };
      std::string value = make();
      while (value == subject.name || (!said.empty() && value == said.back().value)) value = make();
      std::string old = said.empty() ? make() : said.back().value;
      while (old == value) old = make();
      const std::string text = WordFact(subject, !said.empty(), value, old);
      episode_.facts.push_back(dated_ ? absl::StrCat(clock.Prefix(), text) : text);
      episode_.statements.push_back(
          {.fact = fact, .subject = subject.name, .relation = subject.topic, .value = value});
      said.push_back({.value = std::move(value), .at = clock.At(), .fact = fact});
    }
  }

  std::string WordFact(const Subject& subject, bool changed, absl::string_view value,
                       absl::string_view old) {
    const bool own = subject.listed != nullptr && random_.Chance(0.5);
    if (!own && !random_.Chance(wordings_)) {
      // News often give the new value without saying that there was another.
      return Say(
          from_, changed && random_.Chance(0.6) ? "change" : "fact",
          {.subject = subject.name, .relation = subject.topic, .value = value, .old_value = old});
    }
    return Fill(
        random_, PickFrom(random_, from_.split, own ? subject.listed->facts : kFacts),
        {{"n", subject.topic}, {"e", subject.name}, {"v", value}, {"u", WithArticle(value)}});
  }

  // In the topic's own words, in those for any, or by a rule of the grammar; `value` is the newest.
  std::string WordQuestion(const Subject& subject, const Words* own, const Words& any,
                           absl::string_view rule, absl::string_view at, absl::string_view value) {
    const bool use_own = own != nullptr && random_.Chance(0.4);
    if (!use_own && !random_.Chance(wordings_)) {
      return Say(from_, rule,
                 {.subject = subject.name, .relation = subject.topic, .value = value, .at = at});
    }
    return Fill(random_, PickFrom(random_, from_.split, use_own ? *own : any),
                {{"n", subject.topic}, {"e", subject.name}, {"at", at}, {"v", value}});
  }

  // For the newest value once the thread's first `num_said` statements are made.
  Question AskNow(const Thread& thread, size_t num_said) {
    const Subject& subject = thread.subject;
    const std::string& newest = thread.said[num_said - 1].value;
    const Words* own = subject.listed == nullptr ? nullptr : &subject.listed->now;
    Question now{.text = WordQuestion(subject, own, kNow, "now", "", newest),
                 .answer = newest,
                 .kind = "now",
                 .subject = subject.name,
                 .relation = subject.topic};
    for (size_t i = num_said; i > 0 && now.evidence.size() < kMaxEvidence; --i) {
      now.evidence.push_back(WholeFact(episode_, thread.said[i - 1].fact));
    }
    return now;
  }

  void AskOlder(const Thread& thread, const Said& then, absl::string_view kind, std::string text) {
    Question question{.text = std::move(text),
                      .answer = then.value,
                      .evidence = {WholeFact(episode_, then.fact)},
                      .kind = kind,
                      .subject = thread.subject.name,
                      .relation = thread.subject.topic};
    episode_.questions.push_back(std::move(question));
  }

  void Ask(const Thread& thread) {
    const Subject& subject = thread.subject;
    const std::vector<Said>& said = thread.said;
    const Said& last = said.back();
    episode_.questions.push_back(AskNow(thread, said.size()));
    if (said.size() < 2) return;
    if (dated_ && random_.Chance(0.6)) {
      const Said& then = random_.Pick(said);
      // Two statements of a thread may bear one date.
      if (std::count_if(said.begin(), said.end(),
                        [&](const Said& other) { return other.at == then.at; }) == 1) {
        const Words* own = subject.listed == nullptr ? nullptr : &subject.listed->then;
        AskOlder(thread, then, "then",
                 WordQuestion(subject, own, kThen, "then", then.at, last.value));
      }
    }
    if (random_.Chance(0.25)) {
      // "Before {v}" must mean one statement.
      if (std::count_if(said.begin(), said.end(),
                        [&](const Said& other) { return other.value == last.value; }) == 1) {
        AskOlder(thread, said[said.size() - 2], "before",
                 WordQuestion(subject, nullptr, kBefore, "before", "", last.value));
        episode_.questions.back().evidence.push_back(WholeFact(episode_, last.fact));
      }
    }
    if (random_.Chance(0.1)) {
      AskOlder(thread, said[0], "first",
               WordQuestion(subject, nullptr, kFirst, "first", "", last.value));
    }
  }

  const Source& from_;
  Random& random_;
  const double wordings_;
  const bool dated_;
  std::vector<Thread> threads_;
  Episode episode_;  // without questions, until it is asked
};

}  // namespace

Episode MakeNews(const Source& from, int num_facts) { return Wire(from, num_facts).AskAtTheEnd(); }

Episode MakeNewsUpdates(const Source& from, int num_facts) {
  return Wire(from, num_facts).AskAlong();
}

const Words& NewsTopics() {
  static const Words* const names = [] {
    auto* made = new Words;
    for (const Topic& topic : kTopics) made->push_back(topic.name);
    return made;
  }();
  return *names;
}

}  // namespace rasq::tasks
