// Keys, people, relations and values without a list that they are taken from.
#pragma once

#include <optional>
#include <string>

#include "client/tasks/lexicon.h"
#include "client/tasks/values.h"

namespace rasq::tasks {

// How the values of one relation look: alike, as those of a real one do.
struct ValueForm {
  std::optional<ValueKind> listed;
  int open = 0;  // if it is none of the listed: below kNumOpenForms
};
inline constexpr int kNumOpenForms = 24;  // words, names, numbers, dates, codes, addresses, ...

ValueForm PickValueForm(Random& random);
// One of which there are thousands of values in either split.
ValueForm PickWideForm(Random& random);
std::string MakeFormed(const Source& from, const ValueForm& form);

// "the frugal gauge", "Pemberton's raft", "item 381", "b4f0", "the meeting of 14 March".
std::string MakeOpenKey(const Source& from);
// A thing without an article: "brass gauge".
std::string MakeThing(const Source& from);
// "sponsor", "tare weight", "gauge", "spare gauge".
std::string MakeOpenRelation(const Source& from);
// "Berenice", "J. Pemberton", "Tralou Ashford", "Aunt Benick".
std::string MakeOpenPerson(const Source& from);

}  // namespace rasq::tasks
