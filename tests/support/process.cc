#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <regex>

#include "gtest/gtest.h"

extern char** environ;

namespace rasq {

Process::Process(std::vector<std::string> arguments, const std::vector<std::string>& environment) {
  int in[2], out[2], err[2];
  for (int* ends : {in, out, err}) {
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& variable : environment) {
    variables.push_back(const_cast<char*>(variable.c_str()));  // is not written to
  }
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  variables.push_back(nullptr);
  if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), variables.data()) != 0) {
    std::abort();
  }
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  close(err[1]);
  in_ = in[1];
  streams_[0] = out[0];
  streams_[1] = err[0];
}

Process::~Process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CloseInput();
  for (const int fd : streams_) close(fd);
}

void Process::Write(const std::string& text) {
  ASSERT_EQ(write(in_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

void Process::CloseInput() {
  if (in_ >= 0) close(in_);
  in_ = -1;
}

void Process::Signal(int number) { kill(pid_, number); }

std::string Process::WaitFor(const std::string& pattern) {
  const std::regex regex(pattern);
  for (;;) {
    for (const std::string& text : text_) {
      std::smatch match;
      if (std::regex_search(text, match, regex)) return match[match.size() > 1 ? 1 : 0];
    }
    if (!ReadSome()) return "";
  }
}

int Process::Wait() {
  while (ReadSome()) continue;
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool Process::ReadSome() {
  pollfd fds[2] = {{ended_[0] ? -1 : streams_[0], POLLIN, 0},
                   {ended_[1] ? -1 : streams_[1], POLLIN, 0}};
  if (ended_[0] && ended_[1]) return false;
  poll(fds, 2, -1);
  for (int i = 0; i < 2; ++i) {
    if (fds[i].revents == 0) continue;
    char bytes[4096];
    const ssize_t count = read(streams_[i], bytes, sizeof(bytes));
    if (count <= 0) ended_[i] = true;
    if (count > 0) text_[i].append(bytes, count);
  }
  return true;
}

}  // namespace rasq
