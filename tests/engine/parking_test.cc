// More sessions than slots: states that move to host memory, to disk, over the end of a server and
// back, and that nobody can tell it from what sessions say.
#include <chrono>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Append;
using testing::CreateSession;
using ::testing::HasSubstr;
using testing::NextTokens;
using testing::Prose;
using testing::TemporaryDirectory;

constexpr int32_t kTokens = 24;

std::unique_ptr<EngineGroup> Start(const EngineOptions& options,
                                   EngineObserver* observer = nullptr) {
  auto group = EngineGroup::Create(options, observer,
                                   [](const std::string& line) { ADD_FAILURE() << line; });
  if (!group.ok()) ADD_FAILURE() << group.status();
  return group.ok() ? *std::move(group) : nullptr;
}

class FailedWrites : public EngineObserver {
 public:
  void OnWriteFailed(const ScopedName& session, const absl::Status& status) override {
    MutexLock lock(mu_);
    sessions_.insert(session.id);
    status_ = status;
    changed_.SignalAll();
  }
  absl::Status Wait() {
    MutexLock lock(mu_);
    while (status_.ok()) changed_.Wait(mu_);
    return status_;
  }
  std::set<std::string> TakeSessions() {
    MutexLock lock(mu_);
    return std::exchange(sessions_, {});
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::set<std::string> sessions_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

class ParkingTest : public testing::BackendTest {
 protected:
  // Few slots, as the parked sessions have them, or one for each.
  EngineOptions Options(int32_t slots) {
    EngineOptions options = testing::ShippedModel(GetParam());
    options.max_sessions = slots;
    options.max_full_sessions = 1;
    return options;
  }
  EngineOptions WithDisk(int32_t slots = 2) {
    EngineOptions options = Options(slots);
    options.state_dir = directory_.path();
    return options;
  }
  static std::string Id(int i) { return "s" + std::to_string(i); }

  // Appends to `count` sessions in turn, several rounds, and asks each.
  std::vector<std::vector<int32_t>> Talk(EngineGroup& group, int count) {
    std::vector<std::vector<int32_t>> said;
    for (int i = 0; i < count; ++i) CreateSession(group, Id(i));
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < count; ++i) {
        EXPECT_TRUE(Append(group, Id(i), Prose(100 * round + i, 1200)).ok());
      }
    }
    for (int i = 0; i < count; ++i) said.push_back(NextTokens(group, Id(i), kTokens));
    return said;
  }

  TemporaryDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(All, ParkingTest, ::testing::Values("float32", "cuda"),
                         testing::BackendName);

TEST_P(ParkingTest, OneSlotServesForksAndRestoredSessions) {
  EngineOptions options = Options(1);
  options.snapshot_dir = directory_.path();
  const auto plain = Start(Options(4));
  ASSERT_NE(plain, nullptr);
  options.host_state_bytes = 8 * plain->model().session_state_bytes;
  const auto group = Start(options);
  ASSERT_NE(group, nullptr);
  for (EngineGroup* each : {plain.get(), group.get()}) {
    CreateSession(*each, "a");
    ASSERT_TRUE(Append(*each, "a", Prose(1, 900)).ok());
  }
  ASSERT_TRUE(testing::Fork(*group, {.session = "a", .new_id = "b"}).ok());
  ASSERT_TRUE(testing::Snapshot(*group, {.session = "a", .snapshot_id = "one"}).ok());
  ASSERT_TRUE(testing::Restore(*group, {.snapshot = "one", .session_id = "c"}).ok());
  for (int round = 0; round < 2; ++round) {
    const std::vector<int32_t> want = NextTokens(*plain, "a", 20);
    for (const char* id : {"a", "b", "c"}) {
      EXPECT_EQ(NextTokens(*group, id, 20), want) << id;
      ASSERT_TRUE(Append(*group, id, Prose(2 + round, 300)).ok());
    }
    ASSERT_TRUE(Append(*plain, "a", Prose(2 + round, 300)).ok());
  }
}

TEST_P(ParkingTest, HostMemoryHoldsWhatSlotsDoNot) {
  EngineOptions few = Options(2);
  const auto plain = Start(Options(6));
  ASSERT_NE(plain, nullptr);
  few.host_state_bytes = 5 * plain->model().session_state_bytes;
  const auto parked = Start(few);
  ASSERT_NE(parked, nullptr);
  EXPECT_EQ(parked->Stats().max_open_sessions, 6);  // one place is for exchanges
  EXPECT_EQ(Talk(*parked, 6), Talk(*plain, 6));
  const EngineStats stats = parked->Stats();
  EXPECT_EQ(stats.sessions_parked_host, 4);
  EXPECT_GT(stats.parks, 6);
  EXPECT_GE(stats.parks, stats.unparks);
  EXPECT_EQ(parked->CreateSession({}).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_P(ParkingTest, DiskHoldsWhatMemoryDoesNot) {
  const auto plain = Start(Options(12));
  const auto parked = Start(WithDisk());
  ASSERT_TRUE(plain != nullptr && parked != nullptr);
  EXPECT_EQ(Talk(*parked, 12), Talk(*plain, 12));
  EXPECT_GT(parked->Stats().sessions_parked_disk, 4);
  EXPECT_EQ(parked->Stats().snapshots_failed, 0);
  EXPECT_EQ(parked->GetSession(Id(0))->state, SessionState::kParked);
}

TEST_P(ParkingTest, SessionsThatAllHaveWorkTakeTurns) {
  constexpr int kBytes = 5000;  // of text each: they move some ten times
  constexpr int kSessions = 9;  // more than slots and host memory hold
  const auto group = Start(WithDisk());
  ASSERT_NE(group, nullptr);
  std::vector<std::shared_ptr<testing::Pending<absl::StatusOr<AppendResult>>>> ends;
  for (int i = 0; i < kSessions; ++i) {
    CreateSession(*group, Id(i));
    auto end =
        ends.emplace_back(std::make_shared<testing::Pending<absl::StatusOr<AppendResult>>>());
    ASSERT_TRUE(group
                    ->Append({.session = Id(i), .content = Prose(i, kBytes)},
                             [end](absl::StatusOr<AppendResult> result) { end->Set(result); })
                    .ok());
  }
  for (const auto& end : ends) EXPECT_TRUE(end->Wait().ok());
  const auto plain = Start(Options(kSessions));
  for (int i = 0; i < kSessions; ++i) {
    CreateSession(*plain, Id(i));
    ASSERT_TRUE(Append(*plain, Id(i), Prose(i, kBytes)).ok());
    EXPECT_EQ(NextTokens(*group, Id(i), kTokens), NextTokens(*plain, Id(i), kTokens));
  }
}

TEST_P(ParkingTest, ADeletedSessionLeavesNoFile) {
  const auto group = Start(WithDisk());
  ASSERT_NE(group, nullptr);
  Talk(*group, 8);
  EXPECT_GT(directory_.CountFiles(".state"), 0);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(testing::DeleteSession(*group, Id(i)).ok());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (directory_.CountFiles(".state") > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(directory_.CountFiles(".state"), 0);
  const EngineStats stats = group->Stats();
  EXPECT_EQ(stats.slots_used + stats.sessions_parked_host + stats.sessions_parked_disk, 0);
}

TEST_P(ParkingTest, TheNextServerGoesOn) {
  const auto plain = Start(Options(8));
  ASSERT_NE(plain, nullptr);
  const auto wanted = Talk(*plain, 5);
  {
    const auto first = Start(WithDisk());
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(Talk(*first, 5), wanted);
    CreateSession(*first, "empty");
    CreateSession(*first, "full", {.strategy = Strategy::kFull});
    ASSERT_TRUE(Append(*first, "full", Prose(7, 2000)).ok());
  }
  EXPECT_EQ(directory_.CountFiles(".state"), 7);
  const auto second = Start(WithDisk());
  ASSERT_NE(second, nullptr);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(second->GetSession(Id(i))->context_tokens, plain->GetSession(Id(i))->context_tokens);
    EXPECT_EQ(second->GetSession(Id(i))->next_offset, plain->GetSession(Id(i))->next_offset);
    EXPECT_EQ(NextTokens(*second, Id(i), kTokens), wanted[i]) << i;
    // What follows must be the same, too: text that was held back, positions, priorities.
    ASSERT_TRUE(Append(*second, Id(i), "ly gone. " + Prose(i, 4000)).ok());
    ASSERT_TRUE(Append(*plain, Id(i), "ly gone. " + Prose(i, 4000)).ok());
    EXPECT_EQ(NextTokens(*second, Id(i), kTokens), NextTokens(*plain, Id(i), kTokens)) << i;
  }
  EXPECT_EQ(second->GetSession("empty")->context_tokens, 0);
  CreateSession(*plain, "full", {.strategy = Strategy::kFull});
  ASSERT_TRUE(Append(*plain, "full", Prose(7, 2000)).ok());
  EXPECT_EQ(NextTokens(*second, "full", kTokens), NextTokens(*plain, "full", kTokens));
}

TEST_P(ParkingTest, AnEmptySessionIsFilledOrDeletedByTheNextServer) {
  for (const bool durable : {false, true}) {
    EngineOptions options = WithDisk();
    options.state_dir += durable ? "/durable" : "/plain";
    options.durable = durable;
    {
      const auto first = Start(options);
      CreateSession(*first, "filled");
      CreateSession(*first, "deleted");
    }
    {
      const auto second = Start(options);
      ASSERT_TRUE(Append(*second, "filled", Prose(3, 4000)).ok());
      ASSERT_TRUE(testing::DeleteSession(*second, "deleted").ok());
    }
    const auto third = Start(options);
    EXPECT_GT(third->GetSession("filled")->context_tokens, 500);
    EXPECT_EQ(third->GetSession("deleted").status().code(), absl::StatusCode::kNotFound);
  }
}

TEST_P(ParkingTest, WhatWasAcceptedIsAbsorbedByTheNextServer) {
  const std::string text = Prose(3, 60000);
  int64_t offset = 0;
  {
    const auto first = Start(WithDisk());
    CreateSession(*first, "a");
    const auto receipt = first->Append({.session = "a", .content = text},
                                       [](const absl::StatusOr<AppendResult>&) {});
    ASSERT_TRUE(receipt.ok());
    offset = receipt->next_offset;
  }
  const auto second = Start(WithDisk());
  EXPECT_EQ(second->GetSession("a")->next_offset, offset);
  const auto plain = Start(Options(1));
  CreateSession(*plain, "a");
  ASSERT_TRUE(Append(*plain, "a", text).ok());
  EXPECT_EQ(NextTokens(*second, "a", kTokens), NextTokens(*plain, "a", kTokens));
}

TEST_P(ParkingTest, WhatCannotBeWrittenIsTold) {
  FailedWrites failed;
  auto group = Start(WithDisk(), &failed);
  ASSERT_NE(group, nullptr);
  const std::string states = directory_.path() + "/states", away = directory_.path() + "/away";
  std::filesystem::rename(states, away);
  const auto append = [&](int i) { EXPECT_TRUE(Append(*group, Id(i), Prose(i, 1200)).ok()); };
  for (int i = 0; i < 8; ++i) CreateSession(*group, Id(i));
  for (int i = 0; i < 5; ++i) append(i);  // more than two slots and what is spare of host memory
  EXPECT_THAT(std::string(failed.Wait().message()), HasSubstr(states));
  EXPECT_GT(group->Stats().snapshots_failed, 0);
  std::filesystem::rename(away, states);
  for (int i = 0; i < 8; ++i) append(i);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(NextTokens(*group, Id(i), kTokens).empty());
  // What is only in memory at the end is lost, and named.
  failed.TakeSessions();
  std::filesystem::rename(states, away);
  group.reset();
  EXPECT_THAT(failed.TakeSessions(), ::testing::Contains(Id(7)));
}

TEST_P(ParkingTest, AnotherModelsSessionsAreNotTouched) {
  {
    const auto first = Start(WithDisk());
    CreateSession(*first, "a");
    ASSERT_TRUE(Append(*first, "a", Prose(3, 4000)).ok());
  }
  EngineOptions other = WithDisk();
  other.capacity_tokens = 512;
  const auto refused = EngineGroup::Create(other, nullptr);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("session_id=a: capacity_tokens=1024, this server has 512"));
  EXPECT_EQ(Start(WithDisk())->GetSession("a")->state, SessionState::kParked);
}

TEST(ParkingOptionsTest, AreChecked) {
  EngineOptions options = testing::ShippedModel();
  options.host_state_bytes = 100;
  EXPECT_THAT(std::string(EngineGroup::Create(options, nullptr).status().message()),
              HasSubstr("host_state_bytes=100: a state has "));
  options.host_state_bytes = 0;
  options.max_open_sessions = 9;
  EXPECT_THAT(std::string(EngineGroup::Create(options, nullptr).status().message()),
              HasSubstr("max_open_sessions=9: without a state_dir there are 8 places"));
  options.max_open_sessions = 0;
  options.durable = true;
  EXPECT_THAT(std::string(EngineGroup::Create(options, nullptr).status().message()),
              HasSubstr("durable=true: needs a state_dir"));
}

}  // namespace
}  // namespace rasq
