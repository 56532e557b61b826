// rasq-server: settings in, a server until a signal says stop. Exits with 0 after a drained stop or
// a good --check-config, 1 after a fault that it says, 2 if its flags are wrong.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/engine_group.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/status.h"
#include "server/flags.h"
#include "server/server.h"

namespace {

#if defined(__clang__)
constexpr char kCompiler[] = __VERSION__;
#else
constexpr char kCompiler[] = "GCC " __VERSION__;
#endif
constexpr long kHealthCheckNanoseconds = 500'000'000;
constexpr long kSecondSignalNanoseconds = 50'000'000;

// Says what is wrong and returns the exit code for it.
int Complain(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "rasq-server: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

absl::Status CheckConfig(const rasq::ServerOptions& options) {
  RASQ_RETURN_IF_ERROR(Validate(options));
  RASQ_ASSIGN_OR_RETURN(const auto checkpoint,
                        rasq::Checkpoint::Open(options.engine.model, options.engine.load_format));
  return checkpoint->LoadTokenizer().status();
}

double Mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// The model, then a line for each device.
void PrintCapacity(const rasq::EngineGroup& group) {
  const rasq::ModelInfo& model = group.model();
  std::printf("model %s (%s, %lld parameters, fingerprint %s)\n", model.name.c_str(),
              model.architecture.c_str(), static_cast<long long>(model.parameters),
              model.fingerprint.c_str());
  std::printf("a session is %lld bytes: window %d tokens, buffer %d tokens\n",
              static_cast<long long>(model.session_state_bytes), model.window_tokens,
              model.capacity_tokens);
  for (int32_t i = 0; i < group.size(); ++i) {
    const rasq::ModelInfo& own = group.engine(i).model();
    const rasq::EngineStats stats = group.engine(i).Stats();
    std::printf(
        "device %s, dtype %s, entries in %s, weights %.1f MiB, workspace %.1f MiB, "
        "capacity %d sessions of %lld bytes and %d working copies, states %.1f MiB, "
        "total %.1f MiB\n",
        own.device.c_str(), own.dtype.c_str(), own.entry_type.c_str(),
        Mebibytes(stats.weight_bytes), Mebibytes(stats.workspace_bytes), own.session_slots,
        static_cast<long long>(own.session_state_bytes), stats.work_slots,
        Mebibytes(stats.session_bytes),
        Mebibytes(stats.weight_bytes + stats.workspace_bytes + stats.session_bytes));
  }
  for (const rasq::OwnStates& own : model.own_states) {
    std::printf("strategy %s: %d sessions of %lld bytes on each device, ", Name(own.strategy),
                own.sessions, static_cast<long long>(own.state_bytes));
    own.max_context_tokens > 0 ? std::printf("at most %d tokens each\n", own.max_context_tokens)
                               : std::printf("of any length\n");
  }
  const rasq::EngineStats all = group.Stats();
  std::printf("at most %d sessions open, %d are\n", all.max_open_sessions, all.sessions_open);
}

// gRPC's own complaints: a port scanner must not fill the disk with failed handshakes, nor break
// the format of the log.
const rasq::Log* grpc_log = nullptr;

void LogGrpc(gpr_log_func_args* args) {
  grpc_log->Complaint(absl::StrCat("grpc: ", args->message));
}

// Waits until the server is to stop: a signal, or an operator's call. False if the device failed.
bool WaitForEnd(rasq::Server& server, const sigset_t& signals) {
  const timespec timeout{.tv_sec = 0, .tv_nsec = kHealthCheckNanoseconds};
  while (server.Health().ok()) {
    const int signal = sigtimedwait(&signals, nullptr, &timeout);
    if (signal == SIGHUP) {
      (void)server.Reload();  // the log has its status
    } else if (signal > 0 || server.draining()) {
      return true;
    }
  }
  return false;
}

// Stops, and at once if another signal comes while calls still have their grace.
void Stop(rasq::Server& server, const sigset_t& signals) {
  std::atomic<bool> stopped = false;
  std::thread impatience([&] {
    const timespec timeout{.tv_sec = 0, .tv_nsec = kSecondSignalNanoseconds};
    while (!stopped) {
      const int signal = sigtimedwait(&signals, nullptr, &timeout);
      if (signal == SIGTERM || signal == SIGINT) server.EndGrace();
    }
  });
  server.Stop();
  stopped = true;
  impatience.join();
}

int Serve(const rasq::ServerOptions& options, const sigset_t& signals) {
  // Lives as long as the process, as gRPC's threads do.
  grpc_log = new rasq::Log(options.log_format, options.log_stream, options.log_failures_per_second);
  gpr_set_log_function(&LogGrpc);
  absl::StatusOr<std::unique_ptr<rasq::Server>> server = rasq::Server::Start(options);
  if (!server.ok()) {
    return Complain(server.status(), 1);
  }
  PrintCapacity((*server)->engine());
  if (!(*server)->metrics_address().empty()) {
    std::printf("metrics on %s\n", (*server)->metrics_address().c_str());
  }
  std::printf("listening on %s\n", (*server)->address().c_str());
  std::fflush(stdout);

  const bool asked = WaitForEnd(**server, signals);
  (*server)->log().Message(asked ? "stopping" : (*server)->Health().message());
  Stop(**server, signals);
  return asked ? 0 : 1;
}

std::string ExecutablePath() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

}  // namespace

int main(int argc, char** argv) {
  // Blocked before any thread is made, so that only WaitForEnd takes them. A reader of stdout or a
  // scraper that goes away must not end the server.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  // Protobuf's own complaints about clients' messages; those are answered, and logged, as errors.
  google::protobuf::SetLogHandler(nullptr);

  absl::StatusOr<rasq::Flags> flags =
      rasq::ParseFlags(std::vector<std::string>(argv + 1, argv + argc), rasq::RasqEnvironment());
  if (!flags.ok()) {
    return Complain(flags.status(), 2);
  }
  if (flags->help) {
    std::fputs(rasq::HelpText().c_str(), stdout);
    return 0;
  }
  if (flags->version) {
    std::printf("rasq-server %s (%s, gRPC %s)\n", RASQ_VERSION, kCompiler, grpc::Version().c_str());
    return 0;
  }
  for (const std::string& warning : flags->warnings) {
    std::fprintf(stderr, "rasq-server: %s\n", warning.c_str());
  }
  std::string& model = flags->server.engine.model;
  if (model == rasq::EngineOptions().model) model = rasq::FindDefaultModel(ExecutablePath());
  if (flags->check_config) {
    const absl::Status status = CheckConfig(flags->server);
    if (!status.ok()) return Complain(status, 1);
    std::puts("the configuration is good");
    return 0;
  }
  return Serve(flags->server, signals);
}
