#include "client/tasks/variable_chains.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/grammar.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/statements.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

enum class Naming { kLetters, kWords, kPeople, kThings };

struct Style {
  Naming naming;
  Words first;      // {x} gets the value {v}
  Words next;       // {x} gets what {y} has
  Words questions;  // the value of {x}
  Words all;        // which names have the value {v}
};
const std::vector<Style> kStyles = {
    {Naming::kLetters,
     {"VAR {x} = {v}"},
     {"VAR {x} = VAR {y}"},
     {"what is the value of VAR {x}?", "VAR {x} = ?", "which value does VAR {x} have?"},
     {"find all variables that are assigned the value {v}.", "which variables hold {v}?"}},
    {Naming::kWords,
     {"~let {x} = {v};", "~int {x} = {v};"},
     {"~let {x} = {y};", "~int {x} = {y};"},
     {"what does {x} evaluate to?", "~print({x});", "what is {x} equal to?"},
     {"which variables are equal to {v}?"}},
    {Naming::kWords,
     {"{x} := {v}", "set {x} to {v}."},
     {"{x} := {y}", "set {x} to {y}."},
     {"what is {x} set to?", "the value of {x}?", "to what number is {x} set?"},
     {"what was set to {v}, directly or not?"}},
    {Naming::kThings,
     {"the number of {x} is {v}.", "{x} has the number {v}."},
     {"{x} has the same number as {y}.", "the number of {x} is that of {y}."},
     {"what is the number of {x}?", "which number does {x} have?"},
     {"what has the number {v}?"}},
    {Naming::kPeople,
     {"{x} <holds|was handed|owns> the card with number {v}.", "{x} picked the number {v}."},
     {"{x} chose the same number as {y}.", "{x} copies the number of {y}."},
     {"which number did {x} end up with?", "what is {x}'s number?"},
     {"who has the number {v}?"}},
    {Naming::kLetters,
     {"ASSIGN {v} TO {x}", "{x} : {v}"},
     {"ASSIGN {y} TO {x}", "{x} : {y}"},
     {"what was assigned to {x}?", "which value ends up in {x}?"},
     {"which names were assigned {v}?"}},
    {Naming::kThings,
     {"to open {x} you need {v}.", "{x} opens with {v}."},
     {"{x} opens with whatever opens {y}.", "to open {x}, use the number for {y}."},
     {"with which number does {x} open?", "what opens {x}?"},
     {"what can be opened with {v}?"}},
    {Naming::kWords,
     {"register {x} contains {v}.", "load {v} into {x}."},
     {"copy {y} into {x}.", "register {x} takes the content of {y}."},
     {"what does register {x} contain?", "what is in register {x}?"},
     {"which registers contain {v}?"}},
    {Naming::kPeople,
     {"{x} sits in seat {v}.", "seat {v} belongs to {x}."},
     {"{x} gets the seat of {y}.", "the seat of {y} goes on to {x}."},
     {"which seat did {x} get?", "what is the seat of {x}?"},
     {"who had seat {v}?"}},
    {Naming::kThings,
     {"{x} weighs {v} grams.", "the scales show {v} grams for {x}."},
     {"{x} weighs as much as {y}.", "the scales show the same for {x} as for {y}."},
     {"how many grams does {x} weigh?", "what is the weight of {x} in grams?"},
     {"what weighs {v} grams?"}},
    {Naming::kLetters,
     {"~def {x}: return {v}", "{x} = {v}"},
     {"~def {x}: return {y}()", "{x} = {y}"},
     {"what does {x} return?", "{x} = ?", "what is {x}?"},
     {"what returns {v}?"}},
    {Naming::kPeople,
     {"{x} lives at number {v}.", "the house of {x} has the number {v}."},
     {"{x} moved in with {y}.", "{x} lives in the house of {y}."},
     {"at which number does {x} live?", "what is the house number of {x}?"},
     {"who lives at number {v}?"}},
    {Naming::kWords,
     {"define {x} as {v}.", "the constant {x} is {v}."},
     {"define {x} as {y}.", "the constant {x} is an alias of {y}."},
     {"as what is {x} defined?", "what is the constant {x}?"},
     {"which constants are {v}?"}},
    {Naming::kThings,
     {"{x} is stored on shelf {v}.", "look for {x} on shelf {v}."},
     {"{x} is stored beside {y}, on the same shelf.", "{x} shares its shelf with {y}."},
     {"on which shelf is {x} stored?", "which shelf holds {x}?"},
     {"what is stored on shelf {v}?"}},
    {Naming::kPeople,
     {"{x} bids {v}.", "the bid of {x} is {v}."},
     {"{x} bids exactly what {y} bids.", "{x} joins the bid of {y}."},
     {"how much does {x} bid?", "what is the bid of {x}?"},
     {"who bids {v}?"}},
    {Naming::kWords,
     {"cell {x} shows {v}.", "type {v} into cell {x}."},
     {"cell {x} points to cell {y}.", "type ={y} into cell {x}."},
     {"what does cell {x} show?", "which number is in cell {x}?"},
     {"which cells show {v}?"}},
};

