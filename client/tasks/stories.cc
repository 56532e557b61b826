#include "client/tasks/stories.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/tasks/story_words.h"
#include "client/tasks/wording.h"
#include "client/tasks/world.h"

namespace rasq::tasks {
namespace {

constexpr int kQuestionsPerStory = 5;  // of bAbI's, but for its task 4
constexpr int kMostFacts = 230;        // as the longest of bAbI
// Share of other wordings than bAbI's that are listed; the rest is from the grammar.
constexpr double kListedWordings = 0.3, kHeldOutListed = 0.6;

// How people act and when they are asked about, measured on bAbI's own stories.
struct Manners {
  double take, drop, give;  // chances, if somebody can; else somebody moves
  bool know_place_first;    // people take objects only after it was told where they are
  bool there;               // "there" behind every object taken, or behind a fifth of them
  double first;             // facts that pass on average before a question is thought of
  double ask;               // chance of a question after two more facts
  double rest;              // if there is none: facts that pass on average
};
Manners MannersOf(int kind) {
  switch (kind) {
    case 2:
      return {.take = 0.37,
              .drop = 0.33,
              .give = 0,
              .know_place_first = true,
              .there = true,
              .first = 6,
              .ask = 0.75,
              .rest = 3};
    case 3:
      return {.take = 0.33,
              .drop = 0.26,
              .give = 0,
              .know_place_first = false,
              .there = false,
              .first = 22,
              .ask = 0.55,
              .rest = 18};
    case 5:
      return {.take = 0.34,
              .drop = 0.20,
              .give = 0.44,
              .know_place_first = true,
              .there = true,
              .first = 0,
              .ask = 0.88,
              .rest = 10};
    default:
      return {.take = 0,
              .drop = 0,
              .give = 0,
              .know_place_first = true,
              .there = true,
              .first = 0,
              .ask = 1,
              .rest = 0};
  }
}

class Story {
 public:
  Story(const Source& from, const StoryOptions& options, int kind)
      : random_(from.random),
        split_(from.split),
        grammar_(StoryGrammar(from.split)),
        options_(options),
        kind_(kind),
        words_(options.babi_words ? BabiStoryWords() : OwnStoryWords()),
        cast_(options.babi_words ? BabiCast(from.random, kind) : MakeCast(from)),
        manners_(MannersOf(kind)),
        world_(static_cast<int>(cast_.people.size()), static_cast<int>(cast_.objects.size())) {
    for (size_t i = 0; i < cast_.people.size(); ++i) at_.push_back(Pick(cast_.places));
    for (size_t i = 0; i < cast_.objects.size(); ++i) lies_.push_back(Pick(cast_.places));
  }

  Episode Make() {
    const int most = options_.num_facts > 0 ? options_.num_facts : kMostFacts;
    // As in bAbI: two facts, a question if one has an answer, until five were asked; a story that
    // is asked at the end stops where one of the five would be.
    const int64_t stop = options_.num_facts > 0 ? most
                         : options_.ask_at_end  ? random_.Between(1, kQuestionsPerStory)
                                                : kQuestionsPerStory;
    int64_t asked = 0;
    int quiet_until = Passing(manners_.first);
    while (asked < stop && Told() < most) {
      Step();
      if (Told() < most) Step();
      if (Told() < quiet_until && Told() < most) continue;
      std::vector<Question> known = Questions();
      if (known.empty()) continue;
      ++asked;
      if (!options_.ask_at_end) episode_.questions.push_back(std::move(random_.Pick(known)));
      quiet_until = Told() + 2 + (random_.Chance(manners_.ask) ? 0 : Passing(manners_.rest));
    }
    if (options_.ask_at_end) {
      episode_.questions = Questions();
      random_.Shuffle(episode_.questions);
      LetAnswersHoldToTheEnd(episode_);
    }
    return std::move(episode_);
  }

