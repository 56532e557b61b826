#include "client/eval/settings.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands/flags.h"
#include "client/commands/json.h"

namespace rasq::client {
namespace {

using Parts = std::pair<std::string, std::string>;

Parts SplitAtEquals(const std::string& text) {
  return absl::StrSplit(text, absl::MaxSplits('=', 1));
}

// Numbers, true and false as they are, everything else as text.
std::string AsJson(const std::string& name, const std::string& value) {
  Json json = Json::parse(value, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) json = value;
  return Json{{name, std::move(json)}}.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                                            Json::error_handler_t::replace);
}

absl::Status AddSweep(const std::string& sweep, std::vector<Setting>& settings) {
  const auto [name, values] = SplitAtEquals(sweep);
  const std::vector<std::string> list = absl::StrSplit(values, ',', absl::SkipEmpty());
  if (name.empty() || list.empty()) {
    return UsageError(absl::StrCat("--sweep=", sweep, ": not NAME=VALUE,..."));
  }
  const bool of_session = v1::SessionOptions::descriptor()->FindFieldByName(name) != nullptr;
  for (const std::string& value : list) {
    Setting setting{.label = absl::StrCat(name, "=", value)};
    (of_session ? setting.session_options : setting.server_flag) =
        of_session ? AsJson(name, value) : setting.label;
    settings.push_back(std::move(setting));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::SessionOptions> ParseSessionOptions(const std::string& json) {
  v1::SessionOptions options;
  if (!json.empty()) {
    const auto status = google::protobuf::util::JsonStringToMessage(json, &options);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          json, ": ", absl::string_view(status.message().data(), status.message().size())));
    }
  }
  if (options.strategy() != v1::STRATEGY_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(json, ": strategy is chosen by --strategies"));
  }
  // In this message 0 is a gain of its own; whoever does not speak of it means the model's.
  if (!absl::StrContains(json, "retrieval_budget_gain") &&
      !absl::StrContains(json, "retrievalBudgetGain")) {
    options.set_retrieval_budget_gain(-1);
  }
  return options;
}

absl::StatusOr<std::vector<Setting>> MakeSettings(const std::vector<std::string>& session_options,
                                                  const std::vector<std::string>& sweeps,
                                                  bool skip_defaults) {
  std::vector<Setting> settings;
  if (!skip_defaults) settings.emplace_back();
  for (const std::string& text : session_options) {
    auto [label, json] = SplitAtEquals(text);
    if (label.empty() || json.empty() || absl::StrContains(label, "{")) {
      return UsageError(absl::StrCat("--session-options=", text, ": not LABEL={...}"));
    }
    settings.push_back({.label = std::move(label), .session_options = std::move(json)});
  }
  for (const std::string& sweep : sweeps) {
    if (absl::Status status = AddSweep(sweep, settings); !status.ok()) return status;
  }
  if (settings.empty()) {
    return UsageError("--skip-defaults: nothing else, no --session-options and no --sweep");
  }
  std::set<std::string> labels;
  for (const Setting& setting : settings) {
    if (!std::all_of(setting.label.begin(), setting.label.end(), absl::ascii_isprint)) {
      return UsageError(absl::StrCat("settings ", absl::CHexEscape(setting.label),
                                     ": a label is of printable ASCII characters"));
    }
    if (!labels.insert(setting.label).second) {
      return UsageError(absl::StrCat("settings ", setting.label, " are asked for twice"));
    }
    const absl::Status status = ParseSessionOptions(setting.session_options).status();
    if (!status.ok()) return UsageError(status.message());
  }
  return settings;
}

bool ParseSweep(absl::string_view label, std::string* name, double* value) {
  const size_t equals = label.find('=');
  if (equals == absl::string_view::npos) return false;
  *name = std::string(label.substr(0, equals));
  return absl::SimpleAtod(label.substr(equals + 1), value);
}

}  // namespace rasq::client