std::string MakeName(Random& random, Split split, Naming naming) {
  switch (naming) {
    case Naming::kLetters:
      return MakeFitting(split, [&] {
        std::string name;
        const int64_t size = random.Between(3, 5);
        for (int64_t i = 0; i < size; ++i) name += static_cast<char>('A' + random.Below(26));
        return name;
      });
    case Naming::kWords:
      return random.Chance(0.7) ? MakeWord(random, split)
                                : absl::StrCat(PickFrom(random, split, Nouns()), "_",
                                               PickFrom(random, split, Nouns()));
    case Naming::kPeople:
      return MakePersonName(random, split);
    case Naming::kThings:
      return absl::StrCat("the ", MakeValue(random, split, ValueKind::kTwoWords));
  }
  return "";
}

// Notations put together anew for each episode. {s} is a mark before every name, of one kind.
const Grammar kTrainingChains = {
    {"mark", {"", "", "", "$", "%", "&", "#", "_", "var ", "VAR ", "x.", "self.", "reg "}},
    {"let",
     {"", "", "", "let ", "set ", "const ", "def ", "var ", "let us say ", "put ", "local "}},
    {"gets",
     {" = ", " = ", ":=", " := ", "=", ": ", " is ", " == ", " gets ", " holds ", " equals ",
      " becomes ", " takes ", " stands for ", " denotes "}},
    {"end", {"", ";", ".", ",", ""}},
    {"ask",
     {"what is {s}{x}?", "what is the value of {s}{x}?", "~{s}{x} = ?", "the value of {s}{x} is",
      "which value <has|holds|carries> {s}{x}?", "evaluate {s}{x}.", "resolve {s}{x}.", "~{s}{x}?",
      "what does {s}{x} come to?", "what number or word is behind {s}{x}?",
      "follow {s}{x} to its end.", "after all of this, what is {s}{x}?", "~print {s}{x}",
      "~echo({s}{x})", "~return {s}{x};", "to what does {s}{x} refer in the end?",
      "what would {s}{x} print?", "give the value of {s}{x}."}},
    {"ask_all",
     {"which names have the value {v}?", "list all that equal {v}.", "what is set to {v}?",
      "all names that come to {v}:", "who has {v}, directly or by another?"}},
    // Of prose: {x} has the {w} that {y} has.
    {"same",
     {"{x} has the same {w} as {y}@stop", "the {w} of {x} is that of {y}@stop",
      "the {w} of {x} is also the {w} of {y}@stop", "{x} took over the {w} of {y}@stop",
      "{x} shares {y}'s {w}@stop", "in {w}, {x} follows {y}@stop", "~{x}: {w} as for {y}",
      "whatever the {w} of {y} is, {x} has it too@stop", "{x} was given the {w} of {y}@stop",
      "{y} and {x} have one and the same {w}@stop", "for the {w} of {x}, see {y}@stop",
      "as {w}, {x} uses what {y} uses@stop", "{x} copied the {w} of {y}@stop",
      "as with {y}, so with {x}: one {w}@stop", "~{x} / {w} / same as {y}",
      "the {w} of {x} does not differ from that of {y}@stop", "ask {y} for the {w} of {x}@stop"}},
    {"same_all",
     {"which of them have {v} as {w}?", "whose {w} is {v}? Name all.",
      "all with the {w} {v}:", "list whatever has the {w} {v}."}},
    {"stop", {".", ".", ".", ".", "!", ";", ""}},
};
const Grammar kHeldOutChains = {
    {"same",
     {"no difference between {x} and {y} where the {w} is concerned.",
      "{x} simply goes along with {y} in matters of {w}.",
      "look no further than {y} if you care about {x} and its {w}."}},
    {"same_all", {"where does one come across {v} in the {w} field?"}},
};

