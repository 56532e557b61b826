#include "server/flags.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/settings.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}

std::string ErrorOf(const absl::StatusOr<Flags>& flags) {
  return flags.ok() ? "no error" : std::string(flags.status().message());
}

TEST(FlagsTest, DefaultsAreTheStructs) {
  const absl::StatusOr<Flags> flags = ParseFlags({}, {});
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ(flags->server.listen, "127.0.0.1:50051");
  EXPECT_EQ(flags->server.metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(flags->server.engine.max_sessions, EngineOptions().max_sessions);
  EXPECT_FALSE(flags->server.reflection);
}

TEST(FlagsTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string file = WriteFile("precedence.conf",
                                     "# all three\n"
                                     "max-sessions = 3\n"
                                     "max-generations = 3   # of a session each\n"
                                     "threads=3\n");
  const std::map<std::string, std::string> environment = {
      {"RASQ_CONFIG", file}, {"RASQ_MAX_SESSIONS", "2"}, {"RASQ_MAX_GENERATIONS", "2"}};
  const absl::StatusOr<Flags> flags = ParseFlags({"--max-sessions", "1"}, environment);
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->server.engine.max_sessions, 1);
  EXPECT_EQ(flags->server.engine.max_generations, 2);
  EXPECT_EQ(flags->server.engine.ops.threads, 3);
  EXPECT_EQ(flags->server.engine.max_full_sessions, EngineOptions().max_full_sessions);
}

TEST(FlagsTest, EveryKindOfValue) {
  const absl::StatusOr<Flags> flags = ParseFlags(
      {"--listen=[::1]:0", "--metrics-listen=", "--reflection", "--insecure=false", "--default-ttl",
       "90m", "--log-format", "json", "--device", "cuda:1", "--dtype", "bfloat16",
       "--max-backlog-tokens", "5000000000", "--load-format=dummy",
       "--device-reserve-bytes=6000000000", "--max-batch-streams", "64", "--entry-type=int8"},
      {});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->server.listen, "[::1]:0");
  EXPECT_EQ(flags->server.metrics_listen, "");
  EXPECT_TRUE(flags->server.reflection);
  EXPECT_FALSE(flags->server.insecure);
  EXPECT_EQ(flags->server.engine.default_ttl, absl::Minutes(90));
  EXPECT_EQ(flags->server.log_format, LogFormat::kJson);
  EXPECT_EQ(flags->server.engine.ops.device, "cuda:1");
  EXPECT_EQ(flags->server.engine.ops.dtype, "bfloat16");
  EXPECT_EQ(flags->server.engine.max_backlog_tokens, 5000000000);
  EXPECT_EQ(flags->server.engine.load_format, LoadFormat::kDummy);
  EXPECT_EQ(flags->server.engine.entry_type, EntryType::kInt8);
  EXPECT_EQ(flags->server.engine.device_reserve_bytes, 6000000000);
  EXPECT_EQ(flags->server.engine.max_batch_streams, 64);
}

TEST(FlagsTest, PublishedMethods) {
  const absl::StatusOr<Flags> flags =
      ParseFlags({"--strategies=window,razor,gca", "--baseline-state-bytes", "4134400",
                  "--razor-local-tokens=100", "--pyramid-budget-tokens=128", "--gca-read-chunks=4"},
                 {});
  ASSERT_TRUE(flags.ok()) << flags.status();
  const EngineOptions& engine = flags->server.engine;
  EXPECT_THAT(engine.strategies, ElementsAre(Strategy::kWindow, Strategy::kRazor, Strategy::kGca));
  EXPECT_EQ(engine.baselines.state_bytes, 4134400);
  EXPECT_EQ(engine.baselines.razor_local_tokens, 100);
  EXPECT_EQ(engine.baselines.pyramid_budget_tokens, 128);
  EXPECT_EQ(engine.baselines.gca_read_chunks, 4);
  EXPECT_THAT(
      ErrorOf(ParseFlags({"--strategies=rasq,snap"}, {})),
      HasSubstr(
          "must be of rasq,window,full,rag,attention_rag,razor,pyramid,gca, each once at most"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--strategies=rasq,rasq"}, {})), HasSubstr("each once at most"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--strategies="}, {})), HasSubstr("must be of rasq"));
}

