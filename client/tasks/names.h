// Names of people, places and firms: from lists of many languages, composed, and made up.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {

const Words& FirstNames();
const Words& Cities();
// All lists here whose entries are whole names.
std::vector<const Words*> NameLists();

std::string MakeFirstName(Random& random, Split split);  // listed, or one time in six made up
std::string MakeSurname(Random& random, Split split);
// "Amina", "Amina Ashford", "Dr Ashford".
std::string MakePersonName(Random& random, Split split);
std::string MakeCity(Random& random, Split split);
std::string MakeFirm(Random& random, Split split);
// Two to four syllables, in small letters.
std::string MakeWord(Random& random, Split split);
// The same with a capital.
std::string MakeMadeUpName(Random& random, Split split);

// Calls `make` until it gives a text that is not in `used` yet, and adds it there.
template <typename Make>
std::string MakeFresh(std::set<std::string>& used, Make make) {
  for (;;) {
    std::string text = make();
    if (used.insert(text).second) return text;
  }
}

}  // namespace rasq::tasks
