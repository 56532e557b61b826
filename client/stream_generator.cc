#include "client/stream_generator.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace rasq::client {
namespace {

using Words = std::vector<absl::string_view>;

// What facts are about. Few firms, so that news about them is news again and again.
const Words kFirms = {"Acme", "Helix", "Juniper", "Northwind"};
const Words kChiefs = {"Carol", "Omar", "Priya", "Lucia", "Hana", "Karl", "Oscar", "Vera", "Noel"};
const Words kPeople = {"Mary", "Victor", "Nina", "Ivan", "Fatima", "Igor", "Lena", "Samir", "Tess"};
const Words kCities = {"Paris", "London",  "Oslo",  "Vienna", "Dublin", "Lisbon", "Cairo",
                       "Tokyo", "Nairobi", "Seoul", "Sydney", "Lima",   "Boston", "Denver"};
const Words kColours = {"red", "blue", "green", "yellow", "purple", "orange", "silver", "crimson"};
const Words kFoods = {"pizza", "curry", "soup", "bread", "mangoes", "noodles", "olives", "tacos"};
const Words kPets = {"cat", "dog", "parrot", "rabbit", "turtle", "pony", "ferret"};
const Words kJobs = {"doctor", "teacher", "pilot", "baker", "lawyer", "engineer", "judge", "chef"};
const Words kKeyAdjectives = {"quiet", "golden", "hidden", "frozen", "gentle", "narrow", "eager"};
const Words kKeyNouns = {"river", "castle", "garden", "lantern", "harbor", "tower", "orchard"};
const Words kSecrets = {"code", "number", "access code", "password", "serial number", "badge"};
const Words kConsonants = {"b", "d", "f", "k", "l", "m", "n", "p", "r", "s", "t", "v"};
const Words kVowels = {"a", "e", "i", "o", "u"};

struct Trait {
  absl::string_view name;
  const Words& values;
};
const std::array<Trait, 6> kTraits = {{{"favourite colour", kColours},
                                       {"favourite food", kFoods},
                                       {"home town", kCities},
                                       {"pet", kPets},
                                       {"job", kJobs},
                                       {"destination", kCities}}};

// What nobody asks about.
const Words kWho = {
    "the innkeeper",    "a bookbinder",       "the harbour pilot",  "an old miller",
    "the piano tuner",  "two apprentices",    "the schoolmistress", "a night porter",
    "the beekeeper",    "a travelling choir", "the clockmaker",     "some fishermen",
    "a young surveyor", "the glazier",        "the signalman",      "a visiting aunt"};
const Words kWhere = {
    "by the canal lock",    "in the front parlour",      "under the arcade",
    "near the weir",        "at the foot of the stairs", "behind the bakery",
    "on the east quay",     "beside the old pump",       "along the cliff path",
    "in the upper gallery", "outside the town hall",     "at the edge of the common"};
const Words kThing = {"a crate of pears", "the spare oars",     "a bundle of newspapers",
                      "an iron kettle",   "a roll of twine",    "the garden shears",
                      "a chipped teapot", "a stack of ledgers", "the wicker chair",
                      "a tin of paint",   "three empty jars",   "a heavy overcoat"};
const Words kDid = {"put away",      "went back for", "asked about", "leaned on", "cleaned",
                    "lost sight of", "made room for", "sold",        "tied up",   "kept an eye on"};
const Words kWeather = {"A thin mist hung over the water",   "The wind had dropped at last",
                        "It was warmer than the day before", "Rain drummed on the tin roofs",
                        "The frost was late that year",      "The light was already going",
                        "Gulls circled above the chimneys",  "Dust blew along the empty lane"};
const Words kAfter = {"and nothing more came of it",
                      "while the others went on talking",
                      "as if there were all the time in the world",
                      "and then it was time for supper",
                      "though it hardly mattered",
                      "for no reason that anyone could give",
                      "and the gate was left open",
                      "until the bells began"};
const Words kProse = {
    "{weather}, and {who} stood {where}.",
    "{Who} {did} {thing} {where}, {after}.",
    "{weather}; {who} {did} {thing}, {after}.",
    "{Where} there was only {thing}, {after}.",
    "{Who} had once {did} {thing}, or so {who} liked to say.",
    "Nobody {where} remembered who {did} {thing}.",
    "{weather}. {Who} waited {where}, {after}.",
    "They talked about {thing} all the way home, {after}.",
};
const Words kSpeaker = {"Guest", "Host", "Caller", "Neighbour", "Driver", "Visitor"};
const Words kTalk = {
    "Well, I saw {who} {where} again.",
    "Did anybody ever find {thing}?",
    "I would not worry, it always turns up in the end.",
    "You know how it goes, {who} {did} {thing} and that was that.",
    "Let us wait a little longer, {after}.",
    "That is what I heard too, but who can say.",
    "I left {thing} {where}, if you are looking for it.",
    "Yes, and then we all had a good laugh.",
};
const Words kWire = {
    "Trading was calm in the afternoon and few orders changed hands.",
    "Officials said that talks would go on after the weekend.",
    "The ministry gave no details and took no questions.",
    "Analysts expect little change before the end of the quarter.",
    "Trains ran late in the morning and on time by noon.",
    "Organisers thanked the crowd and asked for patience at the exits.",
    "The committee put off its vote once more.",
    "Forecasters see more of the same for the rest of the week.",
};

}  // namespace

