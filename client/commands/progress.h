// How far an append has come: a bar that is redrawn on a terminal, a line now and then elsewhere.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"

namespace rasq::client {

struct Progress {
  int64_t done = 0;
  int64_t total = 0;           // 0: unknown
  std::string unit = "bytes";  // of `done` and `total`
  int64_t tokens = 0;
  absl::Duration busy;  // time that the tokens took
};

// "1.2k", "34.5M": a count in at most six characters.
std::string ShortCount(double count);
// One line, no line break.
std::string ProgressText(const Progress& progress);
// The same with a bar in front, if the total is known.
std::string ProgressBar(const Progress& progress);

// Shows on standard error, from its own thread, what `get` returns.
class ProgressReporter {
 public:
  // `get` is called by the reporter's thread and by the destructor.
  explicit ProgressReporter(std::function<Progress()> get);
  // Shows the last state.
  ~ProgressReporter();
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  // Runs `print`, which writes lines to standard output or error, with the bar out of the way.
  void Print(const std::function<void()>& print);

 private:
  void Show(bool last);  // requires mu_

  const std::function<Progress()> get_;
  const bool terminal_;
  std::mutex mu_;
  std::condition_variable stopped_;
  bool stop_ = false;  // guarded by mu_
  std::thread thread_;
};

}  // namespace rasq::client