constexpr double kListedStyles = 0.25;
constexpr double kHeldOutListed = 0.6;  // of an evaluation, whose lists are its old half

// How this episode writes it all down.
class Notation {
 public:
  explicit Notation(const Source& from) : from_(from), random_(from.random) {
    if (random_.Chance(from.training() ? kListedStyles : kHeldOutListed)) {
      style_ = &PickFrom(random_, from.split, kStyles);
      naming_ = style_->naming;
      return;
    }
    prose_ = !from.training() || random_.Chance(0.5);
    form_ = PickWideForm(random_);
    if (prose_) {
      relation_ = MakeOpenRelation(from_);
      naming_ = random_.Chance(0.5) ? Naming::kThings : Naming::kPeople;
      return;
    }
    naming_ = random_.Chance(0.5) ? Naming::kLetters : Naming::kWords;
    mark_ = kTrainingChains.SayPattern(random_, "~@mark", {});
    const std::string let = kTrainingChains.SayPattern(random_, "~@let", {});
    const std::string gets = kTrainingChains.SayPattern(random_, "~@gets", {});
    const std::string end = kTrainingChains.SayPattern(random_, "~@end", {});
    constexpr absl::string_view kReferences[] = {
        "{s}{y}",          "{s}{y}",         "{s}{y}",        "({s}{y})",
        "value of {s}{y}", "copy of {s}{y}", "same as {s}{y}"};
    const absl::string_view reference = random_.Pick(kReferences);
    if (random_.Chance(0.2)) {
      constexpr absl::string_view kArrows[] = {" -> ",      " => ",  " into ",
                                               " goes to ", " --> ", " to "};
      const absl::string_view arrow = random_.Pick(kArrows);
      first_ = absl::StrCat("~{v}", arrow, "{s}{x}", end);
      next_ = absl::StrCat("~", reference, arrow, "{s}{x}", end);
    } else {
      first_ = absl::StrCat("~", let, "{s}{x}", gets, "{v}", end);
      next_ = absl::StrCat("~", let, "{s}{x}", gets, reference, end);
    }
  }

  std::string MakeName() {
    if (naming_ == Naming::kPeople && prose_) return MakeOpenPerson(from_);
    if (naming_ == Naming::kThings && prose_) return MakeOpenKey(from_);
    if (naming_ == Naming::kWords && style_ == nullptr && random_.Chance(0.4)) {
      return Concat(
          {from_.Word(WordClass::kNoun), random_.Chance(0.5) ? "_" : "",
           random_.Chance(0.5) ? from_.Word(WordClass::kNoun) : from_.Word(WordClass::kAdjective)});
    }
    return tasks::MakeName(random_, from_.split, naming_);
  }
  std::string MakeLast() {
    return style_ != nullptr ? MakeValue(random_, from_.split, ValueKind::kDigits)
                             : MakeFormed(from_, form_);
  }

