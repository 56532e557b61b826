// Ctrl-C and SIGTERM as an event that a program waits for, not a handler that cuts into it.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>

#include "client/cancellation.h"

namespace rasq::client {

// Make one before any other thread: threads inherit that the two signals are blocked. The first
// signal cancels what is watched; a second one ends the process with exit code 130.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Cancelled by the first signal from now on; borrowed until the next Watch; null: nothing is.
  void Watch(Cancellation* cancellation);
  bool interrupted() const { return interrupted_; }
  // As if no signal had come yet.
  void Reset();
  // Readable once a signal has come.
  int fd() const { return event_fd_; }

 private:
  void Loop();

  int signal_fd_;
  int event_fd_;
  int stop_fd_;
  std::atomic<bool> interrupted_{false};
  std::mutex mu_;
  Cancellation* watched_ = nullptr;  // guarded by mu_
  std::thread thread_;
};

}  // namespace rasq::client
