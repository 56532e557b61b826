// Time as an episode's news write it: always forward, in one of many notations.
#pragma once

#include <cstdint>
#include <string>

#include "client/tasks/episode.h"
#include "client/tasks/random.h"

namespace rasq::tasks {

class NewsClock {
 public:
  NewsClock(Random& random, Split split);

  void Advance();
  // What stands before a statement: "[14:05] ".
  std::string Prefix() const;
  // How a question refers to it: "at 14:05".
  std::string At() const;

 private:
  std::string Hour() const;
  std::string Date() const;     // "3 May"
  std::string IsoDate() const;  // "2031-05-03"

  Random& random_;
  const int64_t style_;
  const int64_t word_;  // of the styles that count something
  int64_t minutes_, day_, count_;
};

}  // namespace rasq::tasks
