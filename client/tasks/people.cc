#include "client/tasks/people.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/deeds.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/statements.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

struct Trait {
  absl::string_view name;
  ValueKind kind;
  // Wordings of its own, beside those that fit every trait; {u} is the value with "a" or "an".
  Words facts, questions;
};
const std::vector<Trait> kTraits = {
    {"favourite colour",
     ValueKind::kColour,
     {"{p} likes {v} best of all colours.",
      "{p} <paints|dyes> everything {v}, the colour that {p} likes best."},
     {"which colour does {p} like best?"}},
    {"favorite color", ValueKind::kColour, {}, {"what color does {p} like most?"}},
    {"favourite food",
     ValueKind::kFood,
     {"{p} <would eat|could live on> {v} every day.", "nothing tastes better to {p} than {v}."},
     {"what does {p} like to eat most?"}},
    {"favorite food", ValueKind::kFood, {}, {}},
    {"home town",
     ValueKind::kCity,
     {"{p} <comes from|grew up in|was raised in> {v}.", "{p} is a native of {v}."},
     {"where does {p} come from?", "which town is {p} from?"}},
    {"pet",
     ValueKind::kAnimal,
     {"{p} keeps {u} as a pet.", "{p} <owns|looks after> {u}."},
     {"which animal does {p} keep?", "what kind of pet does {p} have?"}},
    {"job",
     ValueKind::kJob,
     {"{p} <works as|earns a living as|is> {u}.", "{p} was hired as {u}."},
     {"what does {p} do for a living?", "what is {p} by trade?"}},
    {"nickname", ValueKind::kMadeUp, {"friends call {p} {v}."}, {"what do friends call {p}?"}},
    {"destination",
     ValueKind::kCity,
     {"{p} <is on the way|is going|travels> to {v}.", "{p} bought a ticket to {v}."},
     {"where is {p} headed?", "where is {p} going?"}},
    {"car colour",
     ValueKind::kColour,
     {"{p} drives a car that is {v}."},
     {"what colour is {p}'s car?"}},
    {"hobby",
     ValueKind::kHobby,
     {"{p} <spends every weekend on|is mad about> {v}."},
     {"how does {p} spend the weekends?"}},
    {"instrument",
     ValueKind::kInstrument,
     {"{p} <plays|practises|is learning> the {v}."},
     {"what does {p} play?", "which instrument does {p} play?"}},
    {"favourite drink",
     ValueKind::kDrink,
     {"{p} always <orders|drinks> {v}."},
     {"what does {p} usually drink?"}},
    {"lucky number",
     ValueKind::kShort,
     {"{p} always bets on {v}."},
     {"on which number does {p} bet?"}},
    {"birthday",
     ValueKind::kDate,
     {"{p} was born on {v}.", "{p} celebrates on {v}."},
     {"when was {p} born?", "on which day does {p} celebrate?"}},
    {"sport",
     ValueKind::kSport,
     {"{p} trains for {v} <twice a week|every morning>."},
     {"which sport does {p} do?"}},
    {"mother tongue",
     ValueKind::kLanguage,
     {"{p} <speaks|dreams in> {v}."},
     {"which language does {p} speak?"}},
    {"best friend",
     ValueKind::kName,
     {"{p} does everything together with {v}."},
     {"who is the best friend of {p}?"}},
    {"brother", ValueKind::kName, {"{p} has a brother called {v}."}, {"who is {p}'s brother?"}},
    {"sister", ValueKind::kName, {"{p} has a sister called {v}."}, {"who is {p}'s sister?"}},
    {"boss",
     ValueKind::kName,
     {"{p} works for {v}.", "{p} reports to {v}."},
     {"for whom does {p} work?", "who is the boss of {p}?"}},
    {"neighbour", ValueKind::kName, {"{p} lives next door to {v}."}, {"who lives beside {p}?"}},
    {"room", ValueKind::kShort, {"{p} sleeps in room {v}."}, {"in which room is {p}?"}},
    {"bus line", ValueKind::kShort, {"{p} takes bus {v}."}, {"which bus does {p} take?"}},
    {"phone number",
     ValueKind::kDigits,
     {"you can reach {p} at {v}.", "to call {p}, dial {v}."},
     {"how can I reach {p} by phone?", "which number do I dial for {p}?"}},
    {"password", ValueKind::kMadeUp, {"{p} logs in with {v}."}, {"with what does {p} log in?"}},
    {"badge number", ValueKind::kCode, {"{p} wears badge {v}."}, {"which badge does {p} wear?"}},
    {"favourite animal", ValueKind::kAnimal, {}, {"which animal does {p} like best?"}},
    {"shoe size", ValueKind::kShort, {"{p} wears shoes of size {v}."}, {}},
    {"coat colour",
     ValueKind::kColour,
     {"{p} <wears|came in> a coat that is {v}."},
     {"what colour is {p}'s coat?"}},
    {"school", ValueKind::kWord, {}, {}},
    {"current city",
     ValueKind::kCity,
     {"{p} <lives|has a flat|has settled> in {v}."},
     {"where does {p} live?", "in which city does {p} live?"}},
    {"appointment", ValueKind::kTime, {"{p} is expected at {v}."}, {"when is {p} expected?"}},
    {"wish", ValueKind::kTwoWords, {"{p} is saving up for the {v}."}, {}},
    {"travel date", ValueKind::kDate, {"{p} leaves on {v}."}, {"when does {p} leave?"}},
    {"monthly rent", ValueKind::kPrice, {"{p} pays {v} a month."}, {"what does {p} pay a month?"}},
    {"code name", ValueKind::kTwoWords, {"in the files {p} is called {v}."}, {}},
    {"locker", ValueKind::kCode, {"{p} keeps things in locker {v}."}, {}},
    {"teacher", ValueKind::kName, {"{p} takes lessons from {v}."}, {"who teaches {p}?"}},
    {"second job", ValueKind::kJob, {"at night {p} works as {u}."}, {}},
};