TEST(FlagsTest, SecurityLimitsAndState) {
  const absl::StatusOr<Flags> flags = ParseFlags({"--auth-file=a.json",
                                                  "--tls-cert=c.pem",
                                                  "--tls-key=k.pem",
                                                  "--tls-client-ca=ca.pem",
                                                  "--max-text-bytes=1000",
                                                  "--max-request-tokens=10",
                                                  "--max-metadata-bytes=2048",
                                                  "--max-connection-streams=7",
                                                  "--max-calls=0",
                                                  "--connection-idle=5m",
                                                  "--connection-age=1h",
                                                  "--log-failures-per-second=5",
                                                  "--host-state-bytes=8000000000",
                                                  "--state-dir=/state",
                                                  "--durable",
                                                  "--snapshot-dir=/snapshots",
                                                  "--max-open-sessions=9",
                                                  "--max-total-backlog-tokens=11",
                                                  "--max-queued-generations=12",
                                                  "--max-new-tokens=13"},
                                                 {});
  ASSERT_TRUE(flags.ok()) << flags.status();
  const ServerOptions& server = flags->server;
  EXPECT_EQ(server.auth_file, "a.json");
  EXPECT_EQ(server.tls.certificate, "c.pem");
  EXPECT_EQ(server.tls.key, "k.pem");
  EXPECT_EQ(server.tls.client_ca, "ca.pem");
  EXPECT_EQ(server.content.max_text_bytes, 1000);
  EXPECT_EQ(server.content.max_tokens, 10);
  EXPECT_EQ(server.max_metadata_bytes, 2048);
  EXPECT_EQ(server.max_connection_streams, 7);
  EXPECT_EQ(server.max_calls, 0);
  EXPECT_EQ(server.connection_idle, absl::Minutes(5));
  EXPECT_EQ(server.connection_age, absl::Hours(1));
  EXPECT_EQ(server.log_failures_per_second, 5);
  EXPECT_EQ(server.engine.host_state_bytes, 8000000000);
  EXPECT_EQ(server.engine.state_dir, "/state");
  EXPECT_TRUE(server.engine.durable);
  EXPECT_EQ(server.engine.snapshot_dir, "/snapshots");
  EXPECT_EQ(server.engine.max_open_sessions, 9);
  EXPECT_EQ(server.engine.max_total_backlog_tokens, 11);
  EXPECT_EQ(server.engine.max_queued_generations, 12);
  EXPECT_EQ(server.engine.max_new_tokens, 13);
}

TEST(FlagsTest, ErrorsNameTheSource) {
  EXPECT_THAT(ErrorOf(ParseFlags({"--no-such"}, {})), HasSubstr("--no-such: unknown flag"));
  EXPECT_THAT(ErrorOf(ParseFlags({"listen"}, {})), HasSubstr("listen: not a flag"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--listen"}, {})), HasSubstr("--listen: needs a value"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--max-sessions=-2"}, {})),
              HasSubstr("--max-sessions=-2: must be a whole number from -1"));
  EXPECT_THAT(ErrorOf(ParseFlags({}, {{"RASQ_LOAD_FORMAT", "gguf"}})),
              HasSubstr("RASQ_LOAD_FORMAT=gguf: must be one of checkpoint|dummy"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--reflection=perhaps"}, {})), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--dtype=int3"}, {})),
              HasSubstr("must be one of auto|float32|bfloat16"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--default-ttl=-1s"}, {})), HasSubstr("must be a duration"));
  EXPECT_THAT(ErrorOf(ParseFlags({}, {{"RASQ_THREADS", "many"}})), HasSubstr("RASQ_THREADS=many"));
}

// What is in force is what was given, or else it is refused by name: no number is cut down.
TEST(FlagsTest, NumbersArriveWholeOrNotAtAll) {
  int64_t numbers = 0, refused = 0;
  for (const Setting& setting : Settings()) {
    if (setting.value != "N" && setting.value != "TOKENS" && setting.value != "BYTES" &&
        setting.value != "X") {
      continue;
    }
    ++numbers;
    for (const char* value : {"2147483647", "2147483648", "4294967297", "-4294967295",
                              "9223372036854775807", "9223372036854775808", "18446744073709551617",
                              "nan", "inf", "1e999", "-1e999", "", "1x"}) {
      const std::string argument = absl::StrCat("--", setting.name, "=", value);
      const absl::StatusOr<Flags> flags = ParseFlags({argument}, {});
      if (flags.ok()) {
        EXPECT_EQ(setting.show(*flags), value) << argument;
        continue;
      }
      ++refused;
      EXPECT_THAT(ErrorOf(flags), HasSubstr(absl::StrCat(argument, ": must be ")));
    }
  }
  EXPECT_GT(numbers, 20);
  EXPECT_GE(refused, numbers * 8);  // the last eight values fit no field
}

