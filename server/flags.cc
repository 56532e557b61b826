#include "server/flags.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr char kEnvironmentPrefix[] = "RASQ_";

struct Setting {
  std::string group;
  std::string name;
  std::string value;  // as help shows it; empty: true or false, and the name alone means true
  std::string meaning;
  std::function<absl::Status(absl::string_view, Flags&)> set;  // the error says what is wanted
  std::function<std::string(const Flags&)> show;
};

// Reaches a member of a Flags, const or not.
template <typename T>
using Member = std::function<T&(Flags&)>;

template <typename T>
T Get(const Member<T>& member, const Flags& flags) {
  return member(const_cast<Flags&>(flags));
}

Setting Text(std::string group, std::string name, std::string value, std::string meaning,
             Member<std::string> member) {
  return {std::move(group),
          std::move(name),
          std::move(value),
          std::move(meaning),
          [member](absl::string_view text, Flags& flags) {
            member(flags) = std::string(text);
            return absl::OkStatus();
          },
          [member](const Flags& flags) { return Get(member, flags); }};
}

template <typename T>
Setting Number(std::string group, std::string name, std::string value, std::string meaning, T low,
               T high, Member<T> member) {
  return {std::move(group),
          std::move(name),
          std::move(value),
          std::move(meaning),
          [member, low, high](absl::string_view text, Flags& flags) {
            T number = 0;
            if (!absl::SimpleAtoi(text, &number) || number < low || number > high) {
              return absl::InvalidArgumentError(
                  absl::StrCat("must be a whole number from ", low, " to ", high));
            }
            member(flags) = number;
            return absl::OkStatus();
          },
          [member](const Flags& flags) { return absl::StrCat(Get(member, flags)); }};
}

Setting Boolean(std::string group, std::string name, std::string meaning, Member<bool> member) {
  return {std::move(group),
          std::move(name),
          /*value=*/"",
          std::move(meaning),
          [member](absl::string_view text, Flags& flags) {
            return absl::SimpleAtob(text, &member(flags))
                       ? absl::OkStatus()
                       : absl::InvalidArgumentError("must be true or false");
          },
          [member](const Flags& flags) { return Get(member, flags) ? "true" : "false"; }};
}

Setting Duration(std::string group, std::string name, std::string meaning,
                 Member<absl::Duration> member) {
  return {std::move(group),
          std::move(name),
          "DURATION",
          std::move(meaning),
          [member](absl::string_view text, Flags& flags) {
            absl::Duration duration;
            if (!absl::ParseDuration(text, &duration) || duration < absl::ZeroDuration() ||
                duration == absl::InfiniteDuration()) {
              return absl::InvalidArgumentError("must be a duration such as 90s, 30m or 24h");
            }
            member(flags) = duration;
            return absl::OkStatus();
          },
          [member](const Flags& flags) { return absl::FormatDuration(Get(member, flags)); }};
}

template <typename T>
Setting Choice(std::string group, std::string name, std::vector<std::pair<std::string, T>> choices,
               std::string meaning, Member<T> member) {
  std::string names;
  for (const auto& [text, unused] : choices)
    absl::StrAppend(&names, names.empty() ? "" : "|", text);
  return {std::move(group),
          std::move(name),
          names,
          std::move(meaning),
          [member, choices, names](absl::string_view text, Flags& flags) {
            for (const auto& [choice, value] : choices) {
              if (choice != text) continue;
              member(flags) = value;
              return absl::OkStatus();
            }
            return absl::InvalidArgumentError(absl::StrCat("must be one of ", names));
          },
          [member, choices](const Flags& flags) {
            for (const auto& [choice, value] : choices) {
              if (value == Get(member, flags)) return choice;
            }
            return std::string();
          }};
}

#define RASQ_MEMBER(path) \
  [](Flags & flags) -> auto& { return flags.path; }