StreamGenerator::StreamGenerator(uint64_t seed, int64_t bytes_per_fact)
    : random_(seed), bytes_per_fact_(bytes_per_fact), next_fact_offset_(bytes_per_fact / 2) {
  minutes_ = random_.Below(600);
}

std::string StreamGenerator::Clock() {
  minutes_ += 1 + random_.Below(20);
  return absl::StrFormat("[%02d:%02d] ", minutes_ / 60 % 24, minutes_ % 60);
}

StreamGenerator::Fact StreamGenerator::MakeNews() {
  const absl::string_view firm = random_.Pick(kFirms);
  Fact fact;
  Question& q = fact.question;
  switch (random_.Below(3)) {
    case 0:
      fact.subject = absl::StrCat(firm, " shares");
      q.answer = absl::StrCat(5 + random_.Below(995));
      q.fact = absl::StrCat(firm, " shares trade at ", q.answer, " dollars.");
      q.text = absl::StrCat("At what price do ", firm, " shares trade now?");
      break;
    case 1:
      fact.subject = absl::StrCat(firm, " chief");
      q.answer = std::string(random_.Pick(kChiefs));
      q.fact = absl::StrCat(firm, " names ", q.answer, " as its new chief.");
      q.text = absl::StrCat("Who is the chief of ", firm, " now?");
      break;
    default:
      fact.subject = absl::StrCat(firm, " city");
      q.answer = std::string(random_.Pick(kCities));
      q.fact = absl::StrCat(firm, " moves its head office to ", q.answer, ".");
      q.text = absl::StrCat("Where is the head office of ", firm, " now?");
  }
  return fact;
}

StreamGenerator::Fact StreamGenerator::MakePerson() {
  const absl::string_view person = random_.Pick(kPeople);
  const Trait& trait = random_.Pick(kTraits);
  Fact fact;
  fact.subject = absl::StrCat(person, " ", trait.name);
  fact.look_up = true;
  Question& q = fact.question;
  q.answer = std::string(random_.Pick(trait.values));
  switch (random_.Below(3)) {
    case 0:
      q.fact = absl::StrCat(person, ": my ", trait.name, " is ", q.answer, ".");
      break;
    case 1:
      q.fact = absl::StrCat(person, "'s ", trait.name, " is ", q.answer, ".");
      break;
    default:
      q.fact = absl::StrCat(person, " told us that the ", trait.name, " is ", q.answer, ".");
  }
  q.text = absl::StrCat("What is ", person, "'s ", trait.name, "?");
  return fact;
}

StreamGenerator::Fact StreamGenerator::MakeKey() {
  const absl::string_view secret = random_.Pick(kSecrets);
  const std::string key = absl::StrCat(random_.Pick(kKeyAdjectives), " ", random_.Pick(kKeyNouns));
  Fact fact;
  fact.subject = key;
  fact.look_up = true;
  Question& q = fact.question;
  if (random_.Below(3) == 0) {
    for (int syllable = 0; syllable < 2; ++syllable) {
      absl::StrAppend(&q.answer, random_.Pick(kConsonants), random_.Pick(kVowels));
    }
  } else {
    q.answer = absl::StrCat(100 + random_.Below(900));
  }
  switch (random_.Below(3)) {
    case 0:
      q.fact = absl::StrCat("The ", secret, " of the ", key, " is ", q.answer, ".");
      q.text = absl::StrCat("What is the ", secret, " of the ", key, "?");
      break;
    case 1:
      q.fact = absl::StrCat("Remember that the ", secret, " for ", key, " is ", q.answer, ".");
      q.text = absl::StrCat("Which ", secret, " belongs to ", key, "?");
      break;
    default:
      q.fact = absl::StrCat("The ", secret, " registered for the ", key, " was ", q.answer, ".");
      q.text = absl::StrCat("Tell me the ", secret, " registered for the ", key, ".");
  }
  return fact;
}

