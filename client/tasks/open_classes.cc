#include "client/tasks/open_classes.h"

#include <array>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tasks/names.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

constexpr double kListedForms = 0.4;      // share of relations whose values are of a listed kind
constexpr uint64_t kHeldOutNumbers = 16;  // one of so many numbers, dates and codes
// Kinds of which even the held-out part has more values than one relation needs.
constexpr ValueKind kListedKinds[] = {ValueKind::kDigits, ValueKind::kShort,  ValueKind::kCode,
                                      ValueKind::kMadeUp, ValueKind::kWord,   ValueKind::kTwoWords,
                                      ValueKind::kCity,   ValueKind::kColour, ValueKind::kFood,
                                      ValueKind::kAnimal, ValueKind::kJob,    ValueKind::kName,
                                      ValueKind::kDate,   ValueKind::kTime,   ValueKind::kPrice};

constexpr absl::string_view kUnits[] = {
    "litres", "metres", "kilos", "miles",  "minutes", "hours",  "degrees", "percent", "pages",
    "feet",   "tons",   "volts", "crowns", "francs",  "shares", "knots",   "acres",   "cents"};
constexpr absl::string_view kHex = "0123456789abcdef";
constexpr absl::string_view kDigits = "0123456789";
constexpr absl::string_view kCapitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

std::string Characters(Random& random, absl::string_view alphabet, int64_t low, int64_t high) {
  std::string text;
  for (int64_t left = random.Between(low, high); left > 0; --left) text += random.Pick(alphabet);
  return text;
}

std::string Capital(absl::string_view word) {
  std::string text(word);
  if (!text.empty()) text[0] = absl::ascii_toupper(text[0]);
  return text;
}

// The forms without a word of the lexicon.
std::string MakeNumber(Random& random, int form) {
  switch (form) {
    case 0:
      return Concat({random.Between(2, 999), " ", random.Pick(kUnits)});
    case 1:
      return Concat({random.Below(500), ".", Characters(random, kDigits, 1, 3)});
    case 2:
      return absl::StrFormat("%04d-%02d-%02d", random.Between(1850, 2060), random.Between(1, 12),
                             random.Between(1, 28));
    case 3:
      return Concat(
          {random.Between(1, 28), " ", random.Pick(Months()), " ", random.Between(1700, 2080)});
    case 4:
      return Concat({random.Pick(Months()), " ", random.Between(1, 28)});
    case 5:
      return Characters(random, kHex, 4, 12);
    case 6: {
      std::string text = absl::StrCat(random.Below(256));
      for (int64_t left = random.Between(1, 3); left > 0; --left) {
        absl::StrAppend(&text, ".", random.Below(256));
      }
      return text;
    }
    case 7:
      return Concat({Characters(random, kDigits, 3, 4), random.Chance(0.5) ? "-" : " ",
                     Characters(random, kDigits, 3, 5)});
    case 8:
      return absl::StrCat(random.Between(1000, 2400));
    case 9:
      return Concat({Characters(random, kCapitals, 1, 4), random.Chance(0.5) ? "/" : "",
                     Characters(random, kDigits, 1, 6)});
    case 10:
      return Characters(random, kDigits, 8, 11);
    default:
      return absl::StrFormat("%d,%03d", random.Between(1, 999), random.Below(1000));
  }
}
constexpr int kNumberForms = 12;
static_assert(kNumOpenForms == 2 * kNumberForms);

// "brass gauge", with one to three words.
std::string MakePhrase(const Source& from, int64_t words) {
  std::string text;
  for (; words > 1; --words) {
    const bool noun = from.random.Chance(0.35);
    absl::StrAppend(&text, from.Word(noun ? WordClass::kNoun : WordClass::kAdjective), " ");
  }
  absl::StrAppend(&text, from.Word(WordClass::kNoun));
  return text;
}

std::string MakeOpenName(const Source& from) {
  return from.random.Chance(0.4) ? MakeMadeUpName(from.random, from.split)
                                 : std::string(from.Word(WordClass::kName));
}

}  // namespace

ValueForm PickValueForm(Random& random) {
  if (random.Chance(kListedForms)) {
    return {.listed = random.Pick(kListedKinds)};
  }
  return {.listed = std::nullopt, .open = static_cast<int>(random.Below(kNumOpenForms))};
}

ValueForm PickWideForm(Random& random) {
  constexpr ValueKind kWideKinds[] = {ValueKind::kDigits, ValueKind::kCode, ValueKind::kMadeUp};
  // Hexadecimal, dotted, letters and digits, long numbers; phrases and names of two words.
  constexpr int kWideForms[] = {5, 6, 9, 10, 11, 14, 15, 16, 18};
  if (random.Chance(kListedForms)) return {.listed = random.Pick(kWideKinds)};
  return {.listed = std::nullopt, .open = random.Pick(kWideForms)};
}

