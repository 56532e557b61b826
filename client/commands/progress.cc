#include "client/commands/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rasq::client {
namespace {

constexpr int kBarWidth = 24;
constexpr absl::Duration kRedraw = absl::Milliseconds(200);
constexpr absl::Duration kLine = absl::Seconds(10);  // where there is no terminal

std::string ShortTime(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 3600) return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  return absl::StrFormat("%d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

}  // namespace

std::string ShortCount(double count) {
  if (count < 1000) return absl::StrFormat("%.0f", count);
  if (count < 1e6) return absl::StrFormat("%.1fk", count / 1e3);
  if (count < 1e9) return absl::StrFormat("%.1fM", count / 1e6);
  return absl::StrFormat("%.1fG", count / 1e9);
}

std::string ProgressText(const Progress& p) {
  std::string text = ShortCount(static_cast<double>(p.done));
  if (p.total > 0) absl::StrAppend(&text, " of ", ShortCount(static_cast<double>(p.total)));
  absl::StrAppend(&text, " ", p.unit);
  if (p.unit != "tokens") {
    absl::StrAppend(&text, ", ", ShortCount(static_cast<double>(p.tokens)), " tokens");
  }
  const double seconds = absl::ToDoubleSeconds(p.busy);
  if (seconds > 0 && p.tokens > 0) {
    absl::StrAppend(&text, ", ", ShortCount(static_cast<double>(p.tokens) / seconds), " tokens/s");
  }
  if (p.total > p.done && p.done > 0 && seconds > 0) {
    const double left =
        seconds * static_cast<double>(p.total - p.done) / static_cast<double>(p.done);
    absl::StrAppend(&text, ", ", ShortTime(absl::Seconds(left)), " left");
  }
  return text;
}

std::string ProgressBar(const Progress& p) {
  if (p.total <= 0) return ProgressText(p);
  const double part =
      std::clamp(static_cast<double>(p.done) / static_cast<double>(p.total), 0.0, 1.0);
  const int full = static_cast<int>(part * kBarWidth);
  return absl::StrCat("[", std::string(full, '#'), std::string(kBarWidth - full, '.'), "] ",
                      absl::StrFormat("%3.0f%%  ", 100 * part), ProgressText(p));
}

ProgressReporter::ProgressReporter(std::function<Progress()> get)
    : get_(std::move(get)), terminal_(isatty(STDERR_FILENO) == 1) {
  thread_ = std::thread([this] {
    std::unique_lock<std::mutex> lock(mu_);
    while (!stopped_.wait_for(lock, absl::ToChronoMilliseconds(terminal_ ? kRedraw : kLine),
                              [this] { return stop_; })) {
      Show(/*last=*/false);
    }
  });
}

ProgressReporter::~ProgressReporter() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
    stopped_.notify_all();
  }
  thread_.join();
  Show(/*last=*/true);
}

void ProgressReporter::Print(const std::function<void()>& print) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (terminal_) std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  print();
  std::fflush(stdout);
}

void ProgressReporter::Show(bool last) {
  const Progress progress = get_();
  if (!terminal_) {
    absl::FPrintF(stderr, "%s\n", ProgressText(progress));
    return;
  }
  absl::FPrintF(stderr, "\r\033[K%s%s", ProgressBar(progress), last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace rasq::client
