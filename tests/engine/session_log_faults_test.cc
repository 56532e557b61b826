// The session log on a disk that loses, changes or refuses bytes.

#include <sys/mount.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <latch>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/session_log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "tests/support/session_log_harness.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LargeEntry;
using testing::NumberedEntry;
using testing::NumbersOf;
using testing::RecoveredLog;
using testing::RecoverLog;
using ::testing::SizeIs;

// More than a block of a file, so that damage to one does not reach the next.
constexpr int64_t kBlockEmbeddings = 32 * 1024;

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteFile(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<fs::path> FilesOf(const fs::path& directory, const std::string& extension) {
  std::vector<fs::path> paths;
  for (const auto& file : fs::directory_iterator(directory)) {
    if (file.path().extension() == extension && file.file_size() > 0) paths.push_back(file.path());
  }
  return paths;
}

class SessionLogFaultsTest : public ::testing::Test {
 protected:
  SessionLogFaultsTest() : directory_(testing::FreshLogDirectory()) {}
  ~SessionLogFaultsTest() override { fs::remove_all(directory_); }

  RecoveredLog Reopen() { return RecoverLog(directory_); }

  // A write of its own.
  static void AppendAlone(SessionLog& log, int64_t key, LogEntry entry) {
    std::latch done(1);
    log.Append(key, std::move(entry), [&](const absl::Status& status) {
      EXPECT_TRUE(status.ok()) << status;
      done.count_down();
    });
    done.wait();
  }

  // Sessions 1 to 3, of entries 1 to 3 each; the second one's second holds `needle`.
  void WriteThreeSessions(const std::string& needle) {
    const auto log = Reopen().log;
    for (const int64_t key : {1, 2, 3}) ASSERT_TRUE(log->Create(key, "record").ok());
    for (const int64_t key : {1, 2, 3}) {
      for (int n = 1; n <= 3; ++n) {
        LogEntry entry = LargeEntry(n, kBlockEmbeddings);
        if (key == 2 && n == 2) entry.held_text = needle;
        AppendAlone(*log, key, std::move(entry));
      }
    }
  }

  // Changes a byte of `needle` wherever it stands in files of this kind.
  void Damage(const std::string& extension, const std::string& needle) {
    int found = 0;
    for (const fs::path& path : FilesOf(directory_, extension)) {
      std::string bytes = ReadFile(path);
      for (size_t at = bytes.find(needle); at != std::string::npos; at = bytes.find(needle, at)) {
        bytes[at] ^= 0x10;
        ++found;
      }
      WriteFile(path, bytes);
    }
    ASSERT_EQ(found, 1) << extension;
  }

  void ExpectSecondSessionCut() {
    const RecoveredLog found = Reopen();
    EXPECT_EQ(found.report.damaged_sessions, 1);
    EXPECT_EQ(found.report.dropped_entries, 1);  // the third; the second is not there at all
    ASSERT_FALSE(found.report.problems.empty());
    EXPECT_THAT(found.report.problems, ::testing::Contains(HasSubstr("session key=2 sequence=")));
    ASSERT_THAT(found.sessions, SizeIs(3));
    EXPECT_THAT(NumbersOf(found.sessions.at(1)), ElementsAre(1, 2, 3));
    EXPECT_THAT(NumbersOf(found.sessions.at(2)), ElementsAre(1));
    EXPECT_THAT(NumbersOf(found.sessions.at(3)), ElementsAre(1, 2, 3));
    EXPECT_TRUE(found.sessions.at(2).damaged);
    EXPECT_FALSE(found.sessions.at(1).damaged);
    EXPECT_FALSE(found.sessions.at(3).damaged);
    EXPECT_EQ(found.sessions.at(2).record, "record");
    AppendAlone(*found.log, 2, NumberedEntry(20));
  }

  // The damage is gone; often enough that the files are merged.
  void ExpectSoundFromHereOn() {
    std::vector<int> second = {1, 20};
    for (int n = 30; n < 36; ++n) {
      const RecoveredLog found = Reopen();
      EXPECT_THAT(found.report.problems, IsEmpty());
      EXPECT_EQ(NumbersOf(found.sessions.at(2)), second);
      AppendAlone(*found.log, 2, NumberedEntry(n));
      EXPECT_TRUE(found.log->Health().ok());
      second.push_back(n);
    }
  }

  const std::string directory_;
};

TEST_F(SessionLogFaultsTest, AChangedByteOfTheYoungestFileCutsOneSession) {
  WriteThreeSessions("needle_of_the_test");
  Damage(".log", "needle_of_the_test");
  ExpectSecondSessionCut();
  ExpectSoundFromHereOn();
}

TEST_F(SessionLogFaultsTest, AChangedByteOfAnOldFileCutsOneSession) {
  WriteThreeSessions("needle_of_the_test");
  Reopen();  // writes what it found to a table file
  Damage(".sst", "needle_of_the_test");
  ExpectSecondSessionCut();
  ExpectSoundFromHereOn();
}

TEST_F(SessionLogFaultsTest, ALostRecordOfASessionLosesItAlone) {
  {
    const auto log = Reopen().log;
    ASSERT_TRUE(log->Create(1, "record").ok());
    AppendAlone(*log, 1, LargeEntry(1, kBlockEmbeddings));
    ASSERT_TRUE(log->Create(2, "needle_of_the_test").ok());
    AppendAlone(*log, 1, LargeEntry(2, kBlockEmbeddings));
    AppendAlone(*log, 2, NumberedEntry(1));
  }
  Reopen();
  Damage(".sst", "needle_of_the_test");
  for (const bool damaged : {true, false}) {
    const RecoveredLog found = Reopen();
    EXPECT_EQ(found.report.problems.empty(), !damaged);
    EXPECT_EQ(found.sessions.count(2), 0u);
    EXPECT_THAT(NumbersOf(found.sessions.at(1)), ElementsAre(1, 2));
  }
}

// No later entry of the session shows that its last is lost; the number of the write does.
TEST_F(SessionLogFaultsTest, ALostLastEntryIsReported) {
  {
    const auto log = Reopen().log;
    for (const int64_t key : {1, 2}) ASSERT_TRUE(log->Create(key, "record").ok());
    AppendAlone(*log, 1, LargeEntry(1, kBlockEmbeddings));
    LogEntry lost = LargeEntry(2, kBlockEmbeddings);
    lost.held_text = "needle_of_the_test";
    AppendAlone(*log, 1, std::move(lost));
    AppendAlone(*log, 2, LargeEntry(1, kBlockEmbeddings));
  }
  Damage(".log", "needle_of_the_test");
  const RecoveredLog found = Reopen();
  EXPECT_THAT(found.report.problems, ElementsAre(HasSubstr("of the log are lost")));
  EXPECT_THAT(NumbersOf(found.sessions.at(1)), ElementsAre(1));
  EXPECT_THAT(NumbersOf(found.sessions.at(2)), ElementsAre(1));
}

TEST_F(SessionLogFaultsTest, ACutTailIsFine) {
  constexpr int kEntries = 20;
  {
    const auto log = Reopen().log;
    ASSERT_TRUE(log->Create(1, "record").ok());
    for (int n = 1; n <= kEntries; ++n) AppendAlone(*log, 1, NumberedEntry(n));
  }
  const std::string kept = directory_ + "_kept";
  fs::remove_all(kept);
  fs::copy(directory_, kept);
  for (const int cut : {1, 7, 100, 500, 1000}) {
    fs::remove_all(directory_);
    fs::copy(kept, directory_);
    const auto paths = FilesOf(directory_, ".log");
    ASSERT_THAT(paths, SizeIs(1));
    fs::resize_file(paths[0], fs::file_size(paths[0]) - cut);
    const RecoveredLog found = Reopen();
    EXPECT_THAT(found.report.problems, IsEmpty()) << cut;
    const std::vector<int> numbers = NumbersOf(found.sessions.at(1));
    EXPECT_LT(numbers.size(), size_t{kEntries}) << cut;
    EXPECT_GT(numbers.size(), 0u) << cut;
    for (size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], static_cast<int>(i) + 1);
  }
  fs::remove_all(kept);
}