StreamGenerator::Fact StreamGenerator::MakeFact() {
  for (;;) {
    const int64_t kind = random_.Below(6);
    Fact fact = kind < 3 ? MakeNews() : kind < 5 ? MakePerson() : MakeKey();
    const auto old = std::find_if(facts_.begin(), facts_.end(),
                                  [&](const Fact& known) { return known.subject == fact.subject; });
    if (old == facts_.end()) return fact;
    // Keys and people keep what they have, and news of the same value is no news.
    if (fact.look_up || old->question.answer == fact.question.answer) continue;
    fact.question.replaced_values = old->question.replaced_values + 1;
    facts_.erase(old);
    return fact;
  }
}

void StreamGenerator::State(Fact* fact, std::string* text) {
  absl::StrAppend(text, "\n");
  fact->question.fact_offset = offset_ + static_cast<int64_t>(text->size());
  absl::StrAppend(text, fact->look_up ? "" : Clock(), fact->question.fact);
}

std::string StreamGenerator::MakeFiller() {
  const auto capital = [](absl::string_view word) {
    std::string result(word);
    result[0] = absl::ascii_toupper(result[0]);
    return result;
  };
  const auto fill = [&](absl::string_view pattern) {
    const absl::string_view who = random_.Pick(kWho), where = random_.Pick(kWhere);
    return absl::StrReplaceAll(pattern, {{"{who}", who},
                                         {"{Who}", capital(random_.Pick(kWho))},
                                         {"{where}", where},
                                         {"{Where}", capital(random_.Pick(kWhere))},
                                         {"{thing}", random_.Pick(kThing)},
                                         {"{did}", random_.Pick(kDid)},
                                         {"{weather}", random_.Pick(kWeather)},
                                         {"{after}", random_.Pick(kAfter)}});
  };
  std::string paragraph;
  const int64_t sentences = 3 + random_.Below(4);
  const int64_t kind = random_.Below(6);
  for (int64_t i = 0; i < sentences; ++i) {
    if (kind == 0) {
      absl::StrAppend(&paragraph, "\n", random_.Pick(kSpeaker), ": ", fill(random_.Pick(kTalk)));
    } else {
      absl::StrAppend(&paragraph, i == 0 ? "\n" : " ",
                      fill(random_.Pick(kind == 1 ? kWire : kProse)));
    }
  }
  return paragraph;
}

std::string StreamGenerator::Next(int64_t bytes) {
  std::string text;
  while (static_cast<int64_t>(text.size()) < bytes) {
    const int64_t at = offset_ + static_cast<int64_t>(text.size());
    if (at < next_fact_offset_) {
      text += MakeFiller();
      continue;
    }
    Fact fact = MakeFact();
    State(&fact, &text);
    // As on a real wire, what replaces older news is reported again. Stated once, the shipped
    // model takes an older value for the newest in one case of five; stated twice, in one of
    // twenty.
    if (fact.question.replaced_values > 0) {
      text += MakeFiller();
      State(&fact, &text);
    }
    facts_.push_back(std::move(fact));
    next_fact_offset_ = at + bytes_per_fact_ / 2 + random_.Below(bytes_per_fact_);
  }
  offset_ += static_cast<int64_t>(text.size());
  return text;
}

std::optional<Question> StreamGenerator::Ask(int64_t from, int64_t to, Wanted wanted) {
  std::vector<Fact*> fitting;
  for (Fact& fact : facts_) {
    const Question& q = fact.question;
    if (q.fact_offset < from || q.fact_offset >= to) continue;
    if (wanted == Wanted::kUpdated && q.replaced_values == 0) continue;
    if (wanted == Wanted::kLookUp && !fact.look_up) continue;
    if (!fitting.empty() && fact.asked > fitting.front()->asked) continue;
    if (!fitting.empty() && fact.asked < fitting.front()->asked) fitting.clear();
    fitting.push_back(&fact);
  }
  if (fitting.empty()) return std::nullopt;
  Fact* const fact = random_.Pick(fitting);
  ++fact->asked;
  return fact->question;
}

}  // namespace rasq::client