  std::string First(absl::string_view name, absl::string_view value, absl::string_view denied) {
    if (prose_) {
      return Say(from_, "fact",
                 {.subject = name, .relation = relation_, .value = value, .old_value = denied});
    }
    return Written(style_ != nullptr ? random_.Pick(style_->first) : first_, name, "", value);
  }
  std::string Next(absl::string_view name, absl::string_view from_name) {
    if (prose_) {
      return Chains().Say(random_, "same", {{"x", name}, {"y", from_name}, {"w", relation_}});
    }
    return Written(style_ != nullptr ? random_.Pick(style_->next) : next_, name, from_name, "");
  }
  std::string Ask(absl::string_view name) {
    if (prose_) return Say(from_, "question", {.subject = name, .relation = relation_});
    if (style_ != nullptr) return Written(random_.Pick(style_->questions), name, "", "");
    return kTrainingChains.Say(random_, "ask", {{"s", mark_}, {"x", name}});
  }
  std::string AskAll(absl::string_view value) {
    if (prose_) return Chains().Say(random_, "same_all", {{"w", relation_}, {"v", value}});
    if (style_ != nullptr) return Written(random_.Pick(style_->all), "", "", value);
    return kTrainingChains.Say(random_, "ask_all", {{"v", value}});
  }

 private:
  const Grammar& Chains() const { return from_.training() ? kTrainingChains : kHeldOutChains; }
  std::string Written(absl::string_view pattern, absl::string_view name,
                      absl::string_view from_name, absl::string_view value) {
    return Fill(random_, pattern, {{"s", mark_}, {"x", name}, {"y", from_name}, {"v", value}});
  }

  const Source& from_;
  Random& random_;
  const Style* style_ = nullptr;  // if it is a listed one
  bool prose_ = false;
  Naming naming_ = Naming::kLetters;
  ValueForm form_;
  std::string relation_;             // of prose
  std::string mark_, first_, next_;  // of code
};

struct Chain {
  std::string value;
  std::vector<std::string> names;
  std::vector<int> facts;  // that name each of them
};

}  // namespace

Episode MakeVariableChains(const Source& from, int num_facts) {
  Random& random = from.random;
  Notation notation(from);
  const int64_t longest = random.Between(2, 5);
  std::vector<Chain> chains;
  std::vector<size_t> order;  // which chain the next fact goes on with
  std::set<std::string> used;
  while (static_cast<int>(order.size()) < num_facts) {
    order.insert(order.end(), random.Between(1, longest), chains.size());
    chains.push_back(
        {.value = MakeFresh(used, [&] { return notation.MakeLast(); }), .names = {}, .facts = {}});
  }
  order.resize(num_facts);
  if (random.Chance(0.5)) random.Shuffle(order);

  Episode episode;
  for (int fact = 0; fact < num_facts; ++fact) {
    Chain& chain = chains[order[fact]];
    const std::string name = MakeFresh(used, [&] { return notation.MakeName(); });
    if (chain.names.empty()) {
      std::string denied = notation.MakeLast();
      while (denied == chain.value) denied = notation.MakeLast();
      episode.facts.push_back(notation.First(name, chain.value, denied));
    } else {
      episode.facts.push_back(notation.Next(name, chain.names.back()));
    }
    // The relation of each link is one and the same.
    episode.statements.push_back({.fact = fact,
                                  .subject = name,
                                  .relation = chain.names.empty() ? "value" : "as",
                                  .value = chain.names.empty() ? chain.value : chain.names.back()});
    chain.names.push_back(name);
    chain.facts.push_back(fact);
  }

  for (const Chain& chain : chains) {
    if (chain.names.empty()) continue;
    const auto ask = [&](size_t last, std::string text, std::string answer) {
      Question question{.text = std::move(text), .answer = std::move(answer)};
      for (size_t i = 0; i <= last; ++i) {
        question.evidence.push_back(WholeFact(episode, chain.facts[i]));
      }
      episode.questions.push_back(std::move(question));
    };
    const size_t last = random.Below(static_cast<int64_t>(chain.names.size()));
    ask(last, notation.Ask(chain.names[last]), chain.value);
    episode.questions.back().subject = chain.names[last];
    if (chain.names.size() > 1 && random.Chance(0.2)) {
      ask(chain.names.size() - 1, notation.AskAll(chain.value), JoinList(chain.names));
    }
  }
  random.Shuffle(episode.questions);
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace rasq::tasks
