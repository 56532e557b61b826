#include "server/settings.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace rasq {
namespace {

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

// A factor; 0 switches off what it is of.
Setting Factor(std::string group, std::string name, std::string value, std::string meaning,
               double low, double high, Member<double> member) {
  return {std::move(group),
          std::move(name),
          std::move(value),
          std::move(meaning),
          [member, low, high](absl::string_view text, Flags& flags) {
            double number = 0;
            if (!absl::SimpleAtod(text, &number) ||
                !(number == 0 || (number >= low && number <= high))) {
              return absl::InvalidArgumentError(
                  absl::StrCat("must be 0, or a number from ", low, " to ", high));
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

constexpr Strategy kStrategies[] = {Strategy::kRasq,    Strategy::kWindow,       Strategy::kFull,
                                    Strategy::kRag,     Strategy::kAttentionRag, Strategy::kRazor,
                                    Strategy::kPyramid, Strategy::kGca};

// Names, between commas.
template <typename Strategies>
std::string NamesOf(const Strategies& strategies) {
  std::string names;
  for (const Strategy strategy : strategies) {
    absl::StrAppend(&names, names.empty() ? "" : ",", Name(strategy));
  }
  return names;
}

Setting StrategyList(std::string group, std::string name, std::string meaning,
                     Member<std::vector<Strategy>> member) {
  return {std::move(group),
          std::move(name),
          "NAME,...",
          std::move(meaning),
          [member](absl::string_view text, Flags& flags) {
            std::vector<Strategy> strategies;
            for (const absl::string_view wanted : absl::StrSplit(text, ',')) {
              const auto* found =
                  std::find_if(std::begin(kStrategies), std::end(kStrategies),
                               [&](Strategy strategy) { return Name(strategy) == wanted; });
              if (found == std::end(kStrategies) ||
                  std::find(strategies.begin(), strategies.end(), *found) != strategies.end()) {
                return absl::InvalidArgumentError(
                    absl::StrCat("must be of ", NamesOf(kStrategies), ", each once at most"));
              }
              strategies.push_back(*found);
            }
            member(flags) = std::move(strategies);
            return absl::OkStatus();
          },
          [member](const Flags& flags) { return NamesOf(Get(member, flags)); }};
}

}  // namespace

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
      Boolean("Addresses", "reflection",
              "Serve grpc.reflection, for grpcurl and its like; no token is asked for.",
              RASQ_MEMBER(server.reflection)),
      Duration("Addresses", "drain-grace", "For calls in flight when the server is told to stop.",
               RASQ_MEMBER(server.drain_grace)),

      Text("Security", "auth-file", "FILE",
           "Tokens, their tenants and scopes, and tenants' quotas, as JSON (the README shows one). "
           "Every call but health and reflection then needs a token. Read again on SIGHUP.",
           RASQ_MEMBER(server.auth_file)),
      Text(
          "Security", "tls-cert", "FILE",
          "The server's certificate and those between it and its root, as PEM; with tls-key: serve "
          "gRPC over TLS. Replaced files hold from the next connection on.",
          RASQ_MEMBER(server.tls.certificate)),
      Text("Security", "tls-key", "FILE", "The certificate's private key, as PEM.",
           RASQ_MEMBER(server.tls.key)),
      Text("Security", "tls-client-ca", "FILE",
           "Clients must present a certificate that one of these, as PEM, has signed.",
           RASQ_MEMBER(server.tls.client_ca)),
      Boolean(
          "Security", "insecure",
          "Allow gRPC without TLS, and the metrics page, beyond loopback: whoever is on the way "
          "reads and changes what passes.",
          RASQ_MEMBER(server.insecure)),

      Number<int32_t>("Limits", "max-message-bytes", "BYTES", "Longest request message.", 1024,
                      kMax32, RASQ_MEMBER(server.max_message_bytes)),
      Number<int64_t>("Limits", "max-text-bytes", "BYTES", "Longest text of one request.", 1,
                      kMax64, RASQ_MEMBER(server.content.max_text_bytes)),
      Number<int32_t>("Limits", "max-request-tokens", "TOKENS",
                      "Most token ids, or rows of embeddings, of one request.", 1, kMax32,
                      RASQ_MEMBER(server.content.max_tokens)),
      Number<int32_t>("Limits", "max-metadata-bytes", "BYTES", "Longest metadata of one call.",
                      1024, 1 << 24, RASQ_MEMBER(server.max_metadata_bytes)),
      Number<int32_t>("Limits", "max-connection-streams", "N", "Calls at once on one connection.",
                      1, kMax32, RASQ_MEMBER(server.max_connection_streams)),
      Number<int32_t>("Limits", "max-calls", "N", "Calls at once on all connections; 0: no limit.",
                      0, kMax32, RASQ_MEMBER(server.max_calls)),
      Duration("Limits", "connection-idle",
               "A connection without a call is closed after this time; 0: never.",
               RASQ_MEMBER(server.connection_idle)),
      Duration("Limits", "connection-age",
               "A connection takes no new calls after this time, so that clients spread anew over "
               "servers behind a balancer; 0: never.",
               RASQ_MEMBER(server.connection_age)),

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
          "Capacity",
          "max-generations", "N",
          "Generations at once on each device; each works on a copy of its session's state.", 1,
          1 << 20, RASQ_MEMBER(server.engine.max_generations)),
      Number<int32_t>("Capacity", "max-full-sessions", "N",
                      "States of each strategy but rasq and window on each device; 0: none of "
                      "these are served.",
                      0, 1 << 20, RASQ_MEMBER(server.engine.max_full_sessions)),
      Number<int32_t>("Capacity", "full-context-tokens", "TOKENS",
                      "Length past which a session of strategy full refuses more, and one of a "
                      "published method without baseline-state-bytes.",
                      1, kMax32, RASQ_MEMBER(server.engine.full_context_tokens)),
      StrategyList("Capacity", "strategies",
                   "Strategies that sessions may have; razor finds its heads when the server "
                   "starts.",
                   RASQ_MEMBER(server.engine.strategies)),
      Number<int64_t>("Capacity", "baseline-state-bytes", "BYTES",
                      "States of the published methods (razor, pyramid, gca) are of constant size, "
                      "the largest of so many bytes; 0: as published, they grow with the stream.",
                      0, int64_t{1} << 50, RASQ_MEMBER(server.engine.baselines.state_bytes)),
      Number<int32_t>("Capacity", "pyramid-budget-tokens", "TOKENS",
                      "PyramidKV's mean of the layers' budgets, the window's tokens among them, as "
                      "published.",
                      1, 1 << 20, RASQ_MEMBER(server.engine.baselines.pyramid_budget_tokens)),
      Number<int32_t>("Capacity", "gca-read-chunks", "N",
                      "Chunks of 64 tokens that a segment reads with grouped cross attention.", 1,
                      64, RASQ_MEMBER(server.engine.baselines.gca_read_chunks)),
      Number<int32_t>("Capacity", "razor-local-tokens", "TOKENS",
                      "RazorAttention's S0: what heads that do not retrieve keep at least, as "
                      "published.",
                      0, 1 << 20, RASQ_MEMBER(server.engine.baselines.razor_local_tokens)),
      Number<int32_t>("Capacity", "max-history-sessions", "N",
                      "Sessions of strategy rag on each device, and as many of attention_rag, "
                      "whose text is kept in host memory and whose generations take places of "
                      "strategy full; 0: none are served.",
                      0, 1 << 20, RASQ_MEMBER(server.engine.max_history_sessions)),
      Number<int64_t>("Capacity", "max-history-tokens", "TOKENS",
                      "That a session of strategy rag or attention_rag may keep, of 4 bytes and "
                      "a share of the index each.",
                      1, kMostHistoryTokens, RASQ_MEMBER(server.engine.max_history_tokens)),
      Number<int32_t>("Capacity", "buffer-capacity-tokens", "TOKENS",
                      "Entries of each session's rotating buffer; 0: the model's.", 0, kMax32,
                      RASQ_MEMBER(server.engine.capacity_tokens)),
      Choice<EntryType>("Capacity", "entry-type",
                        {{"auto", EntryType::kElement}, {"int8", EntryType::kInt8}},
                        "How the buffer's entries are stored: auto, in the dtype; int8, in about "
                        "half the bytes of bfloat16, each with a scale.",
                        RASQ_MEMBER(server.engine.entry_type)),
      Number<int32_t>("Capacity", "max-batch-tokens", "TOKENS",
                      "Rows of one step: more is faster appending, less is steadier generation; 0: "
                      "512 on the processor, 4096 on a GPU.",
                      0, 1 << 20, RASQ_MEMBER(server.engine.max_batch_tokens)),
      Number<int32_t>("Capacity", "max-batch-streams", "N",
                      "Sessions and generations that move in one step, more than "
                      "max-generations; the others wait for the next. The workspace grows with it.",
                      1, 1 << 20, RASQ_MEMBER(server.engine.max_batch_streams)),
      Factor(
          "Capacity", "mixed-step-slowdown", "X",
          "How many times as long appends may make a step of generations; 0: no bound. A quarter "
          "of the time is theirs in any case.",
          1, 1000, RASQ_MEMBER(server.engine.mixed_step_slowdown)),
      Number<int64_t>("Capacity", "max-backlog-tokens", "TOKENS",
                      "Accepted and not yet absorbed, of one session.", 1, kMax64,
                      RASQ_MEMBER(server.engine.max_backlog_tokens)),
      Number<int64_t>("Capacity", "max-total-backlog-tokens", "TOKENS",
                      "Accepted and not yet absorbed, of all sessions of a device.", 1, kMax64,
                      RASQ_MEMBER(server.engine.max_total_backlog_tokens)),
      Number<int32_t>("Capacity", "max-queued-generations", "N",
                      "Generations of a device that wait for a place; more are refused.", 0,
                      1 << 20, RASQ_MEMBER(server.engine.max_queued_generations)),
      Number<int32_t>("Capacity", "max-open-sessions", "N",
                      "Sessions open at once on each device, those included whose states are in "
                      "host memory or on disk; 0: as many as there are places for their states, "
                      "of which a disk has 65536.",
                      0, kMax32, RASQ_MEMBER(server.engine.max_open_sessions)),

      Number<int64_t>("State", "host-state-bytes", "BYTES",
                      "Host memory for the states of idle sessions, of each device; 0: none.", 0,
                      int64_t{1} << 50, RASQ_MEMBER(server.engine.host_state_bytes)),
      Text("State", "state-dir", "DIRECTORY",
           "Where idle sessions' states go, and all when the server stops; empty: nowhere.",
           RASQ_MEMBER(server.engine.state_dir)),
      Boolean("State", "durable",
              "What was absorbed survives a crash: acks wait for the disk. Needs state-dir.",
              RASQ_MEMBER(server.engine.durable)),
      Text("State", "snapshot-dir", "DIRECTORY",
           "Where snapshots go; servers may share it. Empty: `snapshots` in state-dir.",
           RASQ_MEMBER(server.engine.snapshot_dir)),

      Duration("Sessions", "default-ttl",
               "Idle time after which a session that asks for no other is deleted; 0: never.",
               RASQ_MEMBER(server.engine.default_ttl)),
      Number<int32_t>("Sessions", "default-max-new-tokens", "TOKENS",
                      "Length of a generation that asks for no other.", 1, kMax32,
                      RASQ_MEMBER(server.engine.default_max_new_tokens)),
      Number<int32_t>("Sessions", "max-new-tokens", "TOKENS",
                      "Longest generation that a call may ask for.", 1, kMax32,
                      RASQ_MEMBER(server.engine.max_new_tokens)),

      Choice<LogFormat>("Operation", "log-format",
                        {{"text", LogFormat::kText}, {"json", LogFormat::kJson}},
                        "Of the log on stderr, one line a call.", RASQ_MEMBER(server.log_format)),
      Number<int32_t>("Operation", "log-failures-per-second", "N",
                      "Lines of failed calls in a second; more are only counted. 0: no limit.", 0,
                      kMax32, RASQ_MEMBER(server.log_failures_per_second)),
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

}  // namespace rasq
