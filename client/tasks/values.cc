#include "client/tasks/values.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tasks/names.h"

namespace rasq::tasks {
namespace {

const Words kAdjectives = {
    "quiet",    "golden",    "broken",  "ancient",  "hidden",  "silver",  "frozen",   "crooked",
    "gentle",   "hollow",    "narrow",  "wooden",   "bitter",  "distant", "eager",    "faded",
    "humble",   "jagged",    "lonely",  "mellow",   "nimble",  "proud",   "rapid",    "solemn",
    "tender",   "upright",   "vivid",   "weary",    "zealous", "brisk",   "amber",    "barren",
    "brave",    "calm",      "careful", "cheerful", "clever",  "cloudy",  "coastal",  "cold",
    "copper",   "curious",   "dusty",   "early",    "empty",   "fancy",   "fearless", "fierce",
    "foggy",    "forgotten", "fragile", "fresh",    "giant",   "glassy",  "grand",    "gloomy",
    "happy",    "heavy",     "hungry",  "icy",      "iron",    "jolly",   "kind",     "late",
    "lazy",     "little",    "loud",    "lucky",    "marble",  "misty",   "muddy",    "noisy",
    "northern", "odd",       "old",     "painted",  "pale",    "patient", "plain",    "polite",
    "polished", "quick",     "rainy",   "rough",    "round",   "royal",   "rusty",    "sandy",
    "secret",   "shiny",     "silent",  "simple",   "sleepy",  "slow",    "smooth",   "southern",
    "steady",   "stormy",    "strange", "sunny",    "sweet",   "tall",    "tidy",     "tiny",
    "velvet",   "wandering", "warm",    "western",  "wild",    "windy",   "winter",   "wise"};
const Words kNouns = {
    "river",    "castle",   "garden",   "bridge",  "engine",     "lantern",  "window",  "forest",
    "mountain", "island",   "harbor",   "temple",  "tower",      "valley",   "market",  "palace",
    "meadow",   "desert",   "canyon",   "glacier", "library",    "museum",   "station", "theater",
    "orchard",  "vineyard", "quarry",   "lagoon",  "prairie",    "tundra",   "anchor",  "arrow",
    "barrel",   "basket",   "bell",     "blanket", "bottle",     "bracelet", "brush",   "bucket",
    "cabin",    "cabinet",  "camera",   "candle",  "canoe",      "carpet",   "cart",    "cellar",
    "chapel",   "chest",    "clock",    "cottage", "crown",      "cupboard", "curtain", "dagger",
    "drawer",   "drum",     "factory",  "farm",    "feather",    "fence",    "ferry",   "flute",
    "fountain", "gate",     "globe",    "hammer",  "hat",        "helmet",   "hut",     "jacket",
    "jar",      "kettle",   "ladder",   "lamp",    "lighthouse", "locket",   "mill",    "mirror",
    "needle",   "notebook", "oven",     "paddle",  "painting",   "parcel",   "piano",   "pillow",
    "pipe",     "pond",     "printer",  "radio",   "ring",       "robot",    "rocket",  "saddle",
    "sail",     "satchel",  "scarf",    "shed",    "shield",     "ship",     "sofa",    "statue",
    "stove",    "suitcase", "sword",    "table",   "telescope",  "tent",     "ticket",  "train",
    "trunk",    "tunnel",   "umbrella", "vase",    "violin",     "wagon",    "wallet",  "warehouse",
    "wheel",    "whistle"};
const Words kColours = {"red",     "blue",  "green",    "yellow",    "purple", "orange",   "pink",
                        "brown",   "black", "white",    "grey",      "teal",   "maroon",   "navy",
                        "silver",  "gold",  "violet",   "crimson",   "amber",  "azure",    "beige",
                        "bronze",  "coral", "cream",    "cyan",      "ebony",  "emerald",  "indigo",
                        "ivory",   "khaki", "lavender", "lilac",     "lime",   "magenta",  "mauve",
                        "mustard", "olive", "peach",    "plum",      "ruby",   "rust",     "salmon",
                        "scarlet", "sepia", "tan",      "turquoise", "umber",  "vermilion"};
const Words kFoods = {
    "pizza",     "pasta",      "sushi",       "curry",          "salad",         "soup",
    "bread",     "cheese",     "apples",      "grapes",         "mangoes",       "rice",
    "noodles",   "dumplings",  "tacos",       "pancakes",       "waffles",       "olives",
    "lasagne",   "ramen",      "falafel",     "paella",         "risotto",       "goulash",
    "couscous",  "hummus",     "kimchi",      "lentils",        "oysters",       "omelette",
    "porridge",  "pretzels",   "pierogi",     "plums",          "cherries",      "raspberries",
    "figs",      "walnuts",    "pumpkin pie", "fish and chips", "roast chicken", "baked beans",
    "meatballs", "gnocchi",    "tofu",        "burritos",       "blueberries",   "cheesecake",
    "mushrooms", "sauerkraut", "spinach",     "tiramisu",       "trout",         "venison",
    "yoghurt",   "crab cakes"};
const Words kDrinks = {"green tea",
                       "black coffee",
                       "lemonade",
                       "apple juice",
                       "hot chocolate",
                       "mineral water",
                       "ginger beer",
                       "orange juice",
                       "iced tea",
                       "cocoa",
                       "cider",
                       "milk",
                       "espresso",
                       "cappuccino",
                       "mint tea",
                       "tomato juice",
                       "soda",
                       "red wine",
                       "white wine",
                       "a milkshake",
                       "coconut water",
                       "cranberry juice",
                       "herbal tea",
                       "buttermilk",
                       "tonic water",
                       "rooibos",
                       "mango lassi",
                       "camomile tea",
                       "sparkling water",
                       "grape juice",
                       "oat milk",
                       "a smoothie"};
const Words kAnimals = {
    "cat",      "dog",      "parrot",  "rabbit",  "hamster", "turtle",  "pony",    "snake",
    "goldfish", "ferret",   "badger",  "beaver",  "camel",   "canary",  "cheetah", "cow",
    "crab",     "crow",     "deer",    "dolphin", "donkey",  "duck",    "eagle",   "elephant",
    "falcon",   "fox",      "frog",    "gecko",   "giraffe", "goat",    "goose",   "hedgehog",
    "heron",    "horse",    "iguana",  "jaguar",  "koala",   "lemur",   "lion",    "lizard",
    "llama",    "mole",     "moose",   "mouse",   "newt",    "octopus", "otter",   "owl",
    "panda",    "peacock",  "penguin", "pigeon",  "raven",   "salmon",  "seal",    "sheep",
    "sloth",    "squirrel", "swan",    "tiger",   "toad",    "walrus",  "whale",   "zebra"};
const Words kJobs = {
    "doctor",       "teacher",  "farmer",     "pilot",       "baker",       "lawyer",
    "painter",      "nurse",    "sailor",     "engineer",    "carpenter",   "reporter",
    "chef",         "judge",    "librarian",  "plumber",     "actor",       "architect",
    "astronomer",   "barber",   "biologist",  "bookkeeper",  "brewer",      "butcher",
    "cashier",      "chemist",  "cobbler",    "dancer",      "dentist",     "detective",
    "diver",        "driver",   "editor",     "electrician", "firefighter", "fisherman",
    "florist",      "gardener", "glazier",    "jeweller",    "joiner",      "locksmith",
    "mason",        "mechanic", "miner",      "musician",    "optician",    "pharmacist",
    "photographer", "poet",     "porter",     "potter",      "programmer",  "ranger",
    "roofer",       "sculptor", "secretary",  "shepherd",    "singer",      "surgeon",
    "surveyor",     "tailor",   "translator", "waiter"};
const Words kHobbies = {"chess",    "knitting",         "fishing",   "pottery",      "birdwatching",
                        "origami",  "gardening",        "sailing",   "baking",       "photography",
                        "hiking",   "calligraphy",      "juggling",  "archery",      "cycling",
                        "painting", "stamp collecting", "astronomy", "woodworking",  "dancing",
                        "climbing", "surfing",          "cooking",   "beekeeping",   "embroidery",
                        "singing",  "skating",          "puzzles",   "magic tricks", "model trains",
                        "yoga",     "kite flying"};
const Words kInstruments = {"violin",    "piano",   "guitar",    "flute",     "drums",
                            "trumpet",   "cello",   "harp",      "saxophone", "clarinet",
                            "accordion", "banjo",   "oboe",      "trombone",  "ukulele",
                            "mandolin",  "bassoon", "organ",     "tuba",      "viola",
                            "bagpipes",  "sitar",   "harmonica", "xylophone"};
const Words kLanguages = {
    "French",    "German", "Spanish", "Italian", "Japanese", "Arabic",  "Swahili",    "Turkish",
    "Polish",    "Greek",  "Hindi",   "Korean",  "Dutch",    "Finnish", "Portuguese", "Russian",
    "Welsh",     "Hebrew", "Thai",    "Swedish", "Czech",    "Latin",   "Bengali",    "Hungarian",
    "Icelandic", "Tamil",  "Zulu",    "Basque",  "Danish",   "Irish",   "Persian",    "Yoruba"};
const Words kSports = {"football",  "tennis",   "hockey",     "rugby",       "cricket",
                       "baseball",  "swimming", "rowing",     "boxing",      "fencing",
                       "golf",      "judo",     "basketball", "volleyball",  "handball",
                       "badminton", "karate",   "skiing",     "running",     "wrestling",
                       "squash",    "polo",     "curling",    "table tennis"};
const Words kWeather = {"rain",  "snow",          "fog",          "sunshine",
                        "hail",  "thunderstorms", "strong winds", "drizzle",
                        "sleet", "heavy clouds",  "frost",        "light showers",
                        "mist",  "clear skies",   "a heatwave",   "freezing rain"};
const Words kMonths = {"January", "February", "March",     "April",   "May",      "June",
                       "July",    "August",   "September", "October", "November", "December"};
const Words kHours = {"one",   "two",   "three", "four", "five",   "six",
                      "seven", "eight", "nine",  "ten",  "eleven", "twelve"};
const Words kTimeWords = {"half past ", "a quarter to ", "a quarter past ", "ten past ",
                          "twenty to "};

constexpr absl::string_view kUpper = "ABCDEFGHJKLMNPQRSTUVWXYZ";  // no I and O, as on plates
constexpr absl::string_view kHex = "0123456789abcdef";

std::string Characters(Random& random, absl::string_view alphabet, int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) text += random.Pick(alphabet);
  return text;
}

std::string Digits(Random& random, int64_t low, int64_t high) {
  return Characters(random, "0123456789", random.Between(low, high));
}

std::string MakeCode(Random& random) {
  switch (random.Below(7)) {
    case 0:
      return Concat({Characters(random, kUpper, 2), Digits(random, 3, 4)});
    case 1:
      return Concat({Characters(random, kUpper, random.Between(2, 3)), "-", Digits(random, 2, 4)});
    case 2:
      return Concat({Characters(random, kUpper, 1), Digits(random, 1, 2)});
    case 3:
      return Characters(random, kHex, random.Between(6, 8));
    case 4:
      return Concat({Digits(random, 2, 3), Characters(random, kUpper, 2), Digits(random, 1, 2)});
    case 5:
      return Concat({Digits(random, 2, 3), "-", Digits(random, 3, 4)});
    default:
      return Characters(random, kUpper, random.Between(3, 6));
  }
}

std::string MakeTime(Random& random) {
  if (random.Chance(0.75)) {
    const int64_t hour = random.Below(24);
    return absl::StrFormat("%02d:%02d", hour, random.Below(12) * 5);
  }
  return Concat({random.Pick(kTimeWords), random.Pick(kHours)});
}

std::string MakePrice(Random& random) {
  switch (random.Below(5)) {
    case 0:
      return Concat({"$", random.Between(2, 99), ".", Digits(random, 2, 2)});
    case 1:
      return absl::StrCat(random.Between(2, 999), " euros");
    case 2:
      return absl::StrCat(random.Between(2, 999), " pounds");
    default:
      return absl::StrCat(random.Between(2, 2000), " dollars");
  }
}

}  // namespace

