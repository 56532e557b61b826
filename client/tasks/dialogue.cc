#include "client/tasks/dialogue.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
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

// How an episode writes turns: what stands before and after the speaker's name.
struct Script {
  absl::string_view before, after;
};
const std::vector<Script> kScripts = {{"", ": "},   {"<", "> "},  {"[", "] "}, {"", " - "},
                                      {"- ", ": "}, {"* ", ": "}, {"", " > "}, {"@", ": "}};

struct Held {
  std::string value;
  std::vector<Span> said;
};

constexpr size_t kMaxEvidence = 6;  // the newest statements of a wish

}  // namespace

Episode MakeDialogue(Random& random, Split split, int num_facts) {
  std::vector<std::string> speakers;
  std::set<std::string> used;
  const int64_t num_speakers = random.Between(2, 6);
  for (int64_t i = 0; i < num_speakers; ++i) {
    speakers.push_back(MakeFresh(used, [&] { return MakePersonName(random, split); }));
  }
  std::vector<const Wish*> wishes;
  const int64_t num_wishes = random.Between(1, 6);
  for (int64_t i = 0; i < num_wishes; ++i) wishes.push_back(&PickFrom(random, split, kWishes));
  const Script& script = PickFrom(random, split, kScripts);

  Episode episode;
  std::map<std::pair<const Wish*, std::string>, Held> held;
  std::map<std::string, const Wish*> last_wish;  // what "that" means when a speaker says it
  for (int fact = 0; fact < num_facts; ++fact) {
    const std::string speaker = random.Pick(speakers);
    const Wish* wish = random.Pick(wishes);
    Held& now = held[{wish, speaker}];
    std::string value = MakeValue(random, split, wish->kind);
    while (value == now.value || value == speaker) value = MakeValue(random, split, wish->kind);
    // "Make that ..." needs the wish to be clear.
    const bool change = !now.said.empty() && last_wish[speaker] == wish && random.Chance(0.8);
    const std::string opening = Fill(random, PickFrom(random, split, kOpenings), {});
    const bool new_sentence = opening.empty() || absl::EndsWith(opening, ". ");
    const absl::string_view words =
        change ? PickFrom(random, split, kChanges) : random.Pick(wish->first);
    std::string text = absl::StrCat(script.before, speaker, script.after, opening,
                                    Fill(random, absl::StrCat(new_sentence ? "" : "~", words),
                                         {{"v", value}, {"u", WithArticle(value)}}));
    now.said.push_back({.fact = fact, .begin = 0, .end = text.size()});
    now.value = std::move(value);
    last_wish[speaker] = wish;
    if (random.Chance(0.4)) {
      std::string other = random.Pick(speakers);
      while (other == speaker) other = random.Pick(speakers);
      absl::StrAppend(&text, "\n", script.before, other, script.after,
                      Fill(random, PickFrom(random, split, kReplies), {}));
    }
    episode.facts.push_back(std::move(text));
  }

  for (const auto& [subject, now] : held) {
    const auto& [wish, speaker] = subject;
    Question question{.text = Fill(random, random.Pick(wish->questions), {{"p", speaker}}),
                      .answer = now.value};
    for (size_t i = now.said.size(); i > 0 && question.evidence.size() < kMaxEvidence; --i) {
      question.evidence.push_back(now.said[i - 1]);
    }
    episode.questions.push_back(std::move(question));
  }
  random.Shuffle(episode.questions);
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace rasq::tasks
