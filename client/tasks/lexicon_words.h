// The words of open classes that are built in.
#pragma once

#include <string>
#include <vector>

#include "client/tasks/lexicon.h"

namespace rasq::tasks {

// Each at most once.
std::vector<std::string> BuiltInWords(WordClass word_class);

}  // namespace rasq::tasks