const std::vector<Setting>& Settings() {
  constexpr int32_t kMax32 = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();
  static const auto* const settings = new std::vector<Setting>{
      Text("Addresses", "listen", "HOST:PORT",
           "Serve gRPC here; port 0 picks one, which is then printed.", RASQ_MEMBER(server.listen)),
      Text("Addresses", "metrics-listen", "HOST:PORT",
           "Serve /metrics over HTTP here; empty: nowhere.", RASQ_MEMBER(server.metrics_listen)),
      Boolean("Addresses", "insecure",
              "Allow addresses beyond loopback. There is no TLS and no authentication yet: whoever "
              "reaches the port reads and writes every session.",
              RASQ_MEMBER(server.insecure)),
      Boolean("Addresses", "reflection", "Serve grpc.reflection, for grpcurl and its like.",
              RASQ_MEMBER(server.reflection)),
      Number<int32_t>("Addresses", "max-message-bytes", "BYTES", "Longest request message.", 1024,
                      kMax32, RASQ_MEMBER(server.max_message_bytes)),
      Duration("Addresses", "drain-grace", "For calls in flight when the server is told to stop.",
               RASQ_MEMBER(server.drain_grace)),

      Text("Model and device", "model", "DIRECTORY",
           "Checkpoint in Hugging Face's layout. The default is also looked for beside the "
           "program's build tree and in PREFIX/share/rasq.",
           RASQ_MEMBER(server.engine.model)),
      Choice<LoadFormat>("Model and device", "load-format",
                         {{"checkpoint", LoadFormat::kCheckpoint}, {"dummy", LoadFormat::kDummy}},
                         "dummy: only the model's configs are read and its weights are random, to "
                         "measure speed and "
                         "memory without a checkpoint.",
                         RASQ_MEMBER(server.engine.load_format)),
      Text(
          "Model and device", "device", "auto|cpu|cuda[:N][,cuda:N...]|cuda:all",
          "Where it runs; auto: a GPU where one is, else the processor. On several GPUs each holds "
          "the weights and sessions of its own.",
          RASQ_MEMBER(server.engine.ops.device)),
      Choice<std::string>("Model and device", "dtype",
                          {{"auto", "auto"}, {"float32", "float32"}, {"bfloat16", "bfloat16"}},
                          "Type of activations and states; auto: bfloat16 where it is fast.",
                          RASQ_MEMBER(server.engine.ops.dtype)),
      Boolean("Model and device", "batch-invariant",
              "Compute every step by the same algorithms, whatever its size: answers are equal to "
              "the last bit under any load. The processor's always are; a GPU decodes slower.",
              RASQ_MEMBER(server.engine.ops.batch_invariant)),
      Number<int>("Model and device", "threads", "N",
                  "Processor threads of device cpu; 0: one per processor.", 0, 4096,
                  RASQ_MEMBER(server.engine.ops.threads)),

      Number<int32_t>("Capacity", "max-sessions", "N",
                      "States of strategies rasq and window on each device, allocated at the "
                      "start; 0: as many as fit; -1: 16 on the processor, as many as fit on a GPU.",
                      -1, 1 << 20, RASQ_MEMBER(server.engine.max_sessions)),
      Number<int64_t>("Capacity", "device-reserve-bytes", "BYTES",
                      "Device memory left free when as many sessions as fit are allocated.", 0,
                      int64_t{1} << 50, RASQ_MEMBER(server.engine.device_reserve_bytes)),
      Number<int32_t>(
          "Capacity", "max-generations", "N",
          "Generations at once on each device; each works on a copy of its session's state.", 1,
          1 << 20, RASQ_MEMBER(server.engine.max_generations)),
      Number<int32_t>("Capacity", "max-full-sessions", "N",
                      "States of strategy full on each device; 0: none are served.", 0, 1 << 20,
                      RASQ_MEMBER(server.engine.max_full_sessions)),
      Number<int32_t>("Capacity", "full-context-tokens", "TOKENS",
                      "Length past which a session of strategy full refuses more.", 1, kMax32,
                      RASQ_MEMBER(server.engine.full_context_tokens)),
      Number<int32_t>("Capacity", "buffer-capacity-tokens", "TOKENS",
                      "Entries of each session's rotating buffer; 0: the model's.", 0, kMax32,
                      RASQ_MEMBER(server.engine.capacity_tokens)),
      Number<int32_t>("Capacity", "max-batch-tokens", "TOKENS",
                      "Rows of one step: more is faster appending, less is steadier generation; 0: "
                      "512 on the processor, 4096 on a GPU.",
                      0, 1 << 20, RASQ_MEMBER(server.engine.max_batch_tokens)),
      Number<int32_t>("Capacity", "max-batch-streams", "N",
                      "Sessions and generations that move in one step, more than "
                      "max-generations; the others wait for the next. The workspace grows with it.",
                      1, 1 << 20, RASQ_MEMBER(server.engine.max_batch_streams)),
      Number<int64_t>("Capacity", "max-backlog-tokens", "TOKENS",
                      "Accepted and not yet absorbed, of one session.", 1, kMax64,
                      RASQ_MEMBER(server.engine.max_backlog_tokens)),

      Duration("Sessions", "default-ttl",
               "Idle time after which a session that asks for no other is deleted; 0: never.",
               RASQ_MEMBER(server.engine.default_ttl)),
      Number<int32_t>("Sessions", "default-max-new-tokens", "TOKENS",
                      "Length of a generation that asks for no other.", 1, kMax32,
                      RASQ_MEMBER(server.engine.default_max_new_tokens)),

      Choice<LogFormat>("Operation", "log-format",
                        {{"text", LogFormat::kText}, {"json", LogFormat::kJson}},
                        "Of the log on stderr, one line a call.", RASQ_MEMBER(server.log_format)),
      Text("Operation", "config", "FILE", "Lines of `name = value`, with the names of this list.",
           RASQ_MEMBER(config)),
      Boolean("Operation", "check-config",
              "Check settings and model, say what is wrong, and exit with 0 or 1.",
              RASQ_MEMBER(check_config)),
      Boolean("Operation", "version", "Print the version and exit.", RASQ_MEMBER(version)),
      Boolean("Operation", "help", "Print this and exit.", RASQ_MEMBER(help))};
  return *settings;
}

#undef RASQ_MEMBER

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
