#include "client/commands/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>

namespace rasq::client {

Interrupt::Interrupt() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { Loop(); });
}

Interrupt::~Interrupt() {
  eventfd_write(stop_fd_, 1);
  thread_.join();
  close(signal_fd_);
  close(event_fd_);
  close(stop_fd_);
}

void Interrupt::Watch(Cancellation* cancellation) {
  const std::lock_guard<std::mutex> lock(mu_);
  watched_ = cancellation;
  if (watched_ != nullptr && interrupted_) watched_->Cancel();
}

void Interrupt::Reset() {
  interrupted_ = false;
  eventfd_t count;
  eventfd_read(event_fd_, &count);
}

void Interrupt::Loop() {
  for (;;) {
    pollfd fds[] = {{.fd = signal_fd_, .events = POLLIN, .revents = 0},
                    {.fd = stop_fd_, .events = POLLIN, .revents = 0}};
    if (poll(fds, 2, /*timeout=*/-1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    if (interrupted_.exchange(true)) _exit(130);
    eventfd_write(event_fd_, 1);
    const std::lock_guard<std::mutex> lock(mu_);
    if (watched_ != nullptr) watched_->Cancel();
  }
}

}  // namespace rasq::client
