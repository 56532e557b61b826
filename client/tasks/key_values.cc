#include "client/tasks/key_values.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/statements.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

struct Label {
  absl::string_view name;
  std::vector<ValueKind> kinds;
};
const std::vector<Label> kLabels = {
    {"code", {ValueKind::kDigits, ValueKind::kCode}},
    {"number", {ValueKind::kDigits}},
    {"access code", {ValueKind::kDigits, ValueKind::kCode}},
    {"secret number", {ValueKind::kDigits}},
    {"password", {ValueKind::kMadeUp, ValueKind::kCode, ValueKind::kWord, ValueKind::kTwoWords}},
    {"serial number", {ValueKind::kCode, ValueKind::kDigits}},
    {"token", {ValueKind::kCode, ValueKind::kMadeUp}},
    {"pass phrase", {ValueKind::kTwoWords, ValueKind::kMadeUp}},
    {"id", {ValueKind::kCode, ValueKind::kDigits}},
    {"room number", {ValueKind::kShort}},
    {"badge", {ValueKind::kCode, ValueKind::kDigits}},
    {"magic word", {ValueKind::kMadeUp, ValueKind::kWord}},
    {"phone number", {ValueKind::kDigits}},
    {"magic number", {ValueKind::kDigits}},
    {"call sign", {ValueKind::kMadeUp, ValueKind::kTwoWords, ValueKind::kCode}},
    {"reference", {ValueKind::kCode, ValueKind::kDigits}},
    {"order number", {ValueKind::kDigits, ValueKind::kCode}},
    {"locker", {ValueKind::kShort, ValueKind::kCode}},
    {"price", {ValueKind::kPrice}},
    {"combination", {ValueKind::kDigits}},
    {"delivery date", {ValueKind::kDate}},
    {"owner", {ValueKind::kName}},
    {"keeper", {ValueKind::kName}},
    {"ticket number", {ValueKind::kDigits, ValueKind::kCode}},
    {"departure time", {ValueKind::kTime}},
    {"destination", {ValueKind::kCity}},
    {"colour", {ValueKind::kColour}},
    {"label", {ValueKind::kWord, ValueKind::kColour, ValueKind::kCode}},
    {"key word", {ValueKind::kWord, ValueKind::kMadeUp}},
    {"nickname", {ValueKind::kMadeUp, ValueKind::kAnimal}},
    {"licence plate", {ValueKind::kCode}},
    {"registration", {ValueKind::kCode, ValueKind::kDigits}},
    {"emblem", {ValueKind::kAnimal}},
    {"PIN", {ValueKind::kDigits}},
    {"postcode", {ValueKind::kCode, ValueKind::kDigits}},
    {"value", {ValueKind::kDigits, ValueKind::kShort, ValueKind::kMadeUp}},
    {"answer", {ValueKind::kWord, ValueKind::kDigits, ValueKind::kCity}},
    {"closing time", {ValueKind::kTime}},
    {"home port", {ValueKind::kCity}},
    {"flight number", {ValueKind::kCode}},
    {"weight", {ValueKind::kShort}},
    {"birthplace", {ValueKind::kCity}},
    {"deadline", {ValueKind::kDate, ValueKind::kTime}},
    {"secret word", {ValueKind::kWord, ValueKind::kMadeUp, ValueKind::kFood}},
    {"account number", {ValueKind::kDigits}},
    {"shelf", {ValueKind::kShort, ValueKind::kCode}},
    {"seal", {ValueKind::kAnimal, ValueKind::kColour}},
    {"batch number", {ValueKind::kDigits, ValueKind::kCode}},
};

