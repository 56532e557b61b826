#include "client/tasks/dialogue.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/tasks/dialogue_words.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

// Something that a speaker wants; {p} is the speaker.
struct Wish {
  ValueKind kind;
  Words first;      // said for the first time
  Words questions;  // about the end
};
const std::vector<Wish> kWishes = {
    {ValueKind::kDrink,
     {"I would like {v}, please.", "could I have {v}?", "{v} for me, please.",
      "I could really do with {v}."},
     {"what does {p} want to drink in the end?", "which drink should I bring {p}?",
      "what did {p} finally order to drink?"}},
    {ValueKind::kFood,
     {"I will take the {v}.", "for me the {v}, thanks.", "I feel like {v} tonight.",
      "put me down for {v}."},
     {"what does {p} want to eat in the end?", "which dish is for {p}?",
      "what did {p} finally order?"}},
    {ValueKind::kCity,
     {"I want to spend the holidays in {v}.", "we should book the trip to {v}.",
      "this summer I am going to {v}.", "please get me a ticket to {v}."},
     {"where does {p} want to go in the end?", "for which city does {p} need a ticket?",
      "where will {p} spend the holidays?"}},
    {ValueKind::kTime,
     {"let us meet at {v}.", "can you pick me up at {v}?", "I will be there at {v}.",
      "book the table for {v}, please."},
     {"at what time does {p} want to meet?", "which time holds for {p} in the end?",
      "when should {p} be picked up?"}},
    {ValueKind::kDate,
     {"my appointment should be on {v}.", "could we do it on {v}?", "I am free on {v}.",
      "put me in the calendar for {v}."},
     {"on which day does {p} want to come?", "which date was settled with {p}?",
      "when is {p}'s appointment?"}},
    {ValueKind::kColour,
     {"I want the walls in {v}.", "paint it {v}, please.", "the {v} one is mine.",
      "I would choose {v}."},
     {"which colour does {p} want in the end?", "in which colour should it be for {p}?",
      "what colour did {p} settle on?"}},
    {ValueKind::kShort,
     {"please reserve {v} seats.", "there will be {v} of us.", "I need {v} copies.",
      "count on {v} guests from me."},
     {"how many did {p} ask for in the end?", "which number did {p} settle on?",
      "how many does {p} need?"}},
    {ValueKind::kAnimal,
     {"for my birthday I want {u}.", "I have decided to adopt {u}.", "my costume will be {u}.",
      "I shall draw {u}."},
     {"which animal did {p} choose in the end?", "what did {p} decide on, which animal?",
      "which animal does {p} want?"}},
    {ValueKind::kHobby,
     {"I am signing up for {v}.", "this year I want to learn {v}.", "my course is {v}.",
      "I will teach the children {v}."},
     {"which course does {p} take in the end?", "what does {p} want to learn?",
      "for what did {p} sign up finally?"}},
    {ValueKind::kInstrument,
     {"I will play the {v} in the band.", "I bought myself {u}.", "give me the {v}.",
      "on stage I will be at the {v}."},
     {"which instrument will {p} play?", "which instrument did {p} choose in the end?",
      "on what will {p} play?"}},
    {ValueKind::kName,
     {"I want to be in one team with {v}.", "I am bringing {v} along.", "I would ask {v} to do it.",
      "my vote goes to {v}."},
     {"whom does {p} name in the end?", "whom did {p} choose?", "who is {p}'s final choice?"}},
    {ValueKind::kPrice,
     {"I can pay {v}.", "my budget is {v}.", "I would sell it for {v}.", "my offer is {v}."},
     {"how much does {p} offer in the end?", "what sum did {p} name last?",
      "which price holds for {p}?"}},
    {ValueKind::kDigits,
     {"you can call me at {v}.", "my number is {v}.", "the code at my door is {v}.",
      "my booking has the number {v}."},
     {"which number should I use for {p}?", "what number did {p} give last?",
      "which number of {p} is valid?"}},
    {ValueKind::kTwoWords,
     {"send the parcel to the {v}.", "I will wait at the {v}.", "let us hide it in the {v}.",
      "the keys are in the {v}."},
     {"which place did {p} name last?", "where, according to {p}, in the end?",
      "which place holds for {p}?"}},
    {ValueKind::kSport,
     {"I want to go to the {v} on Sunday.", "I am joining the {v} club.", "let us watch the {v}.",
      "I have tickets for the {v}."},
     {"which sport did {p} choose in the end?", "which sport is {p} for?",
      "for which sport did {p} decide?"}},
    {ValueKind::kMadeUp,
     {"call my boat {v}.", "the password should be {v}.", "I would name the baby {v}.",
      "the band is called {v}."},
     {"which name did {p} settle on?", "what name does {p} want in the end?",
      "which word did {p} choose last?"}},
};

