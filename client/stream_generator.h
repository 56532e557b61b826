// A stream of news, dialogue and plain prose without end. Facts are stated in it, news replaces
// older news, and it knows at any point what a reader should know. Made to show and to measure
// memory: the same seed gives the same stream on every machine.
//
// Facts and questions are worded as the shipped model was taught them; the prose around them asks
// for nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/tasks/random.h"

namespace rasq::client {

using tasks::Random;

struct Question {
  std::string text;         // as a reader would ask it
  std::string answer;       // the newest value
  std::string fact;         // the sentence that states it, without the time
  int64_t fact_offset = 0;  // of its last statement, in bytes from the stream's start
  int replaced_values = 0;  // how many older values of it the stream stated before
};

class StreamGenerator {
 public:
  // One fact, new or newer, in every `bytes_per_fact` bytes on average.
  StreamGenerator(uint64_t seed, int64_t bytes_per_fact);

  // The next part of the stream, of at least `bytes`; it ends with a whole sentence.
  std::string Next(int64_t bytes);
  int64_t offset() const { return offset_; }

  enum class Wanted { kAny, kUpdated, kLookUp };
  // A question about a fact that was stated between `from` and `to` (byte offsets), preferably one
  // that was not asked yet; none if there is none.
  std::optional<Question> Ask(int64_t from, int64_t to, Wanted wanted);

 private:
  struct Fact {
    std::string subject;  // two facts of one subject are two values of one thing
    Question question;
    bool look_up = false;  // a key's value or a person's trait; else news
    int asked = 0;
  };

  Fact MakeFact();
  Fact MakeNews();
  Fact MakePerson();
  Fact MakeKey();
  // Appends the fact's sentence, dated if it is news.
  void State(Fact* fact, std::string* text);
  std::string Clock();
  std::string MakeFiller();

  Random random_;
  const int64_t bytes_per_fact_;
  int64_t offset_ = 0;
  int64_t next_fact_offset_;
  int64_t minutes_;          // the wire's clock
  std::vector<Fact> facts_;  // the newest of each subject
};

}  // namespace rasq::client
