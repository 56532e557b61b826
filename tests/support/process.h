// A child process with pipes on its standard streams.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace rasq {

class Process {
 public:
  // Aborts if the program cannot be started. `environment` is added to this process's own.
  explicit Process(std::vector<std::string> arguments,
                   const std::vector<std::string>& environment = {});
  // Kills it, if Wait was not called.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Write(const std::string& text);
  void CloseInput();
  void Signal(int number);
  pid_t pid() const { return pid_; }

  // Reads both streams until one line of either matches; returns the first group, "" at the end.
  std::string WaitFor(const std::string& pattern);
  // Reads to the end and returns the exit code; minus the signal that ended it.
  int Wait();
  const std::string& out() const { return text_[0]; }
  const std::string& err() const { return text_[1]; }

 private:
  // False when both streams have ended.
  bool ReadSome();

  pid_t pid_ = -1;
  int in_ = -1;
  int streams_[2];
  bool ended_[2] = {false, false};
  std::string text_[2];
};

}  // namespace rasq
