#include "server/flags.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "server/settings.h"

namespace rasq {
namespace {

constexpr char kEnvironmentPrefix[] = "RASQ_";

const Setting* FindSetting(absl::string_view name) {
  for (const Setting& setting : Settings()) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::string EnvironmentName(const Setting& setting) {
  return kEnvironmentPrefix +
         absl::AsciiStrToUpper(absl::StrReplaceAll(setting.name, {{"-", "_"}}));
}

// `source` says where the value stands, as in "--listen" or "rasq.conf:3: listen".
absl::Status Apply(const Setting& setting, absl::string_view value, absl::string_view source,
                   Flags& flags) {
  const absl::Status status = setting.set(value, flags);
  return status.ok()
             ? status
             : absl::InvalidArgumentError(absl::StrCat(source, "=", value, ": ", status.message()));
}

struct Given {
  const Setting* setting;
  std::string value;
};

absl::StatusOr<std::vector<Given>> SplitArguments(const std::vector<std::string>& arguments) {
  std::vector<Given> given;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view name = arguments[i];
    if (!absl::ConsumePrefix(&name, "--") || name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(arguments[i], ": not a flag; see --help"));
    }
    const size_t equals = name.find('=');
    const Setting* setting = FindSetting(name.substr(0, equals));
    if (setting == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name.substr(0, equals), ": unknown flag; see --help"));
    }
    if (equals != absl::string_view::npos) {
      given.push_back({setting, std::string(name.substr(equals + 1))});
    } else if (setting->value.empty()) {
      given.push_back({setting, "true"});
    } else if (i + 1 < arguments.size()) {
      given.push_back({setting, arguments[++i]});
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, ": needs a value"));
    }
  }
  return given;
}

absl::Status ApplyConfigFile(const std::string& path, Flags& flags) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("config=", path, ": cannot be read"));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const absl::string_view text =
        absl::StripAsciiWhitespace(absl::string_view(line).substr(0, line.find('#')));
    if (text.empty()) continue;
    const size_t equals = text.find('=');
    const absl::string_view name = absl::StripAsciiWhitespace(text.substr(0, equals));
    const std::string source = absl::StrCat(path, ":", number, ": ", name);
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": must be `name = value`"));
    }
    const Setting* setting = FindSetting(name);
    if (setting == nullptr || name == "config") {
      return absl::InvalidArgumentError(absl::StrCat(source, ": unknown name"));
    }
    const absl::string_view value = absl::StripAsciiWhitespace(text.substr(equals + 1));
    RASQ_RETURN_IF_ERROR(Apply(*setting, value, source, flags));
  }
  return absl::OkStatus();
}

absl::Status ApplyEnvironment(const std::map<std::string, std::string>& environment, Flags& flags) {
  std::set<std::string> known;
  for (const Setting& setting : Settings()) {
    const std::string name = EnvironmentName(setting);
    known.insert(name);
    if (const auto found = environment.find(name); found != environment.end()) {
      RASQ_RETURN_IF_ERROR(Apply(setting, found->second, name, flags));
    }
  }
  for (const auto& [name, unused] : environment) {
    if (absl::StartsWith(name, kEnvironmentPrefix) && !known.contains(name)) {
      flags.warnings.push_back(absl::StrCat(name, ": no such setting; ignored"));
    }
  }
  return absl::OkStatus();
}

// Breaks at spaces so that no line is longer than `width`.
std::string Wrap(absl::string_view text, size_t width, absl::string_view indent) {
  std::string wrapped;
  while (!text.empty()) {
    size_t end = text.size() <= width ? text.size() : text.rfind(' ', width);
    if (end == absl::string_view::npos) end = text.size();
    absl::StrAppend(&wrapped, indent, text.substr(0, end), "\n");
    text = absl::StripLeadingAsciiWhitespace(text.substr(end));
  }
  return wrapped;
}

}  // namespace

absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments,
                                 const std::map<std::string, std::string>& environment) {
  RASQ_ASSIGN_OR_RETURN(const std::vector<Given> given, SplitArguments(arguments));
  // The file's name comes from the stronger sources, its content is weaker than they: so they are
  // applied twice.
  Flags flags;
  RASQ_RETURN_IF_ERROR(ApplyEnvironment(environment, flags));
  for (const Given& flag : given) {
    RASQ_RETURN_IF_ERROR(
        Apply(*flag.setting, flag.value, absl::StrCat("--", flag.setting->name), flags));
  }
  if (flags.config.empty()) return flags;

  Flags all;
  RASQ_RETURN_IF_ERROR(ApplyConfigFile(flags.config, all));
  RASQ_RETURN_IF_ERROR(ApplyEnvironment(environment, all));
  for (const Given& flag : given) {
    RASQ_RETURN_IF_ERROR(
        Apply(*flag.setting, flag.value, absl::StrCat("--", flag.setting->name), all));
  }
  return all;
}

std::map<std::string, std::string> RasqEnvironment() {
  std::map<std::string, std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view text = *entry;
    const size_t equals = text.find('=');
    if (absl::StartsWith(text, kEnvironmentPrefix) && equals != absl::string_view::npos) {
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return result;
}

std::string HelpText() {
  std::string help =
      "rasq-server: inference for sessions that never end, over gRPC.\n\n"
      "Each setting is a flag, a variable RASQ_NAME of the environment, or a line `name = value`\n"
      "of the config file; the first of these that has it wins.\n";
  std::string group;
  for (const Setting& setting : Settings()) {
    if (setting.group != group) {
      group = setting.group;
      absl::StrAppend(&help, "\n", group, "\n");
    }
    const std::string usual = setting.show(Flags());
    absl::StrAppend(&help, "  --", setting.name, setting.value.empty() ? "" : " ", setting.value,
                    usual.empty() ? "" : absl::StrCat("  (default ", usual, ")"), "\n",
                    Wrap(setting.meaning, /*width=*/84, "      "));
  }
  return help;
}

std::string FindDefaultModel(const std::string& executable) {
  constexpr char kModel[] = "models/default";
  const std::filesystem::path directory = std::filesystem::path(executable).parent_path();
  for (const std::filesystem::path& candidate :
       {std::filesystem::path(kModel), directory / "../../.." / kModel,
        directory / "../share/rasq" / kModel}) {
    const std::filesystem::path model = candidate.lexically_normal();
    std::error_code error;
    if (std::filesystem::exists(model / "config.json", error)) return model.string();
  }
  return kModel;
}

}  // namespace rasq