// Whatever the wish is about.
const Words kChanges = {
    "actually, make that {v}.",
    "<sorry|hm|oh>, I changed my mind: {v}.",
    "on second thoughts, {v} <is better|would be better>.",
    "no wait, {v} instead.",
    "could we change it to {v}?",
    "forget what I said, {v} it is.",
    "I have thought about it again, and I prefer {v}.",
    "well, {v} after all.",
    "let me correct myself: {v}.",
    "not that any more. {v}, please.",
    "if it is not too late, I would rather have {v}.",
    "one more change from me: {v}.",
    "I was wrong before, it has to be {v}.",
    "please replace it by {v}.",
    "the plan has changed on my side, {v} now.",
    "scratch that, {v}.",
    "my final word is {v}.",
    "it will be {v}, and I am sure this time.",
    "can I switch to {v}?",
    "after all that, let it be {v}.",
    "they told me {v} is wiser, so {v}.",
    "listen, {v} is what I want now.",
    "I had to decide anew: {v}.",
    "new idea: {v} <instead|rather>.",
};
const Words kReplies = {
    "sure.",
    "of course.",
    "all right, noted.",
    "no problem.",
    "as you like.",
    "fine with me.",
    "got it.",
    "I will write it down.",
    "very well.",
    "that can be done.",
    "good choice.",
    "are you certain? Well, fine.",
    "consider it done.",
    "thanks for telling me.",
    "okay.",
    "I see.",
};
const Words kOpenings = {"",
                         "",
                         "",
                         "",
                         "hello everybody. ",
                         "well, ",
                         "let me see. ",
                         "that is easy. ",
                         "hm. ",
                         "good question. ",
                         "I was just thinking. ",
                         "before I forget: ",
                         "by the way, ",
                         "so, ",
                         "yes. ",
                         "while we are at it: "};

// How an episode writes turns: what stands before and after the speaker's name, and behind.
struct Script {
  absl::string_view before, after, end = "";
};
const std::vector<Script> kScripts = {{"", ": "},      {"<", "> "},      {"[", "] "},
                                      {"", " - "},     {"- ", ": "},     {"* ", ": "},
                                      {"", " > "},     {"@", ": "},      {"**", ":** "},
                                      {"", " says: "}, {"", ":\n"},      {"", " said: \"", "\""},
                                      {"(", ") "},     {"", " wrote: "}, {"# ", "\n"}};

// Shares of what is from the lists above; the rest is open or from the grammar.
constexpr double kListedWishes = 0.25;
constexpr double kHeldOutListed = 0.6;  // of an evaluation, whose lists are its old half

// What a kind of value is called. Of those that name no article.
struct KindName {
  ValueKind kind;
  Words names;
};
const std::vector<KindName> kKindNames = {
    {ValueKind::kDrink, {"drink", "beverage"}},
    {ValueKind::kFood, {"dish", "meal", "food"}},
    {ValueKind::kCity, {"city", "town", "destination"}},
    {ValueKind::kTime, {"time", "hour"}},
    {ValueKind::kDate, {"date", "day"}},
    {ValueKind::kColour, {"colour", "shade", "color"}},
    {ValueKind::kShort, {"number", "amount"}},
    {ValueKind::kHobby, {"hobby", "course", "pastime"}},
    {ValueKind::kName, {"person", "friend", "partner", "guest"}},
    {ValueKind::kPrice, {"price", "sum", "offer"}},
    {ValueKind::kCode, {"code", "badge", "reference"}},
    {ValueKind::kSport, {"sport", "game"}},
    {ValueKind::kLanguage, {"language", "tongue"}},
};

