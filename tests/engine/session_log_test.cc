#include "engine/session_log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/session_log_harness.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::NumberedEntry;
using testing::NumberOf;
using testing::RecoveredLog;
using testing::RecoverLog;
using ::testing::SizeIs;

class SessionLogTest : public ::testing::Test {
 protected:
  SessionLogTest() : directory_(testing::FreshLogDirectory()) {}
  ~SessionLogTest() override { fs::remove_all(directory_); }

  RecoveredLog Reopen() { return RecoverLog(directory_); }

  const std::string directory_;
};

TEST_F(SessionLogTest, BringsEveryFieldBack) {
  LogEntry entry{.next_offset = 1234567890123, .held_text = std::string("\0\xff\n", 3)};
  entry.begun = true;
  entry.input = {std::make_shared<Input>(Input{.ids = {1, 2, 151'000}, .segment_break = 2}),
                 std::make_shared<Input>(Input{
                     .ids = {-1, -1}, .embeddings = {1.5f, -2, 3e30f, -0.0f}, .pinned = true})};
  {
    const auto log = Reopen().log;
    ASSERT_TRUE(log->Create(7, std::string("rec\0ord", 7)).ok());
    log->Append(7, entry, [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
    log->Append(7, {}, [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
  }
  const RecoveredLog found = Reopen();
  EXPECT_THAT(found.report.problems, IsEmpty());
  EXPECT_EQ(found.report.sessions, 1);
  EXPECT_EQ(found.report.entries, 2);
  const LoggedSession& session = found.sessions.at(7);
  EXPECT_EQ(session.record, std::string("rec\0ord", 7));
  EXPECT_EQ(session.state_file, "");
  EXPECT_EQ(session.state_sequence, 0);
  EXPECT_FALSE(session.damaged);
  ASSERT_THAT(session.entries, SizeIs(2));
  const LogEntry& read = session.entries[0];
  EXPECT_EQ(read.next_offset, entry.next_offset);
  EXPECT_EQ(read.held_text, entry.held_text);
  EXPECT_TRUE(read.begun);
  ASSERT_THAT(read.input, SizeIs(2));
  for (size_t i = 0; i < read.input.size(); ++i) {
    EXPECT_EQ(read.input[i]->ids, entry.input[i]->ids);
    EXPECT_EQ(read.input[i]->embeddings, entry.input[i]->embeddings);
    EXPECT_EQ(read.input[i]->segment_break, entry.input[i]->segment_break);
    EXPECT_EQ(read.input[i]->pinned, entry.input[i]->pinned);
  }
  EXPECT_THAT(session.entries[1].input, IsEmpty());
  EXPECT_FALSE(session.entries[1].begun);
}

TEST_F(SessionLogTest, ForgetsWhatACheckpointHoldsAndWhatIsDeleted) {
  {
    const auto log = Reopen().log;
    for (const int64_t key : {1, 2, 3}) {
      ASSERT_TRUE(log->Create(key, "first").ok());
      for (int n = 1; n <= 5; ++n) log->Append(key, NumberedEntry(n), [](const absl::Status&) {});
    }
    log->Checkpoint(2, 3, "2.state", "second", [](const absl::Status&) {});
    log->Append(2, NumberedEntry(6), [](const absl::Status&) {});
    log->Delete(3, [](const absl::Status&) {});
  }
  for (int reopened = 0; reopened < 2; ++reopened) {
    const RecoveredLog found = Reopen();
    EXPECT_THAT(found.report.problems, IsEmpty());
    ASSERT_THAT(found.sessions, SizeIs(2));
    EXPECT_THAT(testing::NumbersOf(found.sessions.at(1)), ElementsAre(1, 2, 3, 4, 5));
    const LoggedSession& second = found.sessions.at(2);
    EXPECT_THAT(testing::NumbersOf(second), ElementsAre(4, 5, 6));
    EXPECT_EQ(second.state_file, "2.state");
    EXPECT_EQ(second.state_sequence, 3);
    EXPECT_EQ(second.record, "second");
  }
  {
    const auto log = Reopen().log;  // numbering goes on where it was
    log->Append(2, NumberedEntry(7), [](const absl::Status&) {});
    log->Checkpoint(2, 7, "2.state2", "third", [](const absl::Status&) {});
    log->Append(2, NumberedEntry(8), [](const absl::Status&) {});
  }
  EXPECT_THAT(testing::NumbersOf(Reopen().sessions.at(2)), ElementsAre(8));
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// They were a list as long as their number's square, here of some 400 MB.
TEST_F(SessionLogTest, ManyCheckpointsTakeLittleMemory) {
  constexpr int kCheckpoints = 2000;
  {
    const auto log = Reopen().log;
    ASSERT_TRUE(log->Create(1, "record").ok());
    for (int n = 1; n <= kCheckpoints; ++n) {
      log->Append(1, NumberedEntry(n), [](const absl::Status&) {});
      log->Checkpoint(1, n, "1.state", "record", [](const absl::Status&) {});
    }
  }
  const int64_t before = ResidentBytes();
  const RecoveredLog found = Reopen();
  EXPECT_LT(ResidentBytes() - before, int64_t{100} << 20);
  EXPECT_EQ(found.sessions.at(1).state_sequence, kCheckpoints);
}

TEST_F(SessionLogTest, OneProcessHoldsIt) {
  const auto log = Reopen().log;
  const auto second = SessionLog::Open(directory_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr(directory_));
}

// The log's thread is held in a callback while calls queue up: the next write takes all of them.
TEST_F(SessionLogTest, OneWriteTakesAllThatIsQueued) {
  constexpr int kCalls = 100;
  std::vector<int> order;
  {
    const auto log = Reopen().log;
    ASSERT_TRUE(log->Create(1, "").ok());
    std::latch held(1), queued(1), done(kCalls);
    log->Append(1, NumberedEntry(1), [&](const absl::Status&) {
      held.count_down();
      queued.wait();
    });
    held.wait();
    const int64_t before = log->num_writes();
    for (int i = 0; i < kCalls; ++i) {
      log->Append(1, NumberedEntry(2 + i), [&, i](const absl::Status& status) {
        EXPECT_TRUE(status.ok()) << status;
        order.push_back(i);
        done.count_down();
      });
    }
    queued.count_down();
    done.wait();
    EXPECT_EQ(log->num_writes(), before + 1);
  }
  ASSERT_THAT(order, SizeIs(kCalls));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_THAT(Reopen().sessions.at(1).entries, SizeIs(kCalls + 1));
}

TEST_F(SessionLogTest, CreatesShareWrites) {
  constexpr int kThreads = 16, kEach = 20;
  const auto log = Reopen().log;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&log, t] {
      for (int i = 0; i < kEach; ++i) EXPECT_TRUE(log->Create(t * kEach + i, "record").ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(log->num_writes(), kEach);  // a thread's own come one after the other
  EXPECT_LT(log->num_writes(), kThreads * kEach / 2);
}

// Large entries, so that memory is flushed to files and these are merged; and many sessions.
TEST_F(SessionLogTest, OutgrowsItsMemory) {
  constexpr int kSessions = 50, kEntries = 20, kEmbeddings = 16 * 1024;
  {
    const auto log = Reopen().log;
    for (int64_t key = 0; key < kSessions; ++key) ASSERT_TRUE(log->Create(key, "").ok());
    for (int n = 1; n <= kEntries; ++n) {
      for (int64_t key = 0; key < kSessions; ++key) {
        log->Append(key, testing::LargeEntry(n, kEmbeddings), [](const absl::Status&) {});
        if (n == kEntries / 2 && key > 0) {
          log->Checkpoint(key, n, "file", "", [](const absl::Status&) {});
        }
      }
    }
  }
  const RecoveredLog found = Reopen();
  EXPECT_THAT(found.report.problems, IsEmpty());
  ASSERT_THAT(found.sessions, SizeIs(kSessions));
  EXPECT_THAT(found.sessions.at(0).entries, SizeIs(kEntries));
  for (int64_t key = 1; key < kSessions; ++key) {
    ASSERT_THAT(found.sessions.at(key).entries, SizeIs(kEntries - kEntries / 2));
    EXPECT_EQ(NumberOf(found.sessions.at(key).entries.front()), kEntries / 2 + 1);
  }
}

// Appends until it has seen `acknowledged` callbacks, writing each to a file of its own, and kills
// this process while more appends are on their way.
void AppendUntilKilled(const std::string& directory, int acknowledged) {
  const auto log = RecoverLog(directory).log;
  std::atomic<int> seen = 0;
  for (const int64_t key : {1, 2}) {
    if (!log->Create(key, "").ok()) std::_Exit(1);
  }
  for (int n = 1;; ++n) {
    for (const int64_t key : {1, 2}) {
      log->Append(key, NumberedEntry(n), [&, key, n](const absl::Status& status) {
        if (!status.ok()) std::_Exit(1);
        testing::WriteNumber(directory + "/acknowledged_" + std::to_string(key), n);
        ++seen;
      });
    }
    while (seen < 2 * n - 16) std::this_thread::yield();  // some are always on their way
    if (seen >= acknowledged) std::raise(SIGKILL);
  }
}

class SessionLogKillTest : public SessionLogTest, public ::testing::WithParamInterface<int> {};

TEST_P(SessionLogKillTest, WhatWasAcknowledgedIsThere) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(AppendUntilKilled(directory_, GetParam()), ::testing::KilledBySignal(SIGKILL), "");
  const RecoveredLog found = Reopen();
  EXPECT_THAT(found.report.problems, IsEmpty());
  for (const int64_t key : {1, 2}) {
    const std::vector<int> numbers = testing::NumbersOf(found.sessions.at(key));
    const int acknowledged =
        testing::ReadNumber(directory_ + "/acknowledged_" + std::to_string(key));
    EXPECT_GT(acknowledged, 0);
    EXPECT_GE(numbers.size(), static_cast<size_t>(acknowledged));
    for (size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], static_cast<int>(i) + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(After, SessionLogKillTest, ::testing::Values(20, 57, 200, 431));

}  // namespace
}  // namespace rasq