// One byte anywhere: the log opens or says why not, and what it hands out is the beginning of what
// was written.
TEST_F(SessionLogFaultsTest, AnyByteMayChange) {
  WriteThreeSessions("text");
  const std::string kept = directory_ + "_kept";
  for (const std::string extension : {".log", ".sst"}) {
    fs::remove_all(kept);
    fs::copy(directory_, kept);
    uint32_t state = 1;
    for (int i = 0; i < 24; ++i) {
      fs::remove_all(directory_);
      fs::copy(kept, directory_);
      const fs::path path = FilesOf(directory_, extension).at(0);
      std::string bytes = ReadFile(path);
      state = state * 1664525 + 1013904223;  // Numerical Recipes' generator
      const size_t tail = i % 2 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 2000);
      bytes[bytes.size() - 1 - (state >> 8) % tail] ^= 1 << i % 8;
      WriteFile(path, bytes);
      auto log = SessionLog::Open(directory_);
      if (!log.ok()) {
        EXPECT_TRUE(absl::IsDataLoss(log.status())) << log.status();
        continue;
      }
      const auto report = (*log)->Recover([&](const LoggedSession& session) {
        const std::vector<int> numbers = NumbersOf(session);
        for (size_t j = 0; j < numbers.size(); ++j) EXPECT_EQ(numbers[j], static_cast<int>(j) + 1);
      });
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_GE(report->sessions, 2);
    }
    fs::remove_all(directory_);
    fs::copy(kept, directory_);
    Reopen();  // to table files
  }
  fs::remove_all(kept);
}