const Words kFacts = {
    "the {w} <of|for> {k} is {v}.",
    "<remember|keep in mind|do not forget> that the {w} <of|for> {k} is {v}.",
    "{k} <has|carries|uses|goes by> the {w} {v}.",
    "<note|memo|reminder>: {w} {v} <was given|belongs|was assigned> to {k}.",
    "the {w} <registered|recorded|on file|noted down> for {k} <was|is> {v}.",
    "{k} | {w} | {v}",
    "[{k}] {w} = {v}",
    "{k}: {w} {v}.",
    "{v} is the {w} <of|for> {k}.",
    "for {k}, <use|take|enter|write> {v} as the {w}.",
    "<the clerk|an old note|the ledger|the register|the manual> <says|shows|states> that the {w} "
    "of "
    "{k} is {v}.",
    "we <set|changed> the {w} of {k} to {v}.",
    "as for {k}, its {w} <is|reads> {v}.",
    "if anyone asks, the {w} of {k} is {v}.",
    "{k} was <issued|assigned|given> {v} as <its|the> {w}.",
    "<written|printed|stamped> on the card for {k}: {w} {v}.",
    "the {w} that <belongs to|goes with> {k} is {v}.",
    "{w} of {k}: {v}",
    "{w} for {k} - {v}.",
    "the {w} {v} <identifies|goes with|belongs to> {k}.",
    "<please write down|write down|make a note>: {k}, {w} {v}.",
    "under {k} the {w} is given as {v}.",
    "you will find that {k} has {v} <for|as> its {w}.",
    "what goes with {k} is the {w} {v}.",
    "they <gave|sent|told> us the {w} of {k}: {v}.",
    "by the way, the {w} of {k} turned out to be {v}.",
    "according to the <list|table|files|records>, the {w} for {k} is {v}.",
    "{k} answers to the {w} {v}.",
    "it is settled: {k} gets the {w} {v}.",
    "<entry|item|line>: {k}; {w}: {v}.",
    "let the {w} of {k} be {v}.",
    "everyone at the office knows the {w} of {k}, namely {v}.",
    "one of the <special|important|secret> {w}s to remember, that of {k}, is {v}.",
    "<a special|one important|a secret> {w} for {k} is: {v}.",
    "the {w} of {k}? It is {v}.",
    "\"{v}\" is <listed|down|kept> as the {w} of {k}.",
    "{k} - {w}: {v}",
    "this morning {k} received the {w} {v}.",
    "nobody should lose the {w} of {k}: it is {v}.",
    "last time we looked, {k} had the {w} {v}.",
};
const Words kQuestions = {
    "what is the {w} <of|for> {k}?",
    "which {w} <belongs to|goes with|was given to> {k}?",
    "what {w} does {k} have?",
    "what is the {w} that {k} has?",
    "tell me the {w} <of|for> {k}.",
    "can you give me the {w} of {k}?",
    "do you remember the {w} of {k}?",
    "[{k}] {w} = ?",
    "{w} of {k}?",
    "{k}: {w}?",
    "I need the {w} for {k}. What is it?",
    "what was the {w} of {k} again?",
    "what did it say about the {w} of {k}?",
    "under which {w} is {k} <listed|known|registered>?",
    "which {w} was <mentioned|stated|recorded> for {k}?",
    "please repeat the {w} <of|for> {k}.",
    "for {k}, what is the {w}?",
    "what {w} was assigned to {k}?",
    "what should I enter as the {w} of {k}?",
    "recall the {w} of {k}.",
    "someone asked for the {w} of {k}. What is the answer?",
    "look up the {w} of {k}.",
    "name the {w} <of|for> {k}.",
    "what {w} did they <give to|assign to> {k}?",
    "what is the <special|important|secret> {w} for {k} mentioned in the text?",
    "the {w} of {k} is what?",
    "as what is the {w} of {k} given?",
    "how does the {w} of {k} read?",
    "what is {k}'s {w}?",
    "which {w} do you have for {k}?",
    "which {w} is the one of {k}?",
    "find the {w} of {k}.",
};
const Words kReverseQuestions = {
    "what has the {w} {v}?",           "to what does the {w} {v} belong?",
    "{v} is the {w} of what?",         "which of them has the {w} {v}?",
    "the {w} {v} goes with what?",     "for what is {v} the {w}?",
    "who or what has {v} as its {w}?", "what is listed with the {w} {v}?",
};
const Words kAllQuestions = {
    "what are all the {w}s of {k}?",      "which {w}s were mentioned for {k}?",
    "list every {w} given for {k}.",      "name all the {w}s for {k}.",
    "what {w}s does {k} have, in order?", "which {w}s belong to {k}?",
    "tell me each {w} of {k}.",           "what are the {w}s recorded for {k}?",
};
const Words kPairQuestions = {
    "what are the {w}s of {k} and {l}?",
    "give me the {w} of {k} and that of {l}.",
    "which {w}s do {k} and {l} have?",
    "tell me the {w}s for {k} and for {l}.",
    "{w} of {k}, and of {l}?",
    "I need two {w}s: of {k} and of {l}.",
    "what {w} has {k}, and what {w} has {l}?",
    "name the {w}s of both {k} and {l}.",
};

