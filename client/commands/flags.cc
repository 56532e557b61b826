#include "client/commands/flags.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace rasq::client {
namespace {

constexpr char kUsagePayload[] = "rasq.usage";

template <typename Integer>
absl::Status ParseInteger(const std::string& text, Integer* value) {
  if (absl::SimpleAtoi(text, value)) return absl::OkStatus();
  using Limits = std::numeric_limits<Integer>;
  return absl::InvalidArgumentError(
      absl::StrCat("not a whole number from ", Limits::min(), " to ", Limits::max()));
}

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value();
}

FlagSet::FlagSet(std::string usage, std::string description)
    : usage_(std::move(usage)), description_(std::move(description)) {
  Add("help", 'h', &help_asked_, "this text");
}

absl::Status FlagSet::ParseValue(const std::string& text, int32_t* value) {
  return ParseInteger(text, value);
}
absl::Status FlagSet::ParseValue(const std::string& text, int64_t* value) {
  return ParseInteger(text, value);
}
absl::Status FlagSet::ParseValue(const std::string& text, double* value) {
  return absl::SimpleAtod(text, value) && std::isfinite(*value)
             ? absl::OkStatus()
             : absl::InvalidArgumentError("not a finite number");
}
absl::Status FlagSet::ParseValue(const std::string& text, std::string* value) {
  *value = text;
  return absl::OkStatus();
}
absl::Status FlagSet::ParseValue(const std::string& text, absl::Duration* value) {
  return absl::ParseDuration(text, value) && *value >= absl::ZeroDuration() &&
                 *value != absl::InfiniteDuration()
             ? absl::OkStatus()
             : absl::InvalidArgumentError("not a duration such as 90s, 30m or 24h");
}

void FlagSet::Add(absl::string_view name, char shorthand, absl::string_view help, Set set) {
  flags_.push_back({.name = std::string(name),
                    .shorthand = shorthand,
                    .help = std::string(help),
                    .takes_value = true,
                    .set = std::move(set)});
}

void FlagSet::Add(absl::string_view name, char shorthand, bool* target, absl::string_view help) {
  Add(name, shorthand, help, [target](const std::string&) {
    *target = true;
    return absl::OkStatus();
  });
  flags_.back().takes_value = false;
}
void FlagSet::Add(absl::string_view name, char shorthand, std::vector<std::string>* target,
                  absl::string_view help) {
  Add(name, shorthand, help, [target](const std::string& text) {
    target->push_back(text);
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(const std::vector<std::string>& arguments,
                                                        bool stop_at_operand) {
  std::vector<std::string> operands;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const bool is_long = argument.size() > 2 && argument.compare(0, 2, "--") == 0;
    const bool is_short = argument.size() == 2 && argument[0] == '-' && argument[1] != '-';
    if (argument == "--" || (!is_long && !is_short)) {
      if (argument == "--") ++i;
      const bool rest = argument == "--" || stop_at_operand;
      const auto first = arguments.begin() + static_cast<ptrdiff_t>(i);
      operands.insert(operands.end(), first, rest ? arguments.end() : first + 1);
      if (rest) break;
      continue;
    }
    const size_t equals = is_long ? argument.find('=') : std::string::npos;
    const std::string name = is_long ? argument.substr(2, equals - 2) : argument.substr(1);
    const auto flag = std::find_if(flags_.begin(), flags_.end(), [&](const Flag& f) {
      return is_long ? f.name == name : f.shorthand == name[0];
    });
    if (flag == flags_.end()) return UsageError(absl::StrCat("unknown flag ", argument));
    std::string value;
    if (equals != std::string::npos) {
      if (!flag->takes_value) return UsageError(absl::StrCat("--", name, " takes no value"));
      value = argument.substr(equals + 1);
    } else if (flag->takes_value) {
      if (++i == arguments.size()) return UsageError(absl::StrCat(argument, " wants a value"));
      value = arguments[i];
    }
    if (const absl::Status status = flag->set(value); !status.ok()) {
      return UsageError(absl::StrCat("--", flag->name, "=", value, ": ", status.message()));
    }
  }
  return operands;
}

std::string FlagSet::Help() const {
  constexpr size_t kColumn = 34;
  std::string text = absl::StrCat("usage: rasq ", usage_, "\n\n", description_, "\n\n");
  for (const Flag& flag : flags_) {
    // The first word names the value: N, TEXT, HOST:PORT, text|json. Punctuation after it stays.
    absl::string_view help = flag.help;
    const absl::string_view first =
        flag.takes_value
            ? absl::StripSuffix(absl::StripSuffix(help.substr(0, help.find(' ')), ":"), ";")
            : absl::string_view();
    std::string left = flag.shorthand != 0
                           ? absl::StrCat("  -", std::string(1, flag.shorthand), ", ")
                           : std::string("      ");
    absl::StrAppend(&left, "--", flag.name);
    if (!first.empty()) absl::StrAppend(&left, " ", first);
    help.remove_prefix(first.size());
    help.remove_prefix(std::min(help.size(), help.find_first_not_of(":;, ")));
    left.resize(std::max(left.size() + 2, kColumn), ' ');
    absl::StrAppend(&text, left, help, "\n");
  }
  return text;
}

}  // namespace rasq::client
