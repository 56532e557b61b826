#include "client/eval/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/eval/child_process.h"
#include "client/eval/files.h"

namespace rasq::client {
namespace {

constexpr absl::string_view kListening = "listening on ";

// The last line with something in it.
std::string LastLine(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return std::string(text.status().message());
  const absl::string_view lines = absl::StripTrailingAsciiWhitespace(*text);
  return std::string(lines.substr(lines.find_last_of('\n') + 1));
}

}  // namespace

absl::StatusOr<ServerProcess> ServerProcess::Start(const std::string& program,
                                                   const std::vector<std::string>& flags,
                                                   const std::string& log) {
  std::vector<std::string> arguments = {program, "--listen=127.0.0.1:0", "--metrics-listen="};
  for (const std::string& flag : flags) arguments.push_back(absl::StrCat("--", flag));
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  ServerProcess server;
  server.output_ = ends[0];
  const int error = SpawnChild(
      std::move(arguments),
      [&](posix_spawn_file_actions_t* actions) {
        posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(actions, ends[1], STDOUT_FILENO);
        posix_spawn_file_actions_addopen(actions, STDERR_FILENO, log.c_str(),
                                         O_WRONLY | O_CREAT | O_TRUNC, 0666);
      },
      &server.pid_);
  close(ends[1]);
  if (error != 0) {
    server.pid_ = -1;
    return absl::ErrnoToStatus(error, absl::StrCat("server ", program));
  }
  server.address_ = server.ReadAddress();
  if (!server.address_.empty()) return server;
  return absl::UnavailableError(absl::StrCat("server ", program, ": ", LastLine(log)));
}

std::string ServerProcess::ReadAddress() const {
  std::string text;
  char byte;
  for (;;) {
    const ssize_t count = read(output_, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return "";
    if (byte != '\n') {
      text += byte;
      continue;
    }
    if (absl::StartsWith(text, kListening)) return text.substr(kListening.size());
    text.clear();
  }
}

ServerProcess::ServerProcess(ServerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      address_(std::move(other.address_)) {}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  }
  if (output_ >= 0) close(output_);
}

}  // namespace rasq::client