const Words& Adjectives() { return kAdjectives; }
const Words& Nouns() { return kNouns; }
const Words& Months() { return kMonths; }
std::vector<const Words*> ValueLists() {
  return {&kAdjectives, &kNouns,   &kColours,     &kFoods,     &kDrinks, &kAnimals,
          &kJobs,       &kHobbies, &kInstruments, &kLanguages, &kSports, &kWeather};
}

std::string MakeValue(Random& random, Split split, ValueKind kind) {
  const auto listed = [&](const Words& words) {
    return std::string(PickFrom(random, split, words));
  };
  const auto made = [&](auto make) { return MakeFitting(split, make); };
  switch (kind) {
    case ValueKind::kDigits:
      return made([&] { return Digits(random, 2, 8); });
    case ValueKind::kShort:
      return absl::StrCat(random.Between(1, random.Chance(0.5) ? 99 : 999));
    case ValueKind::kCode:
      return made([&] { return MakeCode(random); });
    case ValueKind::kMadeUp:
      return MakeWord(random, split);
    case ValueKind::kWord:
      return listed(random.Chance(0.7) ? kNouns : kAdjectives);
    case ValueKind::kTwoWords:
      return absl::StrCat(listed(kAdjectives), " ", listed(kNouns));
    case ValueKind::kCity:
      return MakeCity(random, split);
    case ValueKind::kColour:
      return listed(kColours);
    case ValueKind::kFood:
      return listed(kFoods);
    case ValueKind::kDrink:
      return listed(kDrinks);
    case ValueKind::kAnimal:
      return listed(kAnimals);
    case ValueKind::kJob:
      return listed(kJobs);
    case ValueKind::kHobby:
      return listed(kHobbies);
    case ValueKind::kInstrument:
      return listed(kInstruments);
    case ValueKind::kLanguage:
      return listed(kLanguages);
    case ValueKind::kSport:
      return listed(kSports);
    case ValueKind::kWeather:
      return listed(kWeather);
    case ValueKind::kName:
      return MakeFirstName(random, split);
    case ValueKind::kDate:
      return Concat({random.Between(1, 28), " ", random.Pick(kMonths)});
    case ValueKind::kTime:
      return MakeTime(random);
    case ValueKind::kPrice:
      return MakePrice(random);
  }
  return "";
}

}  // namespace rasq::tasks