 private:
  template <typename List>
  int Pick(const List& list) {
    return static_cast<int>(random_.Below(static_cast<int64_t>(list.size())));
  }
  int Told() const { return static_cast<int>(episode_.facts.size()); }

  // One of the listed wordings, or one by the rule of that name.
  std::string Word(const Words& words, absl::string_view rule, Slots slots) {
    const double listed = split_ == Split::kTraining ? kListedWordings : kHeldOutListed;
    if (options_.babi_words || random_.Chance(listed)) {
      return Fill(random_, PickFrom(random_, split_, words), slots);
    }
    return grammar_.Say(random_, rule, slots);
  }

  int Tell(const Words& words, absl::string_view rule, int person, int place, int object,
           int other) {
    const auto name = [](const std::vector<std::string>& list, int i) {
      return i < 0 ? absl::string_view() : absl::string_view(list[i]);
    };
    std::string text = Word(words, rule,
                            {{"p", name(cast_.people, person)},
                             {"q", name(cast_.people, other)},
                             {"o", name(cast_.objects, object)},
                             {"l", name(cast_.places, place)}});
    constexpr absl::string_view kThere = " there.";
    if (options_.babi_words && &words == &words_.takes && !manners_.there && random_.Chance(0.8)) {
      text.replace(text.size() - kThere.size(), kThere.size(), ".");
    }
    const int fact = Told();
    episode_.facts.push_back(std::move(text));
    episode_.statements.push_back(
        {.fact = fact,
         .subject = cast_.people[person],
         .relation = std::string(rule),
         .value = place < 0 ? cast_.objects[object] : cast_.places[place]});
    if (other >= 0) {
      episode_.statements.push_back({.fact = fact,
                                     .subject = cast_.people[other],
                                     .relation = "receives",
                                     .value = cast_.objects[object]});
    }
    return fact;
  }

  // A number of facts, exponentially distributed.
  int Passing(double mean) { return static_cast<int>(-std::log(1 - random_.Unit()) * mean); }

  // One more fact.
  void Step() {
    struct Act {
      int person, object, other;
    };
    std::vector<Act> takes, drops, gives;
    for (int object = 0; object < static_cast<int>(cast_.objects.size()); ++object) {
      const int holder = world_.holder(object);
      if (holder != World::kNobody) drops.push_back({holder, object, -1});
      for (int person = 0; person < static_cast<int>(cast_.people.size()); ++person) {
        if (manners_.know_place_first && !world_.PlaceOf(person).has_value()) continue;
        if (holder == World::kNobody && lies_[object] == at_[person]) {
          takes.push_back({person, object, -1});
        }
        if (holder != World::kNobody && holder != person && at_[holder] == at_[person]) {
          gives.push_back({holder, object, person});
        }
      }
    }
    double dice = random_.Unit();
    const auto chosen = [&](double chance, const std::vector<Act>& acts) {
      const bool in_range = dice >= 0 && dice < chance;
      dice -= chance;
      return in_range && !acts.empty();
    };
    if (chosen(manners_.take, takes)) {
      const Act act = random_.Pick(takes);
      world_.Take(Tell(words_.takes, "takes", act.person, -1, act.object, -1), act.person,
                  act.object);
    } else if (chosen(manners_.drop, drops)) {
      const Act act = random_.Pick(drops);
      lies_[act.object] = at_[act.person];
      world_.Drop(Tell(words_.drops, "drops", act.person, -1, act.object, -1), act.person,
                  act.object);
    } else if (chosen(manners_.give, gives)) {
      const Act act = random_.Pick(gives);
      world_.Give(Tell(words_.gives, "gives", act.person, -1, act.object, act.other), act.person,
                  act.object, act.other);
    } else {
      const int person = Pick(cast_.people);
      int place = Pick(cast_.places);
      while (place == at_[person]) place = Pick(cast_.places);
      at_[person] = place;
      world_.Move(Tell(words_.moves, "moves", person, place, -1, -1), person, place);
    }
  }