std::string MakeKey(Random& random, Split split) {
  const auto noun = [&] { return PickFrom(random, split, Nouns()); };
  const auto adjective = [&] { return PickFrom(random, split, Adjectives()); };
  switch (random.Below(14)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Concat({"the ", adjective(), " ", noun()});
    case 4:
    case 5:
      return Concat({MakePersonName(random, split), "'s ", noun()});
    case 6:
      return MakeWord(random, split);
    case 7:
      return Concat({noun(), " ", random.Between(1, 99)});
    case 8:
      return Concat({"the ", MakeCity(random, split), " ", noun()});
    case 9: {
      constexpr absl::string_view kKinds[] = {"project", "operation", "station", "planet", "agent"};
      return Concat({random.Pick(kKinds), " ", MakeMadeUpName(random, split)});
    }
    case 10:
      return Concat({adjective(), "-", noun()});
    case 11:
      return Concat({"the ", MakeValue(random, split, ValueKind::kColour), " ", noun()});
    case 12: {
      constexpr absl::string_view kKinds[] = {"unit", "gate", "room", "machine", "sector", "box"};
      return Concat({random.Pick(kKinds), " ", MakeValue(random, split, ValueKind::kCode)});
    }
    default:
      return Concat({"the ", noun(), " of ", MakePersonName(random, split)});
  }
}

// Shares of what is from the lists above; the rest is open or from the grammar.
constexpr double kListedLabels = 0.25, kListedWordings = 0.2;
// Those of an evaluation, whose lists are its old half.
constexpr double kHeldOutListed = 0.6;

// A label of this episode: its name, and how its values look.
struct Relation {
  std::string name;
  std::vector<ValueForm> forms;
};

Relation MakeRelation(const Source& from) {
  if (from.random.Chance(from.training() ? kListedLabels : kHeldOutListed)) {
    const Label& label = PickFrom(from.random, from.split, kLabels);
    Relation relation{.name = std::string(label.name), .forms = {}};
    for (const ValueKind kind : label.kinds) relation.forms.push_back({.listed = kind});
    return relation;
  }
  Relation relation{.name = MakeOpenRelation(from), .forms = {}};
  for (int64_t left = from.random.Between(1, 2); left > 0; --left) {
    relation.forms.push_back(PickValueForm(from.random));
  }
  return relation;
}

struct Entry {
  std::string key;
  const Relation* relation;
  std::vector<std::string> values;
  std::vector<int> facts;
};

class Maker {
 public:
  explicit Maker(const Source& from)
      : from_(from),
        random_(from.random),
        wordings_(from.training() ? kListedWordings : kHeldOutListed) {}

  Episode Make(int num_facts) {
    // A few labels an episode: the thing asked about differs from others by its name alone.
    const int64_t num_labels = random_.Between(1, 6);
    for (int64_t i = 0; i < num_labels; ++i) {
      // Of one name, so that reverse questions have one answer.
      Relation relation = MakeRelation(from_);
      if (std::none_of(relations_.begin(), relations_.end(),
                       [&](const Relation& other) { return other.name == relation.name; })) {
        relations_.push_back(std::move(relation));
      }
    }
    Tell(num_facts);
    const Entry* before = nullptr;
    for (const Entry& entry : entries_) {
      if (entry.facts.empty()) continue;
      Ask(entry, before);
      if (entry.values.size() == 1) before = &entry;
    }
    if (from_.training() && random_.Chance(kUnknownEpisodes)) AskUnknown();
    LetAnswersHoldToTheEnd(episode_);
    return std::move(episode_);
  }

 private:
  // Share of training's episodes with a question that nothing answers.
  static constexpr double kUnknownEpisodes = 0.15;

