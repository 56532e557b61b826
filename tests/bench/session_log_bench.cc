// What a durable append costs: entries and bytes per second through the session log, each appender
// waiting until its last entry is on disk, beside the rate at which the same disk syncs a plain
// file that grows by the same bytes, measured in the same run.
//   session_log_bench [--directory=DIR] [--seconds=2] [--tokens=64,1024]
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/session_log.h"
#include "engine/session_log_format.h"
#include "kernels/base/status.h"
#include "tests/bench/bench.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

struct BenchOptions {
  std::string directory = "session_log_bench";  // on the disk to measure; removed afterwards
  double seconds = 2;                           // of each measurement
  std::vector<int64_t> tokens = {64, 1024};     // of an entry
};

LogEntry MakeEntry(int64_t tokens) {
  LogEntry entry;
  entry.input.push_back(std::make_shared<Input>(Input{.ids = std::vector<int32_t>(tokens, 12345)}));
  return entry;
}

// Writes of `bytes` bytes, each followed by fdatasync, per second.
double MeasureSyncs(const BenchOptions& options, size_t bytes) {
  const std::string path = options.directory + "/plain";
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  RASQ_CHECK(file >= 0);
  const std::string block(bytes, 'x');
  int64_t count = 0;
  const Clock::time_point start = Clock::now();
  for (; SecondsSince(start) < options.seconds; ++count) {
    RASQ_CHECK(write(file, block.data(), bytes) == static_cast<ssize_t>(bytes));
    RASQ_CHECK(fdatasync(file) == 0);
  }
  const double rate = count / SecondsSince(start);
  close(file);
  return rate;
}

struct LogRates {
  double entries = 0;  // per second
  double writes = 0;
};

LogRates MeasureLog(const BenchOptions& options, int appenders, const LogEntry& entry) {
  std::atomic<bool> stop = false;
  std::vector<std::atomic<int64_t>> counts(appenders);  // outlives the log's callbacks
  auto log = *SessionLog::Open(options.directory + "/log");
  RASQ_CHECK(log->Recover([](const LoggedSession&) {}).ok());
  for (int64_t key = 0; key < appenders; ++key) RASQ_CHECK(log->Create(key, "").ok());
  std::vector<std::thread> threads;
  const int64_t writes_before = log->num_writes();
  const Clock::time_point start = Clock::now();
  for (int64_t key = 0; key < appenders; ++key) {
    threads.emplace_back([&, key] {
      for (int64_t n = 0; !stop; ++n) {
        log->Append(key, entry, [&count = counts[key]](const absl::Status& status) {
          RASQ_CHECK(status.ok());
          ++count;
          count.notify_one();
        });
        counts[key].wait(n);
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = SecondsSince(start);
  LogRates rates{.writes = (log->num_writes() - writes_before) / seconds};
  for (const auto& count : counts) rates.entries += static_cast<double>(count) / seconds;
  log.reset();
  fs::remove_all(options.directory + "/log");
  return rates;
}

void Run(const BenchOptions& options) {
  RASQ_CHECK(fs::create_directories(options.directory));  // not one that holds something
  std::printf("%7s %7s %12s %12s %10s %10s %9s %14s\n", "tokens", "bytes", "fdatasync/s",
              "appenders", "entries/s", "writes/s", "MB/s", "entries/sync");
  for (const int64_t tokens : options.tokens) {
    const LogEntry entry = MakeEntry(tokens);
    const size_t bytes = EncodeLogEntry({}, entry).size();
    for (const int appenders : {1, 64}) {
      const double syncs = MeasureSyncs(options, bytes);
      const LogRates log = MeasureLog(options, appenders, entry);
      std::printf("%7lld %7zu %12.0f %12d %10.0f %10.0f %9.2f %14.2f\n",
                  static_cast<long long>(tokens), bytes, syncs, appenders, log.entries, log.writes,
                  log.entries * static_cast<double>(bytes) / 1e6, log.entries / syncs);
    }
  }
  fs::remove_all(options.directory);
}

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) {
  rasq::BenchOptions options;
  rasq::ParseFlags(argc, argv,
                   {{"--directory", &options.directory},
                    {"--seconds", &options.seconds},
                    {"--tokens", &options.tokens}});
  rasq::Run(options);
}