  // About what the first slot names.
  Question Make(const Words& words, absl::string_view rule, Slots slots, const std::string& answer,
                const std::vector<int>& facts) {
    Question question{.text = Word(words, rule, slots),
                      .answer = answer,
                      .after_fact = Told(),
                      .until_fact = Told(),
                      .subject = std::string(slots.begin()->second),
                      .relation = std::string(rule)};
    for (const int fact : facts) question.evidence.push_back(WholeFact(episode_, fact));
    return question;
  }

  // All that can be answered now, one about each person, object or gift.
  std::vector<Question> Questions() {
    std::vector<Question> known;
    if (kind_ == 1) {
      for (int person = 0; person < static_cast<int>(cast_.people.size()); ++person) {
        const auto answer = world_.PlaceOf(person);
        if (!answer.has_value()) continue;
        known.push_back(Make(words_.where_person, "where_person", {{"p", cast_.people[person]}},
                             cast_.places[answer->id], answer->facts));
      }
    } else if (kind_ == 5) {
      AddGifts(known);
    } else {
      for (int object = 0; object < static_cast<int>(cast_.objects.size()); ++object) {
        if (kind_ == 2) {
          const auto answer = world_.PlaceOfObject(object);
          if (!answer.has_value()) continue;
          known.push_back(Make(words_.where_object, "where_object", {{"o", cast_.objects[object]}},
                               cast_.places[answer->id], answer->facts));
        } else if (const auto places = world_.PlacesWithBefore(object); !places.empty()) {
          AddBefore(object, places, known);
        }
      }
    }
    return known;
  }

  // bAbI asks about the present place four times of five, and about earlier ones else.
  void AddBefore(int object, const std::vector<int>& places, std::vector<Question>& known) {
    const int now = world_.PlaceOfObject(object)->id;
    const int place = random_.Chance(0.75) ? now : random_.Pick(places);
    const auto answer = world_.PlaceBefore(object, place);
    if (!answer.has_value()) return;
    known.push_back(Make(words_.where_before, "where_before",
                         {{"o", cast_.objects[object]}, {"l", cast_.places[place]}},
                         cast_.places[answer->id], answer->facts));
  }

  // About the last gift, and where the wordings allow it about earlier ones.
  void AddGifts(std::vector<Question>& known) {
    const std::vector<World::Gift>& gifts = world_.gifts();
    if (gifts.empty()) return;
    Ask(gifts.back(), known);
    if (!options_.ask_at_end && !random_.Chance(0.1)) return;
    for (size_t i = gifts.size() - 1; i > 0 && i + 4 > gifts.size(); --i) {
      Ask(gifts[i - 1], known);
    }
  }

  // Adds a question about the gift, if no later gift fits the same question.
  void Ask(const World::Gift& gift, std::vector<Question>& known) {
    const std::string& giver = cast_.people[gift.giver];
    const std::string& receiver = cast_.people[gift.receiver];
    const std::string& object = cast_.objects[gift.object];
    // bAbI asks what was given twice as often as the others.
    const int64_t form = std::max<int64_t>(0, random_.Between(-1, 4));
    for (const World::Gift& later : world_.gifts()) {
      if (later.fact <= gift.fact) continue;
      const bool same_object = later.object == gift.object;
      const bool same_giver = later.giver == gift.giver;
      const bool same_receiver = later.receiver == gift.receiver;
      if (form == 0 ? same_giver && same_receiver
                    : same_object && (form == 1   ? same_receiver
                                      : form == 2 ? same_giver
                                                  : true)) {
        return;
      }
    }
    const std::vector<int> facts = {gift.fact};
    const Slots slots = {{"p", giver}, {"q", receiver}, {"o", object}};
    switch (form) {
      case 0:
        known.push_back(Make(words_.what_given, "what_given", slots, object, facts));
        return;
      case 1:
        known.push_back(Make(words_.who_gave_to, "who_gave_to", slots, giver, facts));
        return;
      case 2:
        known.push_back(Make(words_.to_whom, "to_whom", slots, receiver, facts));
        return;
      case 3:
        known.push_back(Make(words_.who_gave, "who_gave", slots, giver, facts));
        return;
      default:
        known.push_back(Make(words_.who_received, "who_received", slots, receiver, facts));
    }
  }