const Words kFacts = {
    "{p}: my {a} is {v}.",
    "{p}'s {a} is {v}.",
    "{p} told us that the {a} is {v}.",
    "{p} <said|mentioned|admitted|wrote>: \"My {a} is {v}.\"",
    "the {a} of {p} is {v}.",
    "<everyone knows|we learned|I heard> that {p}'s {a} is {v}.",
    "{v} is {p}'s {a}.",
    "ask {p} for the {a} and you will hear: {v}.",
    "<note|remember|keep in mind>: the {a} of {p} is {v}.",
    "{p} - {a}: {v}.",
    "for {a}, {p} put down {v}.",
    "when asked about the {a}, {p} answered {v}.",
    "{p} gave {v} as {a}.",
    "I asked {p} about the {a}. \"{v}\", was the reply.",
    "on the form, {p} entered {v} under {a}.",
    "it turns out that the {a} of {p} is {v}.",
    "{p} has {v} as {a}.",
    "the {a} that {p} mentioned is {v}.",
    "in the letter {p} wrote that the {a} was {v}.",
    "did you know? {p}'s {a} is {v}.",
    "{p} (<listed|entered> with {a} {v})",
    "\"{v}\", said {p} when we came to the {a}.",
    "among other things, {p}'s {a} is {v}.",
    "{a} of {p}: {v}",
    "profile of {p}: {a} {v}.",
    "as {a}, {p} has {v}.",
    "{p} speaking. My {a}? {v}.",
    "nobody forgets that the {a} of {p} is {v}.",
    "{p}, whose {a} is {v}, <waved|nodded|said nothing>.",
    "hello, I am {p} and my {a} is {v}.",
    "let me tell you about {p}: the {a} is {v}.",
    "my friend {p} has the {a} {v}.",
};
const Words kChanges = {
    "{p}'s {a} is now {v}.",
    "{p}: I changed my mind, my {a} is {v} now.",
    "the {a} of {p} has changed to {v}.",
    "<correction|update|news>: {p}'s {a} is {v}.",
    "from today on, the {a} of {p} is {v}.",
    "{p} has a new {a}: {v}.",
    "{p} told us that the {a} is {v} these days.",
    "{p} switched the {a} to {v}.",
    "forget what was said before: the {a} of {p} is {v}.",
    "{p}: it is no longer so, my {a} is {v}.",
    "these days {p}'s {a} is {v}.",
    "the latest on {p}: {a} {v}.",
    "{p} - new {a}: {v}.",
    "since yesterday {p} has {v} as {a}.",
    "as of now, {p} gives {v} as {a}.",
    "things change: {p}'s {a} is {v}.",
};
const Words kQuestions = {
    "what is {p}'s {a}?",
    "what is the {a} of {p}?",
    "which {a} does {p} have?",
    "tell me {p}'s {a}.",
    "what did {p} give as {a}?",
    "can you recall {p}'s {a}?",
    "what was said about the {a} of {p}?",
    "do you know {p}'s {a}?",
    "{p}'s {a}?",
    "what {a} did {p} <mention|name>?",
    "who or what is {p}'s {a}?",
    "about {p}: what is the {a}?",
    "I forgot {p}'s {a}. What is it?",
    "what does {p} have as {a}?",
    "name the {a} of {p}.",
    "for {p}, what is the {a}?",
    "please tell me what {p}'s {a} is.",
    "what do we know about the {a} of {p}?",
    "if you had to name {p}'s {a}, what would it be?",
    "remind me of the {a} of {p}.",
    "{p}, {a}?",
    "what {a} is {p} known for?",
    "the {a} of {p} is what?",
    "what is the {a} that {p} told us?",
};
const Words kNowQuestions = {
    "what is {p}'s {a} now?",        "what is the current {a} of {p}?",
    "as of now, what is {p}'s {a}?", "what is {p}'s {a} at the moment?",
    "what is {p}'s latest {a}?",     "after all the changes, what is {p}'s {a}?",
    "what is {p}'s newest {a}?",     "which {a} does {p} have these days?",
};
const Words kReverse = {
    "whose {a} is {v}?",       "who has {v} as {a}?",           "who said that the {a} is {v}?",
    "{v} is the {a} of whom?", "which person has the {a} {v}?", "who gave {v} as {a}?",
    "of whom is {v} the {a}?", "who is it whose {a} is {v}?",
};