std::string MakeFormed(const Source& from, const ValueForm& form) {
  Random& random = from.random;
  if (form.listed.has_value()) return MakeValue(random, from.split, *form.listed);
  if (form.open < kNumberForms) {
    for (;;) {
      std::string text = MakeNumber(random, form.open);
      if ((EvenHash(text) % kHeldOutNumbers == 0) != from.training()) return text;
    }
  }
  switch (form.open - kNumberForms) {
    case 0:
    case 1:
      return std::string(from.Word(WordClass::kNoun));
    case 2:
    case 3:
      return MakePhrase(from, 2);
    case 4:
      return MakePhrase(from, 3);
    case 5:
      return MakeOpenName(from);
    case 6:
      return Concat({MakeOpenName(from), " ", MakeOpenName(from)});
    case 7:
      return Concat({from.Word(WordClass::kNoun), "-", from.Word(WordClass::kNoun)});
    case 8:
      return Concat(
          {Capital(from.Word(WordClass::kAdjective)), Capital(from.Word(WordClass::kNoun))});
    case 9:
      return std::string(from.Word(WordClass::kAdjective));
    case 10:
      return absl::AsciiStrToLower(
          Concat({MakeOpenName(from), "@", from.Word(WordClass::kNoun), ".org"}));
    default:
      return Concat({from.Word(WordClass::kNoun), " ", random.Between(2, 99)});
  }
}

std::string MakeThing(const Source& from) {
  return MakePhrase(from, from.random.Chance(0.6) ? 2 : from.random.Between(1, 3));
}

std::string MakeOpenKey(const Source& from) {
  Random& random = from.random;
  switch (random.Below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return absl::StrCat("the ", MakeThing(from));
    case 4:
      return Concat({MakeOpenPerson(from), "'s ", MakeThing(from)});
    case 5:
      return Concat({"the ", from.Word(WordClass::kNoun), " of ", MakeOpenPerson(from)});
    case 6:
      return Concat({"the ", from.Word(WordClass::kNoun),
                     random.Chance(0.5) ? " near the " : " in the ", MakeThing(from)});
    case 7:
      return MakeWord(random, from.split);
    case 8:
      return MakeOpenName(from);
    case 9:
      return Concat({from.Word(WordClass::kNoun), " ", random.Between(1, 400)});
    case 10:
      return Concat(
          {from.Word(WordClass::kNoun), " ", MakeFormed(from, {.listed = ValueKind::kCode})});
    case 11:
      return Concat({from.Word(WordClass::kAdjective), random.Chance(0.5) ? "-" : " ",
                     from.Word(WordClass::kNoun)});
    case 12:
      return Concat({from.Word(WordClass::kNoun), "_", from.Word(WordClass::kNoun)});
    case 13:
      return MakeFormed(
          from, {.listed = std::nullopt, .open = static_cast<int>(random.Below(kNumberForms))});
    case 14:
      return Concat({"the ", from.Word(WordClass::kNoun), " of ",
                     MakeFormed(from, {.listed = ValueKind::kDate})});
    default:
      return Concat({Capital(from.Word(WordClass::kNoun)), " ", MakeOpenName(from)});
  }
}

std::string MakeOpenRelation(const Source& from) {
  switch (from.random.Below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return std::string(from.Word(WordClass::kRelation));
    case 4:
    case 5:
    case 6:
      return std::string(from.Word(WordClass::kNoun));
    case 7:
      return Concat({from.Word(WordClass::kAdjective), " ", from.Word(WordClass::kRelation)});
    case 8:
      return Concat({from.Word(WordClass::kNoun), " ", from.Word(WordClass::kRelation)});
    default:
      return Concat({from.Word(WordClass::kAdjective), " ", from.Word(WordClass::kNoun)});
  }
}

std::string MakeOpenPerson(const Source& from) {
  Random& random = from.random;
  constexpr absl::string_view kTitles[] = {"Dr",    "Mr",     "Mrs",  "Miss",  "Captain", "Aunt",
                                           "Uncle", "Sister", "Lady", "Judge", "Old",     "Major"};
  switch (random.Below(10)) {
    case 0:
    case 1:
    case 2:
      return MakePersonName(random, from.split);
    case 3:
    case 4:
    case 5:
      return MakeOpenName(from);
    case 6:
      return Concat({MakeFirstName(random, from.split), " ", MakeOpenName(from)});
    case 7:
      return Concat({MakeOpenName(from), " ", MakeSurname(random, from.split)});
    case 8:
      return Concat({Characters(random, kCapitals, 1, 1), ". ", MakeOpenName(from)});
    default:
      return Concat({random.Pick(kTitles), " ", MakeOpenName(from)});
  }
}

}  // namespace rasq::tasks