  Random& random_;
  const Split split_;
  const Grammar& grammar_;
  const StoryOptions& options_;
  const int kind_;
  const StoryWords& words_;
  const Cast cast_;
  const Manners manners_;
  World world_;
  std::vector<int> at_, lies_;  // where people and objects are, told or not
  Episode episode_;
};

// A map whose places stand on a grid, so that each has at most one neighbour on a side.
Episode MakeMap(const Source& from, const StoryOptions& options) {
  Random& random = from.random;
  constexpr std::array<std::pair<int, int>, 4> kSteps = {{{0, 1}, {0, -1}, {-1, 0}, {1, 0}}};
  const SideWords& words =
      options.babi_words ? BabiSideWords() : PickOwnSideWords(random, from.split);
  Cast cast = options.babi_words ? BabiCast(random, 4) : MakeCast(from);
  if (options.babi_words) cast.places.resize(3);

  struct Relation {
    int a, b, side;  // a is on that side of b
  };
  std::vector<Relation> relations;
  std::map<std::pair<int, int>, int> grid = {{{0, 0}, 0}};
  while (grid.size() < cast.places.size()) {
    const int next = static_cast<int>(grid.size());
    const auto& [cell, place] =
        *std::next(grid.begin(), random.Below(static_cast<int64_t>(grid.size())));
    const int side = static_cast<int>(random.Below(4));
    if (grid.try_emplace({cell.first + kSteps[side].first, cell.second + kSteps[side].second}, next)
            .second) {
      relations.push_back({.a = next, .b = place, .side = side});
    }
  }
  random.Shuffle(relations);

  Episode episode;
  for (const Relation& relation : relations) {
    const std::string& a = cast.places[relation.a];
    const std::string& b = cast.places[relation.b];
    const absl::string_view side = words.sides[relation.side];
    const absl::string_view opposite = words.sides[relation.side ^ 1];
    const Slots forward = {{"a", a}, {"s", side}, {"b", b}};
    const Slots backward = {{"a", b}, {"s", opposite}, {"b", a}};
    const bool turned = random.Chance(0.5);
    episode.facts.push_back(Fill(random, random.Pick(words.facts), turned ? backward : forward));
    std::vector<Question> forms(4);
    forms[0] = {.text = Fill(random, random.Pick(words.what_is_there), forward), .answer = a};
    forms[1] = {.text = Fill(random, random.Pick(words.what_is_there), backward), .answer = b};
    forms[2] = {.text = Fill(random, random.Pick(words.of_what), forward), .answer = b};
    forms[3] = {.text = Fill(random, random.Pick(words.of_what), backward), .answer = a};
    random.Shuffle(forms);
    forms.resize(random.Between(1, 2));
    for (Question& question : forms) {
      question.evidence = {WholeFact(episode, static_cast<int>(episode.facts.size()) - 1)};
      episode.questions.push_back(std::move(question));
    }
  }
  random.Shuffle(episode.questions);
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace

Episode MakeStory(const Source& from, const StoryOptions& options) {
  const int kind = options.kind > 0 ? options.kind : static_cast<int>(from.random.Between(1, 5));
  if (kind == 4) return MakeMap(from, options);
  StoryOptions longer = options;
  for (;;) {
    Episode episode = Story(from, longer, kind).Make();
    if (!episode.questions.empty()) return episode;
    if (longer.num_facts > 0) longer.num_facts += 2;
  }
}

}  // namespace rasq::tasks