enum class Way { kListed, kTopic, kTyped, kDeed };

// What one or several speakers of an episode want.
struct Plan {
  Way way;
  std::string word;  // a topic, a kind of value, a verb; of listed ones what tells them apart
  ValueForm form;    // of a deed: none, its values are things
  const Wish* listed = nullptr;
};

Plan MakePlan(const Source& from) {
  Random& random = from.random;
  if (random.Chance(from.training() ? kListedWishes : kHeldOutListed)) {
    const size_t index = PickIndex(random, from.split, kWishes.size());
    return {.way = Way::kListed,
            .word = absl::StrCat("wish ", index),
            .form = {.listed = kWishes[index].kind},
            .listed = &kWishes[index]};
  }
  switch (random.Below(3)) {
    case 0: {
      std::string topic = MakeOpenRelation(from);
      return {.way = Way::kTopic, .word = std::move(topic), .form = PickValueForm(random)};
    }
    case 1: {
      const KindName& kind = random.Pick(kKindNames);
      return {.way = Way::kTyped,
              .word = std::string(random.Pick(kind.names)),
              .form = {.listed = kind.kind}};
    }
    default:
      return {.way = Way::kDeed, .word = std::string(from.Word(WordClass::kVerb)), .form = {}};
  }
}

struct Held {
  std::string value;
  std::vector<Span> said;
};

constexpr size_t kMaxEvidence = 6;  // the newest statements of a wish

class Talk {
 public:
  explicit Talk(const Source& from)
      : from_(from),
        random_(from.random),
        grammar_(DialogueGrammar(from.split)),
        listed_words_(from.training() ? kListedWishes : kHeldOutListed),
        script_(PickFrom(from.random, from.split, kScripts)) {}

  Episode Make(int num_facts) {
    std::set<std::string> used;
    const int64_t num_speakers = random_.Between(2, 6);
    for (int64_t i = 0; i < num_speakers; ++i) {
      speakers_.push_back(MakeFresh(used, [&] {
        return random_.Chance(listed_words_) ? MakePersonName(random_, from_.split)
                                             : MakeOpenPerson(from_);
      }));
    }
    const int64_t num_plans = random_.Between(1, 6);
    std::set<std::string> words;
    for (int64_t i = 0; i < num_plans; ++i) {
      Plan plan = MakePlan(from_);
      if (words.insert(plan.word).second) plans_.push_back(std::move(plan));
    }
    for (int fact = 0; fact < num_facts; ++fact) Tell(fact);
    for (const auto& [subject, now] : held_) Ask(plans_[subject.first], subject.second, now);
    random_.Shuffle(episode_.questions);
    LetAnswersHoldToTheEnd(episode_);
    return std::move(episode_);
  }

 private:
  std::string MakeWish(const Plan& plan) {
    return plan.way == Way::kDeed ? MakeThing(from_) : MakeFormed(from_, plan.form);
  }

  std::string Say(absl::string_view rule, absl::string_view speaker, const Plan& plan,
                  absl::string_view value, absl::string_view old) {
    const absl::string_view noun = from_.Word(WordClass::kNoun);
    const absl::string_view name = from_.Word(WordClass::kName);
    return grammar_.SayPattern(
        random_, rule,
        {{"p", speaker}, {"w", plan.word}, {"v", value}, {"d", old}, {"n1", noun}, {"m1", name}});
  }
  static absl::string_view Prefix(Way way) {
    return way == Way::kTopic ? "topic" : way == Way::kTyped ? "typed" : "deed";
  }

