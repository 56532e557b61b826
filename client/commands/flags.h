// Flags of one command, and its help text. Accepts --name=value, --name value, -x value, and -- as
// the end of flags; flags and operands may be mixed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace rasq::client {

// A status that means "called wrongly": the program ends with exit code 2.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

class FlagSet {
 public:
  // `usage` is the line after "usage: rasq ".
  FlagSet(std::string usage, std::string description);

  // Gets the value's text. An error's message says what it is not.
  using Set = std::function<absl::Status(const std::string& text)>;
  void Add(absl::string_view name, char shorthand, absl::string_view help, Set set);
  // Targets are borrowed and keep their value if the flag is not given. `shorthand` is one letter,
  // or 0. The first word of a value's `help` names the value.
  void Add(absl::string_view name, char shorthand, bool* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, std::vector<std::string>* target,
           absl::string_view help);  // may be given several times
  // One value of a type that ParseValue knows. A target has the width of what it is for: a number
  // that does not fit is an error here, and nothing else narrows it.
  template <typename T>
  void Add(absl::string_view name, char shorthand, T* target, absl::string_view help) {
    Add(name, shorthand, help,
        [target](const std::string& text) { return ParseValue(text, target); });
  }
  template <typename T>
  void Add(absl::string_view name, char shorthand, std::optional<T>* target,
           absl::string_view help) {
    Add(name, shorthand, help,
        [target](const std::string& text) { return ParseValue(text, &target->emplace()); });
  }

  // Returns the operands. With `stop_at_operand` everything from the first operand on is one.
  absl::StatusOr<std::vector<std::string>> Parse(const std::vector<std::string>& arguments,
                                                 bool stop_at_operand = false);
  // --help was given: print Help() and do nothing else.
  bool help_asked() const { return help_asked_; }
  std::string Help() const;

 private:
  struct Flag {
    std::string name;
    char shorthand;
    std::string help;
    bool takes_value;
    Set set;
  };

  // Errors as of Set. Numbers are finite, durations neither infinite nor negative.
  static absl::Status ParseValue(const std::string& text, int32_t* value);
  static absl::Status ParseValue(const std::string& text, int64_t* value);
  static absl::Status ParseValue(const std::string& text, double* value);
  static absl::Status ParseValue(const std::string& text, std::string* value);
  static absl::Status ParseValue(const std::string& text, absl::Duration* value);

  const std::string usage_;
  const std::string description_;
  std::vector<Flag> flags_;
  bool help_asked_ = false;
};

}  // namespace rasq::client