TEST(FlagsTest, MixedStepSlowdownIsANumber) {
  const absl::StatusOr<Flags> flags = ParseFlags({"--mixed-step-slowdown=2.5"}, {});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->server.engine.mixed_step_slowdown, 2.5);
  EXPECT_EQ(ParseFlags({"--mixed-step-slowdown=0"}, {})->server.engine.mixed_step_slowdown, 0);
  for (const char* value : {"1001", "0.99", "-1"}) {
    EXPECT_EQ(ErrorOf(ParseFlags({}, {{"RASQ_MIXED_STEP_SLOWDOWN", value}})),
              absl::StrCat("RASQ_MIXED_STEP_SLOWDOWN=", value,
                           ": must be 0, or a number from 1 to 1000"));
  }
}

TEST(FlagsTest, FileErrorsNameTheLine) {
  const std::string unknown = WriteFile("unknown.conf", "\n\nmax-session = 3\n");
  EXPECT_THAT(ErrorOf(ParseFlags({"--config", unknown}, {})),
              HasSubstr("unknown.conf:3: max-session: unknown name"));
  const std::string bad = WriteFile("bad.conf", "threads = -1\n");
  EXPECT_THAT(ErrorOf(ParseFlags({"--config", bad}, {})), HasSubstr("bad.conf:1: threads=-1"));
  const std::string bare = WriteFile("bare.conf", "reflection\n");
  EXPECT_THAT(ErrorOf(ParseFlags({"--config", bare}, {})), HasSubstr("must be `name = value`"));
  const std::string nested = WriteFile("nested.conf", "config = other.conf\n");
  EXPECT_THAT(ErrorOf(ParseFlags({"--config", nested}, {})), HasSubstr("unknown name"));
  EXPECT_THAT(ErrorOf(ParseFlags({"--config", "/no/such/file"}, {})), HasSubstr("cannot be read"));
}

TEST(FlagsTest, UnknownVariablesOnlyWarn) {
  const absl::StatusOr<Flags> flags =
      ParseFlags({}, {{"RASQ_SERVICE_HOST", "10.0.0.1"}, {"RASQ_THREADS", "2"}});
  ASSERT_TRUE(flags.ok());
  EXPECT_THAT(flags->warnings, ElementsAre(HasSubstr("RASQ_SERVICE_HOST")));
}

TEST(FlagsTest, HelpListsEverySettingWithItsDefault) {
  const std::string help = HelpText();
  for (const char* name : {"--listen HOST:PORT  (default 127.0.0.1:50051)",
                           "--metrics-listen",
                           "--insecure",
                           "--reflection",
                           "--max-message-bytes BYTES  (default 33554432)",
                           "--model",
                           "--load-format checkpoint|dummy  (default checkpoint)",
                           "--device auto|cpu|cuda[:N][,cuda:N...]|cuda:all  (default auto)",
                           "--dtype auto|float32|bfloat16",
                           "--threads",
                           "--max-sessions N  (default -1)",
                           "--device-reserve-bytes BYTES  (default 536870912)",
                           "--max-batch-streams N  (default 256)",
                           "--max-generations",
                           "--max-full-sessions",
                           "--full-context-tokens",
                           "--strategies NAME,...  (default rasq,window,full,rag)",
                           "--baseline-state-bytes BYTES  (default 0)",
                           "--max-history-sessions N  (default 16)",
                           "--max-history-tokens TOKENS  (default 4194304)",
                           "--buffer-capacity-tokens",
                           "--entry-type auto|int8  (default auto)",
                           "--max-batch-tokens",
                           "--mixed-step-slowdown X  (default 1.7)",
                           "--max-backlog-tokens",
                           "--default-ttl",
                           "--default-max-new-tokens",
                           "--log-format text|json  (default text)",
                           "--config",
                           "--check-config",
                           "--auth-file FILE",
                           "--tls-cert FILE",
                           "--max-text-bytes BYTES  (default 16777216)",
                           "--max-calls N  (default 16384)",
                           "--connection-idle DURATION  (default 1h)",
                           "--state-dir DIRECTORY",
                           "--durable",
                           "--version",
                           "--help",
                           "--drain-grace DURATION  (default 10s)"}) {
    EXPECT_THAT(help, HasSubstr(name));
  }
}

TEST(FlagsTest, FindsTheModelOfAnInstalledProgram) {
  const std::filesystem::path prefix = ::testing::TempDir() + "prefix";
  std::filesystem::create_directories(prefix / "share/rasq/models/default");
  std::ofstream(prefix / "share/rasq/models/default/config.json") << "{}";
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(::testing::TempDir());
  EXPECT_EQ(FindDefaultModel(prefix / "bin/rasq-server"),
            (prefix / "share/rasq/models/default").string());
  EXPECT_EQ(FindDefaultModel("/nowhere/rasq-server"), "models/default");
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace rasq
