// The values that facts give to things.
#pragma once

#include <string>
#include <vector>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

enum class ValueKind {
  kDigits,    // "40718": two to eight
  kShort,     // "37": one to three digits, not zero first
  kCode,      // "QX7-20", "b4f09e"
  kMadeUp,    // "tralou"
  kWord,      // "lantern"
  kTwoWords,  // "gentle harbor"
  kCity,
  kColour,
  kFood,
  kDrink,
  kAnimal,
  kJob,
  kHobby,
  kInstrument,
  kLanguage,
  kSport,
  kWeather,
  kName,   // a first name
  kDate,   // "14 March"
  kTime,   // "16:45", "half past nine"
  kPrice,  // "340 dollars", "$12.50"
};

std::string MakeValue(Random& random, Split split, ValueKind kind);

const Words& Adjectives();
const Words& Nouns();
const Words& Months();
// All lists here but of months and times.
std::vector<const Words*> ValueLists();

}  // namespace rasq::tasks