constexpr size_t kMaxEvidence = 6;  // the newest statements of a trait that changed

// Shares of what is from the lists above; the rest is open or from the grammar.
constexpr double kListedTraits = 0.25, kListedWordings = 0.25, kListedPeople = 0.2;
constexpr double kDeeds = 0.25;  // share of training's episodes that are of deeds, not of traits
// Those of an evaluation, whose lists are its old half.
constexpr double kHeldOutListed = 0.6;

// A trait of this episode: its name, and how its values look.
struct Quality {
  std::string name;
  ValueForm form;
  const Trait* listed = nullptr;

  bool IsPerson() const { return form.listed == ValueKind::kName; }
};

Quality MakeQuality(const Source& from) {
  if (from.random.Chance(from.training() ? kListedTraits : kHeldOutListed)) {
    const Trait& trait = PickFrom(from.random, from.split, kTraits);
    return {.name = std::string(trait.name), .form = {.listed = trait.kind}, .listed = &trait};
  }
  std::string name = MakeOpenRelation(from);
  return {.name = std::move(name), .form = PickValueForm(from.random)};
}

struct Known {
  std::string value;
  std::vector<int> facts;
};

class Maker {
 public:
  explicit Maker(const Source& from)
      : from_(from),
        random_(from.random),
        wordings_(from.training() ? kListedWordings : kHeldOutListed) {}

  Episode Make(int num_facts) {
    std::set<std::string> used;
    const int64_t num_people = std::max<int64_t>(2, random_.Between(num_facts / 3, num_facts));
    for (int64_t i = 0; i < num_people; ++i) {
      people_.push_back(MakeFresh(used, [&] {
        return random_.Chance(from_.training() ? kListedPeople : kHeldOutListed)
                   ? MakePersonName(random_, from_.split)
                   : MakeOpenPerson(from_);
      }));
    }
    // Few: what tells facts apart is the person.
    const int64_t num_qualities = random_.Between(2, 10);
    std::set<std::string> names;
    for (int64_t i = 0; i < num_qualities; ++i) {
      Quality quality = MakeQuality(from_);
      if (names.insert(quality.name).second) qualities_.push_back(std::move(quality));
    }
    Tell(num_facts);
    for (const auto& [subject, now] : known_) Ask(subject.first, subject.second, now);
    if (from_.training() && random_.Chance(kUnknownEpisodes)) AskUnknown();
    random_.Shuffle(episode_.questions);
    LetAnswersHoldToTheEnd(episode_);
    return std::move(episode_);
  }

 private:
  // Share of training's episodes with a question that nothing answers.
  static constexpr double kUnknownEpisodes = 0.15;

  void Tell(int num_facts) {
    const double changes = random_.Chance(0.5) ? 0 : 0.4;
    for (int fact = 0; fact < num_facts; ++fact) {
      size_t number = random_.Below(static_cast<int64_t>(qualities_.size()));
      std::string person = random_.Pick(people_);
      if (!known_.empty() && random_.Chance(changes)) {
        const auto old =
            std::next(known_.begin(), random_.Below(static_cast<int64_t>(known_.size())));
        number = old->first.first, person = old->first.second;
      }
      const Quality& quality = qualities_[number];
      Known& now = known_[{number, person}];
      const auto make = [&] { return MakeFormed(from_, quality.form); };
      std::string value = make();
      while (value == now.value || value == person) value = make();
      const bool changed = !now.facts.empty();
      std::string denied = changed ? now.value : make();
      while (denied == value) denied = make();
      episode_.facts.push_back(WordFact(quality, changed, person, value, denied));
      episode_.statements.push_back(
          {.fact = fact, .subject = person, .relation = quality.name, .value = value});
      now.value = std::move(value);
      now.facts.push_back(fact);
    }
  }

