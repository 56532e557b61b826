// What it costs to move a session's state, beside a plain copy of as many bytes on the same way:
// fork (on the device), park and return (device and host memory), snapshot and restore (disk).
//   state_moves_bench [--device=cpu] [--model=models/default] [--dummy] [--directory=/tmp]
//                     [--capacity=0]
// A capacity makes a small model's states as large as a large one's; 0: the model's own.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "kernels/base/status.h"
#include "tests/bench/bench.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

// The shortest of several runs, in milliseconds: what else the machine does only adds to it.
double LeastMs(const std::function<void()>& run) {
  constexpr int kRuns = 30;
  run();
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRuns; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    least = std::min(least, 1e3 * SecondsSince(start));
  }
  return least;
}

void Print(const char* what, double ms, const char* beside, double copy_ms) {
  std::printf("%-28s %10.3f ms   %-34s %10.3f ms   %6.2f\n", what, ms, beside, copy_ms,
              ms / copy_ms);
}

void WriteFile(const std::string& path, const std::vector<std::byte>& bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  RASQ_CHECK(file >= 0);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written = write(file, bytes.data() + done, bytes.size() - done);
    RASQ_CHECK(written > 0);
    done += static_cast<size_t>(written);
  }
  RASQ_CHECK(fsync(file) == 0);
  close(file);
}

void ReadFile(const std::string& path, std::vector<std::byte>& bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  RASQ_CHECK(file >= 0);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = read(file, bytes.data() + done, bytes.size() - done);
    RASQ_CHECK(got > 0);
    done += static_cast<size_t>(got);
  }
  close(file);
}

int Main(int argc, char** argv) {
  EngineOptions options;
  options.model = testing::SourcePath("models/default");
  options.ops.device = "cpu";
  std::string directory = "/tmp";
  bool dummy = false;
  ParseFlags(argc, argv,
             {{"--device", &options.ops.device},
              {"--model", &options.model},
              {"--directory", &directory},
              {"--capacity", &options.capacity_tokens},
              {"--dummy", &dummy}});
  if (dummy) options.load_format = LoadFormat::kDummy;
  directory += "/rasq-state-moves";
  options.max_full_sessions = 0;
  options.max_generations = 1;
  options.max_sessions = 4;
  options.snapshot_dir = directory;

  const auto plain = Must(EngineGroup::Create(options, nullptr));
  const int64_t bytes = plain->model().session_state_bytes;
  std::printf("state of %lld bytes on %s, files in %s\n", static_cast<long long>(bytes),
              plain->model().device.c_str(), directory.c_str());
  const auto ops = Must(OpenOps(options.ops));
  const auto from = Must(ops->Allocate(bytes)), to = Must(ops->Allocate(bytes));
  const auto host = Must(ops->AllocateHost(bytes));
  int32_t word = 0;
  const auto wait = [&] { Must(ops->CopyToHost(&word, to->data(), sizeof(word))); };
  const double on_device = LeastMs([&] {
    Must(ops->CopyOnDevice(to->data(), from->data(), bytes));
    wait();
  });
  const double both_ways = LeastMs([&] {
    Must(ops->CopyToHost(host->data(), from->data(), bytes));
    Must(ops->CopyToDevice(to->data(), host->data(), bytes));
    wait();
  });

  const std::string text = testing::Prose(1, 12000), piece = testing::Prose(2, 400);
  testing::CreateSession(*plain, "a");
  Must(testing::Append(*plain, "a", text));
  const auto forget = [&](const std::string& id) { Must(testing::DeleteSession(*plain, id)); };
  const double fork = LeastMs([&] {
    Must(testing::Fork(*plain, {.session = "a", .new_id = "b"}));
    forget("b");
  });
  // A GPU makes the copy while the call returns; what follows waits for it.
  Print("fork and delete", fork, "copy on the device", on_device);

  // Two sessions that take turns on one slot, and on two.
  const auto turns = [&](int32_t slots) {
    EngineOptions few = options;
    few.max_sessions = slots;
    few.host_state_bytes = 4 * bytes;
    const auto group = Must(EngineGroup::Create(few, nullptr));
    for (const char* id : {"a", "b"}) {
      testing::CreateSession(*group, id);
      Must(testing::Append(*group, id, text));
    }
    return LeastMs([&] {
      for (const char* id : {"a", "b"}) Must(testing::Append(*group, id, piece));
    });
  };
  Print("park and return", (turns(1) - turns(2)) / 2, "copy to the host and back", both_ways);

  std::vector<std::byte> file(bytes);
  const std::string path = directory + "/plain";
  const double write_ms = LeastMs([&] { WriteFile(path, file); });
  const double read_ms = LeastMs([&] { ReadFile(path, file); });
  const double snapshot =
      LeastMs([&] { Must(testing::Snapshot(*plain, {.session = "a", .snapshot_id = "s"})); });
  Print("snapshot", snapshot, "write and sync of a file", write_ms);
  const double restore = LeastMs([&] {
    Must(testing::Restore(*plain, {.snapshot = "s", .session_id = "b"}));
    forget("b");
  });
  Print("restore and delete", restore, "read of a file (cached)", read_ms);
  std::filesystem::remove_all(directory);
  return 0;
}

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) { return rasq::Main(argc, argv); }
