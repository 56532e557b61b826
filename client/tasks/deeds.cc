#include "client/tasks/deeds.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/tasks/grammar.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

// {p} somebody, {b} a verb, {o} a thing, {x} the circumstances.
// Rules end in the tense of an episode; the other rules are parts.
const Grammar kDeeds = {
    {"lead",
     {"", "", "", "", "", "", "they say that ", "as we know, ", "it is true that ",
      "{m1} told us that ", "after the {n1}, ", "in the end ", "of course "}},
    {"end", {".", ".", ".", ".", "!", ";", ", or so they say.", ", as {m1} knows."}},
    {"past",
     {"@lead{p} {b}ed the {o}{x}@end", "@lead{p} {b}ed the {o}{x}@end",
      "<@lead>the {o} was {b}ed by {p}{x}@end", "@lead{p} has {b}ed the {o}{x}@end",
      "it was {p} who {b}ed the {o}{x}@end", "it was the {o} that {p} {b}ed{x}@end",
      "<@lead>what {p} {b}ed was the {o}{x}@end", "{p} wanted to {b} the {o} and did so{x}@end",
      "{m1} saw how {p} {b}ed the {o}{x}@end", "@lead{p} had to {b} the {o}{x}@end",
      "{p} said: \"I {b}ed the {o}{x}.\"", "the {o}? {p} {b}ed it{x}@end", "~{p}: {b}ed the {o}{x}",
      "nobody but {p} {b}ed the {o}{x}@end"}},
    {"future",
     {"@lead{p} will {b} the {o}{x}@end", "@lead{p} is going to {b} the {o}{x}@end",
      "<@lead>the {o} will be {b}ed by {p}{x}@end", "@lead{p} plans to {b} the {o}{x}@end",
      "it is {p} who will {b} the {o}{x}@end", "{p} said: \"I will {b} the {o}{x}.\"",
      "~{p}: to {b} the {o}{x}", "@lead{p} has been asked to {b} the {o}{x}@end",
      "the {o}? {p} will {b} it{x}@end", "we expect {p} to {b} the {o}{x}@end"}},
    {"who_past",
     {"who {b}ed the {o}?", "by whom was the {o} {b}ed?", "who was it that {b}ed the {o}?",
      "tell me who {b}ed the {o}.", "which person {b}ed the {o}?", "the {o} was {b}ed by",
      "do you know who {b}ed the {o}?", "who has {b}ed the {o}?"}},
    {"who_future",
     {"who will {b} the {o}?", "by whom will the {o} be {b}ed?", "who is going to {b} the {o}?",
      "tell me who will {b} the {o}.", "the one who will {b} the {o} is"}},
    {"what_past",
     {"what did {p} {b}?", "which thing did {p} {b}?", "what was {b}ed by {p}?",
      "tell me what {p} {b}ed.", "what {p} {b}ed was the", "what has {p} {b}ed?"}},
    {"what_future",
     {"what will {p} {b}?", "which thing is {p} going to {b}?", "tell me what {p} will {b}.",
      "what will be {b}ed by {p}?", "what {p} will {b} is the"}},
    // Of circumstances; {q} is "where", "when", "with whom", "for how much".
    {"how_past",
     {"{q} did {p} {b} the {o}?", "{q} was the {o} {b}ed?", "{q} was the {o} {b}ed by {p}?",
      "tell me {q} {p} {b}ed the {o}.", "{p} {b}ed the {o} {q}?",
      "do you remember {q} {p} {b}ed the {o}?"}},
    {"how_future",
     {"{q} will {p} {b} the {o}?", "{q} will the {o} be {b}ed?",
      "tell me {q} {p} will {b} the {o}.", "{p} will {b} the {o} {q}?",
      "{q} is {p} going to {b} the {o}?"}},
};

// A circumstance that a fact may give.
struct Kind {
  absl::string_view question;  // "with whom"
  absl::string_view before;    // "together with "
  ValueForm form;
  double chance;
};
const std::vector<Kind> kKinds = {
    {"where", "in ", {.listed = ValueKind::kCity}, 0.5},
    {"when", "on ", {.listed = ValueKind::kDate}, 0.25},
    {"with whom", "together with ", {.listed = ValueKind::kName}, 0.2},
    {"for how much", "for ", {.listed = ValueKind::kPrice}, 0.15},
    {"at what time", "at ", {.listed = ValueKind::kTime}, 0.15},
};