  std::string WordFact(const Quality& quality, bool changed, absl::string_view person,
                       absl::string_view value, absl::string_view denied) {
    const bool own = !changed && quality.listed != nullptr && !quality.listed->facts.empty() &&
                     random_.Chance(0.35);
    if (!own && !random_.Chance(wordings_)) {
      return Say(from_, changed ? "person_change" : "person_fact",
                 {.subject = person,
                  .relation = quality.name,
                  .value = value,
                  .old_value = denied,
                  .person = true});
    }
    const Words& words = changed ? kChanges : own ? quality.listed->facts : kFacts;
    return Fill(random_, PickFrom(random_, from_.split, words),
                {{"p", person}, {"a", quality.name}, {"v", value}, {"u", WithArticle(value)}});
  }

  std::string WordQuestion(const Quality& quality, absl::string_view person, bool changed) {
    const bool own =
        quality.listed != nullptr && !quality.listed->questions.empty() && random_.Chance(0.3);
    if (!own && !random_.Chance(wordings_)) {
      return Say(from_, changed ? "now" : "question",
                 {.subject = person, .relation = quality.name, .value = "", .person = true});
    }
    const Words& words = changed && random_.Chance(0.5) ? kNowQuestions
                         : own                          ? quality.listed->questions
                                                        : kQuestions;
    return Fill(random_, PickFrom(random_, from_.split, words),
                {{"p", person}, {"a", quality.name}});
  }

  void Ask(size_t number, const std::string& person, const Known& now) {
    const Quality& quality = qualities_[number];
    Question question{.answer = now.value};
    for (size_t i = now.facts.size(); i > 0 && question.evidence.size() < kMaxEvidence; --i) {
      question.evidence.push_back(WholeFact(episode_, now.facts[i - 1]));
    }
    const bool changed = now.facts.size() > 1;
    // Over two steps: the trait of someone's friend, brother, boss.
    const auto step = std::find_if(known_.begin(), known_.end(), [&](const auto& other) {
      return other.second.value == person && qualities_[other.first.first].IsPerson();
    });
    const auto same_value = [&](const auto& other) {
      return other.first.first == number && other.second.value == now.value;
    };
    if (step != known_.end() && random_.Chance(0.3)) {
      const auto& [whose, known] = *step;
      question.text = WordQuestion(
          quality, absl::StrCat(whose.second, "'s ", qualities_[whose.first].name), changed);
      question.evidence.push_back(WholeFact(episode_, known.facts.back()));
    } else if (!changed && random_.Chance(0.1) &&
               std::count_if(known_.begin(), known_.end(), same_value) == 1) {
      question.text = random_.Chance(wordings_)
                          ? Fill(random_, PickFrom(random_, from_.split, kReverse),
                                 {{"a", quality.name}, {"v", now.value}})
                          : Say(from_, "reverse_person",
                                {.subject = person,
                                 .relation = quality.name,
                                 .value = now.value,
                                 .person = true});
      question.answer = person;
    } else {
      question.text = WordQuestion(quality, person, changed);
      question.subject = person, question.relation = quality.name;
    }
    episode_.questions.push_back(std::move(question));
  }

  // For a trait that nobody told of a person. What was told of the person must be read to know so.
  void AskUnknown() {
    const std::string person = random_.Pick(people_);
    const Quality missing{.name = MakeOpenRelation(from_), .form = {}};
    if (std::any_of(qualities_.begin(), qualities_.end(),
                    [&](const Quality& other) { return other.name == missing.name; })) {
      return;
    }
    Question question{.answer = "unknown", .kind = "unknown"};
    for (const Statement& statement : episode_.statements) {
      if (statement.subject == person && question.evidence.size() < kMaxEvidence) {
        question.evidence.push_back(WholeFact(episode_, statement.fact));
      }
    }
    if (question.evidence.empty()) return;
    question.text = WordQuestion(missing, person, /*changed=*/false);
    episode_.questions.push_back(std::move(question));
  }

  const Source& from_;
  Random& random_;
  const double wordings_;
  std::vector<std::string> people_;
  std::vector<Quality> qualities_;
  std::map<std::pair<size_t, std::string>, Known> known_;  // by trait and person
  Episode episode_;
};

}  // namespace

Episode MakePeople(const Source& from, int num_facts) {
  if (from.training() && from.random.Chance(kDeeds)) return MakeDeeds(from, num_facts);
  return Maker(from).Make(num_facts);
}

const Words& PeopleTraits() {
  static const Words* const names = [] {
    auto* made = new Words;
    for (const Trait& trait : kTraits) made->push_back(trait.name);
    return made;
  }();
  return *names;
}

}  // namespace rasq::tasks