  // "Make that ...": what it is about must be clear from what the speaker said last.
  std::string WordChange(const Plan& plan, absl::string_view speaker, absl::string_view value,
                         absl::string_view old) {
    if (plan.way == Way::kListed || random_.Chance(listed_words_)) {
      const std::string opening = Fill(random_, PickFrom(random_, from_.split, kOpenings), {});
      const bool new_sentence = opening.empty() || absl::EndsWith(opening, ". ");
      const absl::string_view words = PickFrom(random_, from_.split, kChanges);
      // What is said of a deed goes with its verb.
      const std::string spoken =
          plan.way == Way::kDeed ? absl::StrCat(plan.word, " the ", value) : std::string(value);
      return absl::StrCat(opening, Fill(random_, absl::StrCat(new_sentence ? "" : "~", words),
                                        {{"v", spoken}, {"u", WithArticle(value)}}));
    }
    return Say(absl::StrCat("@opening@", Prefix(plan.way), "_change"), speaker, plan, value, old);
  }

  std::string WordFirst(const Plan& plan, absl::string_view speaker, absl::string_view value,
                        absl::string_view old) {
    if (plan.way != Way::kListed) {
      return Say(absl::StrCat("@opening@", Prefix(plan.way), "_first"), speaker, plan, value, old);
    }
    const std::string opening = Fill(random_, PickFrom(random_, from_.split, kOpenings), {});
    const bool new_sentence = opening.empty() || absl::EndsWith(opening, ". ");
    return absl::StrCat(
        opening,
        Fill(random_, absl::StrCat(new_sentence ? "" : "~", random_.Pick(plan.listed->first)),
             {{"v", value}, {"u", WithArticle(value)}}));
  }

  void Tell(int fact) {
    const std::string speaker = random_.Pick(speakers_);
    const auto number = static_cast<size_t>(random_.Below(static_cast<int64_t>(plans_.size())));
    const Plan& plan = plans_[number];
    Held& now = held_[{number, speaker}];
    std::string value = MakeWish(plan);
    while (value == now.value || value == speaker) value = MakeWish(plan);
    const auto last = last_plan_.find(speaker);
    const bool clear = last != last_plan_.end() && last->second == number;
    const bool change =
        !now.said.empty() && (clear || plan.way == Way::kTopic) && random_.Chance(0.8);
    std::string text =
        absl::StrCat(script_.before, speaker, script_.after,
                     !change ? WordFirst(plan, speaker, value, now.value)
                     : clear ? WordChange(plan, speaker, value, now.value)
                             : Say("@opening@topic_change", speaker, plan, value, now.value),
                     script_.end);
    episode_.statements.push_back(
        {.fact = fact, .subject = speaker, .relation = plan.word, .value = value});
    now.said.push_back({.fact = fact, .begin = 0, .end = text.size()});
    now.value = std::move(value);
    last_plan_[speaker] = number;
    if (random_.Chance(0.4)) {
      std::string other = random_.Pick(speakers_);
      while (other == speaker) other = random_.Pick(speakers_);
      absl::StrAppend(&text, "\n", script_.before, other, script_.after,
                      random_.Chance(listed_words_)
                          ? Fill(random_, PickFrom(random_, from_.split, kReplies), {})
                          : Say("@reply", other, plan, "", ""),
                      script_.end);
    }
    episode_.facts.push_back(std::move(text));
  }

  void Ask(const Plan& plan, const std::string& speaker, const Held& now) {
    Question question{
        .text = plan.way == Way::kListed
                    ? Fill(random_, random_.Pick(plan.listed->questions), {{"p", speaker}})
                    : Say(absl::StrCat("@", Prefix(plan.way), "_question"), speaker, plan,
                          now.value, ""),
        .answer = now.value,
        .subject = speaker,
        .relation = plan.word};
    for (size_t i = now.said.size(); i > 0 && question.evidence.size() < kMaxEvidence; --i) {
      question.evidence.push_back(now.said[i - 1]);
    }
    episode_.questions.push_back(std::move(question));
  }

  const Source& from_;
  Random& random_;
  const Grammar& grammar_;
  const double listed_words_;
  const Script& script_;
  std::vector<std::string> speakers_;
  std::vector<Plan> plans_;
  std::map<std::pair<size_t, std::string>, Held> held_;  // by plan and speaker
  std::map<std::string, size_t> last_plan_;              // what "that" means when a speaker says it
  Episode episode_;
};

}  // namespace

Episode MakeDialogue(const Source& from, int num_facts) { return Talk(from).Make(num_facts); }

}  // namespace rasq::tasks