struct Deed {
  std::string person, verb, object;
  std::vector<std::pair<const Kind*, std::string>> circumstances;
};

class Maker {
 public:
  explicit Maker(const Source& from)
      : from_(from), random_(from.random), tense_(from.random.Chance(0.75) ? "past" : "future") {}

  Episode Make(int num_facts) {
    std::vector<std::string> people;
    for (int64_t left = random_.Between(2, std::max(2, num_facts)); left > 0; --left) {
      people.push_back(MakeOpenPerson(from_));
    }
    std::set<std::string> objects;
    for (int fact = 0; fact < num_facts; ++fact) {
      Deed deed{.person = random_.Pick(people), .verb = std::string(from_.Word(WordClass::kVerb))};
      deed.object = MakeFresh(objects, [&] { return MakeThing(from_); });
      for (const Kind& kind : kKinds) {
        if (random_.Chance(kind.chance)) {
          deed.circumstances.emplace_back(&kind, MakeFormed(from_, kind.form));
        }
      }
      random_.Shuffle(deed.circumstances);
      Tell(fact, deed);
      deeds_.push_back(std::move(deed));
    }
    for (int fact = 0; fact < num_facts; ++fact) Ask(fact);
    random_.Shuffle(episode_.questions);
    LetAnswersHoldToTheEnd(episode_);
    return std::move(episode_);
  }

 private:
  std::string Say(absl::string_view pattern, const Deed& deed, absl::string_view question,
                  absl::string_view first, absl::string_view rest) {
    const absl::string_view noun = from_.Word(WordClass::kNoun);
    const absl::string_view name = from_.Word(WordClass::kName);
    return kDeeds.SayPattern(random_, pattern,
                             {{"p", deed.person},
                              {"b", deed.verb},
                              {"o", deed.object},
                              {"q", question},
                              {"f", first},
                              {"x", rest},
                              {"n1", noun},
                              {"m1", name}});
  }

  void Tell(int fact, const Deed& deed) {
    std::string first, rest;
    // One circumstance may open the sentence.
    const bool moved = !deed.circumstances.empty() && random_.Chance(0.25);
    for (const auto& [kind, value] : deed.circumstances) {
      std::string text = absl::StrCat(kind->before, value);
      if (moved && first.empty()) {
        first = std::move(text);
        first[0] = absl::ascii_toupper(first[0]);
      } else {
        absl::StrAppend(&rest, " ", text);
      }
      episode_.statements.push_back({.fact = fact,
                                     .subject = deed.object,
                                     .relation = std::string(kind->question),
                                     .value = value});
    }
    episode_.statements.push_back(
        {.fact = fact, .subject = deed.object, .relation = "who", .value = deed.person});
    const std::string pattern = absl::StrCat(moved ? "{f}, ~" : "", "@", tense_);
    std::string text = Say(pattern, deed, "", first, rest);
    episode_.facts.push_back(std::move(text));
  }

  void Ask(int fact) {
    const Deed& deed = deeds_[fact];
    const auto add = [&](std::string text, std::string answer, absl::string_view relation) {
      episode_.questions.push_back({.text = std::move(text),
                                    .answer = std::move(answer),
                                    .evidence = {WholeFact(episode_, fact)},
                                    .subject = relation.empty() ? "" : deed.object,
                                    .relation = std::string(relation)});
    };
    for (const auto& [kind, value] : deed.circumstances) {
      if (random_.Chance(0.5)) {
        std::string text = Say(absl::StrCat("@how_", tense_), deed, kind->question, "", "");
        text[0] = absl::ascii_toupper(text[0]);
        add(std::move(text), value, kind->question);
      }
    }
    if (random_.Chance(0.5)) {
      add(Say(absl::StrCat("@who_", tense_), deed, "", "", ""), deed.person, "who");
      return;
    }
    const bool once = std::count_if(deeds_.begin(), deeds_.end(), [&](const Deed& other) {
                        return other.person == deed.person && other.verb == deed.verb;
                      }) == 1;
    if (once) add(Say(absl::StrCat("@what_", tense_), deed, "", "", ""), deed.object, "");
  }

  const Source& from_;
  Random& random_;
  const absl::string_view tense_;
  std::vector<Deed> deeds_;
  Episode episode_;
};

}  // namespace

Episode MakeDeeds(const Source& from, int num_facts) {
  for (;;) {
    Episode episode = Maker(from).Make(num_facts);
    if (!episode.questions.empty()) return episode;
  }
}

}  // namespace rasq::tasks
