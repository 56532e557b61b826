// The list of all settings: name, help, and where each is kept. flags.h says where values come
// from; here stands what they are.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/flags.h"

namespace rasq {

struct Setting {
  std::string group;
  std::string name;
  std::string value;  // as help shows it; empty: true or false, and the name alone means true
  std::string meaning;
  std::function<absl::Status(absl::string_view, Flags&)> set;  // the error says what is wanted
  std::function<std::string(const Flags&)> show;
};

// In the order of --help.
const std::vector<Setting>& Settings();

}  // namespace rasq