// Makes the disk refuse, sees the log wait, makes it take again, sees all of it done in order.
void ExpectWaitsForTheDisk(const std::string& directory, absl::StatusCode code,
                           const std::function<void()>& refuse,
                           const std::function<void()>& allow) {
  // In all more than the space that RocksDB reserves for its youngest file.
  constexpr int kEntries = 40;
  constexpr int64_t kEmbeddings = 256 * 1024;  // 1 MiB
  std::vector<int> order, expected;
  for (int n = 1; n <= kEntries; ++n) expected.push_back(n);
  {
    const auto log = RecoverLog(directory).log;
    ASSERT_TRUE(log->Create(1, "record").ok());
    refuse();
    std::latch done(kEntries);
    for (const int n : expected) {
      log->Append(1, LargeEntry(n, kEmbeddings), [&, n](const absl::Status& status) {
        EXPECT_TRUE(status.ok()) << status;
        order.push_back(n);
        done.count_down();
      });
    }
    while (log->Health().ok()) std::this_thread::yield();
    EXPECT_EQ(log->Health().code(), code) << log->Health();
    EXPECT_EQ(log->Create(2, "record").code(), code);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // some tries
    EXPECT_FALSE(log->Health().ok());
    EXPECT_FALSE(done.try_wait());
    allow();
    done.wait();
    EXPECT_TRUE(log->Health().ok()) << log->Health();
    EXPECT_TRUE(log->Create(2, "record").ok());
  }
  EXPECT_EQ(order, expected);

  order.clear();
  absl::Status last;
  {
    const RecoveredLog found = RecoverLog(directory);
    EXPECT_THAT(found.report.problems, IsEmpty());
    EXPECT_EQ(NumbersOf(found.sessions.at(1)), expected);
    EXPECT_EQ(found.sessions.count(2), 1u);
    refuse();  // and the log goes while the disk still refuses
    for (const int n : expected) {
      found.log->Append(2, LargeEntry(n, kEmbeddings), [&, n](const absl::Status& status) {
        if (status.ok()) order.push_back(n);
        last = status;
      });
    }
    while (found.log->Health().ok()) std::this_thread::yield();
  }
  EXPECT_TRUE(absl::IsUnavailable(last)) << last;
  allow();
  const RecoveredLog found = RecoverLog(directory);
  EXPECT_THAT(found.report.problems, IsEmpty());
  EXPECT_EQ(NumbersOf(found.sessions.at(1)), expected);
  EXPECT_GE(found.sessions.at(2).entries.size(), order.size());
}

TEST_F(SessionLogFaultsTest, WaitsForAFileSizeLimit) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = before;
  limit.rlim_cur = 64 << 10;
  ExpectWaitsForTheDisk(
      directory_, absl::StatusCode::kUnavailable,
      [&] { ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0); },
      [&] { ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0); });
  std::signal(SIGXFSZ, handler);
}

TEST_F(SessionLogFaultsTest, WaitsForAFullDisk) {
  const std::string disk = directory_ + "/disk";
  fs::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=256m") != 0) {
    GTEST_SKIP() << "may not mount a file system; WaitsForAFileSizeLimit stands in";
  }
  const std::string filler = disk + "/filler";
  ExpectWaitsForTheDisk(
      disk + "/log", absl::StatusCode::kResourceExhausted,
      [&] {
        std::ofstream out(filler, std::ios::binary);
        const std::string block(64 << 10, 'x');
        while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
        }
      },
      [&] { fs::remove(filler); });
  EXPECT_EQ(umount(disk.c_str()), 0);
}

}  // namespace
}  // namespace rasq
