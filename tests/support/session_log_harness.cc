#include "tests/support/session_log_harness.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "gtest/gtest.h"
#include "kernels/base/status.h"

namespace rasq::testing {

namespace fs = std::filesystem;

std::string FreshLogDirectory() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(info->test_suite_name()) + "_" + info->name();
  std::replace(name.begin(), name.end(), '/', '_');
  const fs::path directory = fs::path(::testing::TempDir()) / name;
  fs::remove_all(directory);
  fs::create_directories(directory);
  return directory.string();
}

LogEntry NumberedEntry(int number) {
  LogEntry entry{.next_offset = number, .held_text = std::to_string(number)};
  entry.input.push_back(std::make_shared<Input>(Input{.ids = {number, number + 1}}));
  return entry;
}

LogEntry LargeEntry(int number, int64_t embeddings) {
  LogEntry entry{.next_offset = number, .held_text = std::to_string(number)};
  entry.input.push_back(std::make_shared<Input>(
      Input{.ids = {-1}, .embeddings = std::vector<float>(embeddings, number)}));
  return entry;
}

int NumberOf(const LogEntry& entry) { return static_cast<int>(entry.next_offset); }

std::vector<int> NumbersOf(const LoggedSession& session) {
  std::vector<int> numbers;
  for (const LogEntry& entry : session.entries) numbers.push_back(NumberOf(entry));
  return numbers;
}

RecoveredLog RecoverLog(const std::string& directory) {
  RecoveredLog found;
  auto log = SessionLog::Open(directory);
  if (!log.ok()) ADD_FAILURE() << log.status();
  RASQ_CHECK(log.ok());
  found.log = *std::move(log);
  auto report = found.log->Recover([&](LoggedSession session) {
    const int64_t key = session.key;
    EXPECT_TRUE(found.sessions.emplace(key, std::move(session)).second) << key;
  });
  if (!report.ok()) ADD_FAILURE() << report.status();
  RASQ_CHECK(report.ok());
  found.report = *std::move(report);
  return found;
}

void WriteNumber(const std::string& path, int64_t number) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  RASQ_CHECK(file >= 0 && pwrite(file, &number, sizeof(number), 0) == sizeof(number));
  close(file);
}

int64_t ReadNumber(const std::string& path) {
  int64_t number = -1;
  const int file = open(path.c_str(), O_RDONLY);
  RASQ_CHECK(file >= 0 && pread(file, &number, sizeof(number), 0) == sizeof(number));
  close(file);
  return number;
}

}  // namespace rasq::testing
