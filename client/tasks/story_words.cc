#include "client/tasks/story_words.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "client/tasks/names.h"
#include "client/tasks/open_classes.h"

namespace rasq::tasks {
namespace {

// The wordings of bAbI's first tasks, each as often as there.
const StoryWords kBabi = {
    .moves = {"{p} moved to the {l}.", "{p} went to the {l}.", "{p} went back to the {l}.",
              "{p} journeyed to the {l}.", "{p} travelled to the {l}."},
    .takes = {"{p} got the {o} there.", "{p} took the {o} there.", "{p} grabbed the {o} there.",
              "{p} picked up the {o} there."},
    .drops = {"{p} <dropped|left|discarded|put down> the {o}.",
              "{p} <dropped|left|discarded|put down> the {o}.",
              "{p} <dropped|left|discarded|put down> the {o}.",
              "{p} <dropped|left|discarded|put down> the {o}.",
              "{p} <dropped|left|discarded|put down> the {o} there."},
    .gives = {"{p} gave the {o} to {q}.", "{p} handed the {o} to {q}.",
              "{p} passed the {o} to {q}."},
    .where_person = {"where is {p}?"},
    .where_object = {"where is the {o}?"},
    .where_before = {"where was the {o} before the {l}?"},
    .what_given = {"what did {p} give to {q}?"},
    .who_gave_to = {"who gave the {o} to {q}?"},
    .who_gave = {"who gave the {o}?"},
    .to_whom = {"who did {p} give the {o} to?"},
    .who_received = {"who received the {o}?"},
};

const StoryWords kOwn = {
    .moves = {"{p} <walked|ran|strolled|hurried|wandered> to the {l}.",
              "{p} <moved|went|journeyed|travelled> to the {l}.",
              "{p} <went|came> back to the {l}.", "{p} entered the {l}.",
              "{p} <set off|left|headed> for the {l}.", "{p} is now in the {l}.",
              "<then|after that|a little later> {p} went to the {l}.",
              "{p} <rushed|crept|slipped> into the {l}.", "we saw {p} go into the {l}.",
              "{p} arrived in the {l}.", "{p} made for the {l}.", "the {l} is where {p} went next.",
              "{p} decided to go to the {l}.", "{p} was called to the {l} and went there.",
              "off went {p} to the {l}.", "{p} returned to the {l}."},
    .takes = {"{p} <got|took|grabbed|picked up> the {o}.",
              "{p} <got|took|grabbed|picked up> the {o} there.",
              "{p} <found|discovered> the {o} there and took it.", "{p} put the {o} in a bag.",
              "there {p} <lifted|collected> the {o}.", "{p} now carries the {o}.",
              "the {o} was there, and {p} took it along.", "{p} <seized|snatched> the {o}.",
              "{p} got hold of the {o}.", "{p} bent down and picked up the {o}.",
              "\"That {o} is mine\", said {p} and took it.", "{p} pocketed the {o}.",
              "<without a word|quickly|carefully>, {p} took the {o}.",
              "{p} chose to keep the {o}, which lay there.", "{p} reached for the {o} and kept it.",
              "{p} gathered up the {o}."},
    .drops = {"{p} <dropped|left|discarded|put down> the {o}.",
              "{p} <dropped|left|discarded|put down> the {o} there.",
              "{p} <set|laid> down the {o}.", "{p} let go of the {o}.",
              "{p} got rid of the {o} there.", "there {p} <unloaded|parked> the {o}.",
              "{p} no longer wanted the {o} and left it there.", "{p} forgot the {o} there.",
              "{p} <placed|hid> the {o} there.", "tired of carrying it, {p} put the {o} down.",
              "{p} threw the {o} away.", "the {o} fell from the hands of {p}.",
              "{p} deposited the {o}.", "{p} left the {o} behind.",
              "{p} took the {o} out of the bag and left it.", "{p} abandoned the {o} there."},
    .gives = {"{p} <gave|handed|passed> the {o} to {q}.", "{p} <gave|handed|passed> {q} the {o}.",
              "{q} <got|received> the {o} from {p}.", "{p} presented {q} with the {o}.",
              "{p} let {q} have the {o}.", "{p} entrusted the {o} to {q}.",
              "{q} took the {o} from the hands of {p}.", "{p} made {q} a present of the {o}.",
              "\"Here is the {o}\", said {p} and gave it to {q}.",
              "{q} asked for the {o} and {p} handed it over.", "{p} turned the {o} over to {q}.",
              "the {o} went from {p} to {q}.", "{p} offered {q} the {o}, and {q} accepted.",
              "{p} pressed the {o} into the hands of {q}.", "{q} was handed the {o} by {p}.",
              "{p} lent the {o} to {q}."},
    .where_person = {"where is {p}?", "where is {p} now?", "in which place is {p}?",
                     "where did {p} go last?", "where can {p} be found?", "in which room is {p}?",
                     "where has {p} gone?", "what is the location of {p}?"},
    .where_object = {"where is the {o}?", "where is the {o} now?", "in which place is the {o}?",
                     "where can the {o} be found?", "where has the {o} ended up?",
                     "in which room is the {o}?", "where must I look for the {o}?",
                     "what is the location of the {o}?"},
    .where_before = {"where was the {o} before the {l}?",
                     "where was the {o} before it came to the {l}?",
                     "from where did the {o} come to the {l}?",
                     "in which place was the {o} before the {l}?",
                     "before the {l}, where was the {o}?",
                     "from which place was the {o} carried to the {l}?",
                     "where had the {o} been before it was in the {l}?",
                     "which place did the {o} leave for the {l}?"},
    .what_given = {"what did {p} give to {q}?", "what did {q} get from {p}?",
                   "which thing did {p} hand to {q}?", "what went from {p} to {q}?",
                   "what did {q} receive from {p}?", "what was it that {p} gave {q}?",
                   "which object did {p} pass to {q}?", "what has {q} been given by {p}?"},
    .who_gave_to = {"who gave the {o} to {q}?", "from whom did {q} get the {o}?",
                    "who handed {q} the {o}?", "who passed the {o} to {q}?",
                    "by whom was the {o} given to {q}?", "who was it that gave {q} the {o}?",
                    "from whose hands did {q} get the {o}?", "who let {q} have the {o}?"},
    .who_gave = {"who gave the {o}?", "who gave away the {o}?", "who parted with the {o}?",
                 "who handed over the {o}?", "by whom was the {o} given away?",
                 "who was the giver of the {o}?", "from whom came the {o}?",
                 "who passed on the {o}?"},
    .to_whom = {"who did {p} give the {o} to?", "to whom did {p} give the {o}?",
                "who got the {o} from {p}?", "to whom did {p} hand the {o}?",
                "whom did {p} give the {o}?", "who was given the {o} by {p}?",
                "to whom went the {o} from {p}?", "who received the {o} from {p}?"},
    .who_received = {"who received the {o}?", "who got the {o}?", "who was given the {o}?",
                     "to whom was the {o} given?", "who was handed the {o}?",
                     "who became the holder of the {o}?", "to whom did the {o} go?",
                     "who accepted the {o}?"},
};

const SideWords kBabiSides = {
    .sides = {"north of", "south of", "west of", "east of"},
    .facts = {"the {a} is {s} the {b}."},
    .what_is_there = {"what is {s} the {b}?"},
    .of_what = {"what is the {a} {s}?"},
};
// The third is held out, and its wordings with it.
const std::vector<SideWords> kOwnSides = {
    {.sides = {"north of", "south of", "west of", "east of"},
     .facts = {"the {a} lies {s} the {b}.", "<{s}> the {b} is the {a}.",
               "you find the {a} {s} the {b}.", "the {a} is {s} the {b}."},
     .what_is_there = {"what is {s} the {b}?", "what lies {s} the {b}?",
                       "which place is {s} the {b}?"},
     .of_what = {"what is the {a} {s}?", "the {a} is {s} which place?"}},
    {.sides = {"above", "below", "to the left of", "to the right of"},
     .facts = {"the {a} is {s} the {b}.", "<{s}> the {b} <is|stands> the {a}.",
               "they put the {a} {s} the {b}."},
     .what_is_there = {"what is {s} the {b}?", "which thing is {s} the {b}?"},
     .of_what = {"the {a} is {s} what?"}},
    {.sides = {"in front of", "behind", "to the left of", "to the right of"},
     .facts = {"the {a} stands {s} the {b}.", "the {a} was built {s} the {b}.",
               "<{s}> the {b} there is the {a}."},
     .what_is_there = {"what stands {s} the {b}?", "what was built {s} the {b}?"},
     .of_what = {"the {a} stands {s} what?"}},
    {.sides = {"upstream of", "downstream of", "uphill from", "downhill from"},
     .facts = {"the {a} is {s} the {b}.", "<{s}> the {b} comes the {a}."},
     .what_is_there = {"what is {s} the {b}?", "what comes {s} the {b}?"},
     .of_what = {"the {a} is {s} what?"}},
    {.sides = {"to the north of", "to the south of", "to the west of", "to the east of"},
     .facts = {"the {a} can be found {s} the {b}.", "just {s} the {b} we see the {a}.",
               "on the map the {a} is {s} the {b}.", "{s} the {b}, they say, is the {a}.",
               "whoever goes {s} the {b} comes to the {a}."},
     .what_is_there = {"what can be found {s} the {b}?", "name what is {s} the {b}.",
                       "{s} the {b} is what?", "which place does one find {s} the {b}?"},
     .of_what = {"the {a} can be found {s} what?", "name what the {a} is {s}.",
                 "{s} what is the {a}?"}},
    {.sides = {"on top of", "underneath", "left of", "right of"},
     .facts = {"the {a} was put {s} the {b}.", "the {a} rests {s} the {b}.",
               "look {s} the {b} and you see the {a}.", "somebody placed the {a} {s} the {b}.",
               "the place of the {a} is {s} the {b}."},
     .what_is_there = {"what rests {s} the {b}?", "what do you see {s} the {b}?",
                       "tell me what is {s} the {b}."},
     .of_what = {"the {a} rests {s} what?", "tell me what the {a} is {s}."}},
    {.sides = {"earlier than", "later than", "cheaper than", "dearer than"},
     .facts = {"the {a} is {s} the {b}.", "we know that the {a} was {s} the {b}.",
               "the {a} turned out {s} the {b}.", "compared with the {b}, the {a} is {s} it."},
     .what_is_there = {"what is {s} the {b}?", "which one turned out {s} the {b}?"},
     .of_what = {"the {a} is {s} what?", "than what is the {a} known to be, if {s}?"}},
};

const Words kPlaces = {
    "bathroom",      "bedroom",     "garden",      "hallway",     "kitchen",   "office",
    "park",          "school",      "cinema",      "attic",       "basement",  "balcony",
    "barn",          "bakery",      "bank",        "cafe",        "cellar",    "chapel",
    "classroom",     "courtyard",   "dining room", "factory",     "farm",      "forest",
    "garage",        "greenhouse",  "gym",         "harbour",     "hospital",  "hotel",
    "laboratory",    "laundry",     "library",     "living room", "lobby",     "market",
    "meadow",        "museum",      "nursery",     "orchard",     "pantry",    "playground",
    "porch",         "post office", "pub",         "restaurant",  "shed",      "shop",
    "stable",        "stadium",     "station",     "studio",      "study",     "supermarket",
    "swimming pool", "temple",      "theatre",     "tower",       "town hall", "veranda",
    "village",       "warehouse",   "workshop",    "yard"};
const Words kObjects = {
    "football", "apple",      "milk",     "ball",     "book",     "bottle", "box",       "broom",
    "bucket",   "cake",       "camera",   "candle",   "cap",      "clock",  "coin",      "comb",
    "cup",      "doll",       "drum",     "envelope", "fork",     "glass",  "guitar",    "hammer",
    "hat",      "jacket",     "jar",      "key",      "kite",     "knife",  "ladder",    "lamp",
    "lantern",  "letter",     "magazine", "map",      "mirror",   "mug",    "newspaper", "notebook",
    "orange",   "paintbrush", "pear",     "pen",      "pencil",   "phone",  "pillow",    "plate",
    "radio",    "ring",       "rope",     "sandwich", "scarf",    "shoe",   "spoon",     "suitcase",
    "teapot",   "ticket",     "torch",    "towel",    "umbrella", "vase",   "violin",    "watch"};

std::vector<std::string> PickSome(Random& random, Split split, const Words& list, int64_t count) {
  std::set<std::string> used;
  std::vector<std::string> some;
  for (int64_t i = 0; i < count; ++i) {
    some.push_back(MakeFresh(used, [&] { return std::string(PickFrom(random, split, list)); }));
  }
  return some;
}

}  // namespace

const StoryWords& BabiStoryWords() { return kBabi; }
const StoryWords& OwnStoryWords() { return kOwn; }
const SideWords& BabiSideWords() { return kBabiSides; }

const SideWords& PickOwnSideWords(Random& random, Split split) {
  constexpr size_t kHeldOutSides = 2;
  if (split == Split::kHeldOut) return kOwnSides[kHeldOutSides];
  const auto index = static_cast<size_t>(random.Below(static_cast<int64_t>(kOwnSides.size()) - 1));
  return kOwnSides[index < kHeldOutSides ? index : index + 1];
}

Cast BabiCast(Random& random, int kind) {
  Cast cast{.places = {"bathroom", "bedroom", "garden", "hallway", "kitchen", "office"},
            .objects = {"football", "apple", "milk"}};
  if (kind == 5) {
    cast.people = {"Bill", "Fred", "Jeff", "Mary"};
  } else {
    cast.people = {"Mary", "John", "Sandra", "Daniel"};
  }
  random.Shuffle(cast.places);
  return cast;
}

// Half of the casts are of listed people, places and things, the others of open ones, where no name
// is a part of another: who "Benick" is must be clear beside "Old Benick".
Cast MakeCast(const Source& from) {
  Random& random = from.random;
  const bool listed = random.Chance(0.5);
  const int64_t num_people = random.Between(2, 7);
  const int64_t num_places = random.Between(4, 8), num_objects = random.Between(2, 6);
  Cast cast;
  if (listed) {
    std::set<std::string> used;
    for (int64_t i = 0; i < num_people; ++i) {
      cast.people.push_back(MakeFresh(used, [&] { return MakeFirstName(random, from.split); }));
    }
    cast.places = PickSome(random, from.split, kPlaces, num_places);
    cast.objects = PickSome(random, from.split, kObjects, num_objects);
    return cast;
  }
  std::vector<std::string> all;
  const auto make_some = [&](int64_t count, auto make) {
    std::vector<std::string> some;
    while (static_cast<int64_t>(some.size()) < count) {
      std::string name = make();
      if (std::any_of(all.begin(), all.end(), [&](const std::string& other) {
            return absl::StrContains(other, name) || absl::StrContains(name, other);
          })) {
        continue;
      }
      all.push_back(name);
      some.push_back(std::move(name));
    }
    return some;
  };
  cast.people = make_some(num_people, [&] { return MakeOpenPerson(from); });
  cast.places = make_some(num_places, [&] { return MakeThing(from); });
  cast.objects = make_some(num_objects, [&] { return MakeThing(from); });
  return cast;
}

std::vector<const Words*> StoryLists() { return {&kPlaces, &kObjects}; }

}  // namespace rasq::tasks