  void Tell(int num_facts) {
    const bool several = random_.Chance(0.2);
    std::vector<size_t> order;  // which entry the next fact is about
    std::set<std::string> keys;
    while (static_cast<int>(order.size()) < num_facts) {
      const int64_t num_values = several && random_.Chance(0.4) ? random_.Between(2, 4) : 1;
      order.insert(order.end(), num_values, entries_.size());
      std::string key = MakeFresh(keys, [&] { return MakeKey(); });
      entries_.push_back({.key = std::move(key), .relation = &random_.Pick(relations_)});
    }
    order.resize(num_facts);
    random_.Shuffle(order);
    for (const size_t i : order) {
      Entry& entry = entries_[i];
      const Relation& relation = *entry.relation;
      // Of a key with several values each is told once, and no key is a value.
      std::set<std::string> old(entry.values.begin(), entry.values.end());
      old.insert(entry.key);
      const auto make = [&] { return MakeFormed(from_, random_.Pick(relation.forms)); };
      const std::string value = MakeFresh(old, make);
      const std::string denied = MakeFresh(old, make);
      ++uses_[{&relation, value}];
      const auto fact = static_cast<int>(episode_.facts.size());
      episode_.facts.push_back(Word(
          kFacts, "fact",
          {.subject = entry.key, .relation = relation.name, .value = value, .old_value = denied}));
      episode_.statements.push_back(
          {.fact = fact, .subject = entry.key, .relation = relation.name, .value = value});
      entry.values.push_back(value);
      entry.facts.push_back(fact);
    }
  }

  void Ask(const Entry& entry, const Entry* before) {
    const Relation& relation = *entry.relation;
    Question question;
    for (const int fact : entry.facts) question.evidence.push_back(WholeFact(episode_, fact));
    Speech speech{.subject = entry.key, .relation = relation.name, .value = entry.values[0]};
    if (entry.values.size() > 1) {
      question.text = Word(kAllQuestions, "all", speech);
      question.answer = JoinList(entry.values);
    } else if (random_.Chance(0.08) && uses_[{&relation, entry.values[0]}] == 1) {
      question.text = Word(kReverseQuestions, "reverse", speech);
      question.answer = entry.key;
    } else if (before != nullptr && before->relation == &relation && random_.Chance(0.1)) {
      speech.subject = before->key, speech.other = entry.key;
      question.text = Word(kPairQuestions, "pair", speech);
      question.answer = JoinList({before->values[0], entry.values[0]});
      question.evidence.push_back(WholeFact(episode_, before->facts[0]));
    } else {
      question.text = Word(kQuestions, "question", speech);
      question.answer = entry.values[0];
      question.subject = entry.key, question.relation = relation.name;
    }
    episode_.questions.push_back(std::move(question));
  }

  // For a relation that a told key does not have. What was told about the key must be read to know
  // so.
  void AskUnknown() {
    const Entry& entry = random_.Pick(entries_);
    if (entry.facts.empty()) return;
    const std::string missing = MakeOpenRelation(from_);
    if (std::any_of(relations_.begin(), relations_.end(),
                    [&](const Relation& other) { return other.name == missing; })) {
      return;
    }
    Question question{.text = Word(kQuestions, "question",
                                   {.subject = entry.key, .relation = missing, .value = ""}),
                      .answer = "unknown",
                      .kind = "unknown"};
    for (const int fact : entry.facts) question.evidence.push_back(WholeFact(episode_, fact));
    episode_.questions.push_back(std::move(question));
  }

  std::string MakeKey() {
    const bool listed = random_.Chance(from_.training() ? kListedLabels : kHeldOutListed);
    return listed ? tasks::MakeKey(random_, from_.split) : MakeOpenKey(from_);
  }

  // From the list or the grammar.
  std::string Word(const Words& list, absl::string_view rule, const Speech& speech) {
    if (!random_.Chance(wordings_)) return Say(from_, rule, speech);
    return Fill(
        random_, PickFrom(random_, from_.split, list),
        {{"w", speech.relation}, {"k", speech.subject}, {"l", speech.other}, {"v", speech.value}});
  }

  const Source& from_;
  Random& random_;
  const double wordings_;
  std::vector<Relation> relations_;
  std::vector<Entry> entries_;
  std::map<std::pair<const Relation*, std::string>, int> uses_;  // of a value
  Episode episode_;
};

}  // namespace

Episode MakeKeyValues(const Source& from, int num_facts) { return Maker(from).Make(num_facts); }

const Words& KeyValueLabels() {
  static const Words* const names = [] {
    auto* made = new Words;
    for (const Label& label : kLabels) made->push_back(label.name);
    return made;
  }();
  return *names;
}

}  // namespace rasq::tasks
