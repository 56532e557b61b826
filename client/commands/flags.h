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

  // `set` gets the value's text, and returns false if it is none of this flag's.
  void Add(absl::string_view name, char shorthand, absl::string_view help,
           std::function<bool(const std::string&)> set);
  // Targets are borrowed and keep their value if the flag is not given. `shorthand` is one letter,
  // or 0. The first word of a value's `help` names the value.
  void Add(absl::string_view name, char shorthand, bool* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, std::string* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, int64_t* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, double* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, absl::Duration* target, absl::string_view help);
  void Add(absl::string_view name, char shorthand, std::vector<std::string>* target,
           absl::string_view help);  // may be given several times
  template <typename T>
  void Add(absl::string_view name, char shorthand, std::optional<T>* target,
           absl::string_view help) {
    Add(name, shorthand, help, [target](const std::string& text) {
      T value;
      if (!ParseValue(text, &value)) return false;
      *target = value;
      return true;
    });
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
    std::function<bool(const std::string&)> set;  // false: not a value of its type
  };

  static bool ParseValue(const std::string& text, int64_t* value);
  static bool ParseValue(const std::string& text, double* value);
  static bool ParseValue(const std::string& text, std::string* value);
  static bool ParseValue(const std::string& text, absl::Duration* value);

  const std::string usage_;
  const std::string description_;
  std::vector<Flag> flags_;
  bool help_asked_ = false;
};

}  // namespace rasq::client
