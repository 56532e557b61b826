#include "client/tasks/key_values.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
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

struct Entry {
  std::string key;
  const Label* label;
  std::vector<std::string> values;
  std::vector<int> facts;
};

std::vector<Span> Evidence(const Episode& episode, const Entry& entry) {
  std::vector<Span> spans;
  for (const int fact : entry.facts) spans.push_back(WholeFact(episode, fact));
  return spans;
}

}  // namespace

Episode MakeKeyValues(Random& random, Split split, int num_facts) {
  // A few labels an episode: the thing asked about differs from others by its name alone.
  std::vector<const Label*> labels;
  const int64_t num_labels = random.Between(1, 6);
  for (int64_t i = 0; i < num_labels; ++i) labels.push_back(&PickFrom(random, split, kLabels));
  const bool several = random.Chance(0.2);

  std::vector<Entry> entries;
  std::vector<size_t> order;  // which entry the next fact is about
  std::set<std::string> keys;
  while (static_cast<int>(order.size()) < num_facts) {
    const int64_t num_values = several && random.Chance(0.4) ? random.Between(2, 4) : 1;
    order.insert(order.end(), num_values, entries.size());
    entries.push_back({.key = MakeFresh(keys, [&] { return MakeKey(random, split); }),
                       .label = random.Pick(labels)});
  }
  order.resize(num_facts);
  random.Shuffle(order);

  Episode episode;
  std::map<std::pair<const Label*, std::string>, int> uses;  // of a value
  for (const size_t i : order) {
    Entry& entry = entries[i];
    std::set<std::string> old(entry.values.begin(), entry.values.end());
    entry.values.push_back(
        MakeFresh(old, [&] { return MakeValue(random, split, random.Pick(entry.label->kinds)); }));
    ++uses[{entry.label, entry.values.back()}];
    entry.facts.push_back(static_cast<int>(episode.facts.size()));
    episode.facts.push_back(
        Fill(random, PickFrom(random, split, kFacts),
             {{"w", entry.label->name}, {"k", entry.key}, {"v", entry.values.back()}}));
  }

  const Entry* before = nullptr;
  for (const Entry& entry : entries) {
    if (entry.facts.empty()) continue;
    const absl::string_view label = entry.label->name;
    Question question{.evidence = Evidence(episode, entry)};
    if (entry.values.size() > 1) {
      question.text =
          Fill(random, PickFrom(random, split, kAllQuestions), {{"w", label}, {"k", entry.key}});
      question.answer = JoinList(entry.values);
    } else if (random.Chance(0.08) && uses[{entry.label, entry.values[0]}] == 1) {
      question.text = Fill(random, PickFrom(random, split, kReverseQuestions),
                           {{"w", label}, {"v", entry.values[0]}});
      question.answer = entry.key;
    } else if (before != nullptr && before->label == entry.label && random.Chance(0.1)) {
      question.text = Fill(random, PickFrom(random, split, kPairQuestions),
                           {{"w", label}, {"k", before->key}, {"l", entry.key}});
      question.answer = JoinList({before->values[0], entry.values[0]});
      question.evidence.push_back(WholeFact(episode, before->facts[0]));
    } else {
      question.text =
          Fill(random, PickFrom(random, split, kQuestions), {{"w", label}, {"k", entry.key}});
      question.answer = entry.values[0];
    }
    if (entry.values.size() == 1) before = &entry;
    episode.questions.push_back(std::move(question));
  }
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace rasq::tasks
