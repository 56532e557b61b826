// Everything that can happen to a session, to a few sessions, by many threads at once: no call may
// end twice or never, or for a reason that is nobody's doing. RASQ_RACES_SECONDS sets how long;
// meant for ThreadSanitizer and AddressSanitizer above all.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

constexpr int kThreads = 6;
constexpr int kNames = 6;
constexpr size_t kMostOpen = 24;  // calls in flight

constexpr const char* kKinds[] = {"append", "generate", "fork", "snapshot", "restore", "delete"};

// Calls that have begun, and how each has ended.
class Ledger {
 public:
  int64_t Begin(const std::string& what) {
    MutexLock lock(mu_);
    open_[next_] = what;
    return next_++;
  }
  void End(int64_t call, const absl::Status& status) {
    MutexLock lock(mu_);
    const auto found = open_.find(call);
    ASSERT_NE(found, open_.end()) << "call " << call << " ended twice: " << status;
    Count(found->second, status);
    open_.erase(found);
  }
  // The engine refused it at once, and will never call back.
  void Refused(int64_t call, const absl::Status& status) { End(call, status); }

  size_t num_open() {
    MutexLock lock(mu_);
    return open_.size();
  }
  std::set<std::string> open() {
    MutexLock lock(mu_);
    std::set<std::string> left;
    for (const auto& [call, what] : open_) left.insert(what);
    return left;
  }
  // Whether a call of each kind that changes something has succeeded.
  bool SeenAll() {
    MutexLock lock(mu_);
    return std::all_of(std::begin(kKinds), std::end(kKinds),
                       [&](const char* kind) { return ends_.contains(absl::StrCat(kind, " OK")); });
  }
  // "append OK" -> 1234
  std::map<std::string, int64_t> ends() {
    MutexLock lock(mu_);
    return ends_;
  }

 private:
  void Count(const std::string& what, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ++ends_[absl::StrCat(what, " ", absl::StatusCodeToString(status.code()))];
    static const std::set<absl::StatusCode> expected = {
        absl::StatusCode::kOk,          absl::StatusCode::kNotFound,
        absl::StatusCode::kAborted,     absl::StatusCode::kAlreadyExists,
        absl::StatusCode::kCancelled,   absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kUnavailable, absl::StatusCode::kFailedPrecondition};
    EXPECT_TRUE(expected.contains(status.code())) << what << ": " << status;
  }

  Mutex mu_;
  int64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<int64_t, std::string> open_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int64_t> ends_ ABSL_GUARDED_BY(mu_);
};

class LedgerSink : public GenerateSink {
 public:
  LedgerSink(Ledger* ledger, int64_t call) : ledger_(*ledger), call_(call) {}
  void OnChunk(GenerateChunk) override { EXPECT_FALSE(over_); }
  void OnDone(absl::StatusOr<GenerateSummary> summary) override {
    over_ = true;
    ledger_.End(call_, summary.status());
  }

 private:
  Ledger& ledger_;
  const int64_t call_;
  std::atomic<bool> over_ = false;
};

class RacesTest : public ::testing::TestWithParam<bool> {
 protected:
  EngineOptions Options() {
    EngineOptions options = testing::ShippedModel();
    options.max_sessions = 2;  // so that sessions are parked all the time
    options.max_generations = 2;
    options.max_queued_generations = 4;
    options.max_open_sessions = 24;
    options.capacity_tokens = 256;  // small states: moving them is not what this is about
    options.state_dir = directory_.path();
    options.durable = GetParam();
    return options;
  }
  std::unique_ptr<EngineGroup> Start() {
    auto group = EngineGroup::Create(Options(), nullptr,
                                     [](const std::string& line) { ADD_FAILURE() << line; });
    if (!group.ok()) ADD_FAILURE() << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }

  template <typename Result>
  std::function<void(absl::StatusOr<Result>)> Ending(const std::string& what,
                                                     int64_t* call = nullptr) {
    const int64_t number = ledger_.Begin(what);
    if (call != nullptr) *call = number;
    return [this, number](const absl::StatusOr<Result>& result) {
      ledger_.End(number, result.status());
    };
  }

  void CreateOne(EngineGroup& group, const std::string& id, bool short_lived) {
    const int64_t call = ledger_.Begin("create");
    SessionOptions options;
    if (short_lived) options.ttl = absl::Milliseconds(300);
    ledger_.End(call, group.CreateSession({.id = id, .options = options}).status());
  }
  void AppendOne(EngineGroup& group, const std::string& id, uint64_t seed) {
    int64_t call = 0;
    auto end = Ending<AppendResult>("append", &call);
    const auto receipt = group.Append(
        {.session = id, .content = testing::Prose(seed, static_cast<int64_t>(seed % 900))}, end);
    if (!receipt.ok()) ledger_.Refused(call, receipt.status());
  }
  void GenerateOne(EngineGroup& group, const std::string& id, uint64_t seed) {
    const int64_t call = ledger_.Begin("generate");
    GenerateRequest request{.session = id, .prompt = std::string(" The"), .commit = seed % 3 == 0};
    request.stop = {.max_new_tokens = 1 + static_cast<int32_t>(seed % 24), .ignore_eos = true};
    const auto handle = group.Generate(request, std::make_shared<LedgerSink>(&ledger_, call));
    if (!handle.ok()) {
      ledger_.Refused(call, handle.status());
      return;
    }
    MutexLock lock(mu_);
    handles_.push_back(*handle);
  }
  void CancelOne(EngineGroup& group, uint64_t seed) {
    int64_t handle = 0;
    {
      MutexLock lock(mu_);
      if (handles_.empty()) return;
      handle = handles_[seed % handles_.size()];  // often one that is over
    }
    group.Cancel(handle);
  }
  void DeleteOne(EngineGroup& group, const std::string& id) {
    const int64_t call = ledger_.Begin("delete");
    group.DeleteSession(id,
                        [this, call](const absl::Status& status) { ledger_.End(call, status); });
  }

  // One of everything, at random.
  void Act(EngineGroup& group, std::mt19937_64& random) {
    const auto name = [&](const char* kind) { return absl::StrCat(kind, random() % kNames); };
    switch (random() % 16) {
      case 0:
        return CreateOne(group, name("s"), random() % 2 == 0);
      case 2:
        return DeleteOne(group, name("s"));
      case 3:
        return group.ForkSession(
            {.session = name("s"), .new_id = name("s"), .labels = {}, .request_id = ""},
            Ending<SessionInfo>("fork"));
      case 4:
        return group.SnapshotSession(
            {.session = name("s"), .snapshot_id = absl::StrCat("p", random() % 2)},
            Ending<SnapshotInfo>("snapshot"));
      case 5:
      case 1:
        return group.RestoreSession({.snapshot = absl::StrCat("p", random() % 2),
                                     .session_id = name("s"),
                                     .labels = {},
                                     .request_id = ""},
                                    Ending<SessionInfo>("restore"));
      case 6: {
        if (random() % 4 != 0) return;
        const int64_t call = ledger_.Begin("delete snapshot");
        return ledger_.End(call, group.DeleteSnapshot(absl::StrCat("p", random() % 2)));
      }
      case 7: {
        const int64_t call = ledger_.Begin("list");
        const auto page = group.ListSessions("", 0, "");
        ledger_.End(call, page.status());
        (void)group.Stats();
        (void)group.ListSnapshots("", 0, "");
        return (void)group.GetSession(name("s"));
      }
      case 8:
      case 9:
        return CancelOne(group, random());
      case 10:
      case 11:
      case 12:
        return GenerateOne(group, name("s"), random());
      default:
        return AppendOne(group, name("s"), random());
    }
  }

  testing::TemporaryDirectory directory_;
  Ledger ledger_;
  Mutex mu_;
  std::vector<int64_t> handles_ ABSL_GUARDED_BY(mu_);
};
INSTANTIATE_TEST_SUITE_P(All, RacesTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Durable" : "Parking"; });

TEST_P(RacesTest, EveryCallEndsOnce) {
  const auto time = std::chrono::seconds(NumberOr("RASQ_RACES_SECONDS", 4));
  // The engine ends with calls in flight, and the next one goes on from what it left.
  for (int life = 0; life < 2; ++life) {
    std::unique_ptr<EngineGroup> group = Start();
    ASSERT_NE(group, nullptr);
    const auto end = std::chrono::steady_clock::now() + time / 2;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937_64 random(100 * life + i);
        // On a busy machine it takes longer until all has been seen.
        while (std::chrono::steady_clock::now() < end ||
               (life == 1 && !ledger_.SeenAll() &&
                std::chrono::steady_clock::now() < end + std::chrono::seconds(60))) {
          Act(*group, random);
          // Else what waits would grow without end.
          while (ledger_.num_open() > kMostOpen) std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    group.reset();
    EXPECT_THAT(ledger_.open(), ::testing::IsEmpty()) << "these never ended";
    MutexLock lock(mu_);
    handles_.clear();
  }
  for (const auto& [what, count] : ledger_.ends()) {
    std::printf("%-40s %lld\n", what.c_str(), static_cast<long long>(count));
  }
  EXPECT_TRUE(ledger_.SeenAll()) << "of a kind above, none was OK";

  // All of it can go, and leaves nothing.
  const auto group = Start();
  ASSERT_NE(group, nullptr);
  const auto page = group->ListSessions("", 1000, "");
  ASSERT_TRUE(page.ok());
  for (const SessionInfo& session : page->sessions) {
    const absl::Status deleted = testing::DeleteSession(*group, session.id);
    EXPECT_TRUE(deleted.ok() || absl::IsNotFound(deleted)) << deleted;  // it may have expired
  }
  EXPECT_EQ(group->Stats().slots_used, 0);
  EXPECT_EQ(group->Stats().sessions_open, 0);
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (directory_.CountFiles(".state") > 0 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_EQ(directory_.CountFiles(".state"), 0);
}

}  // namespace
}  // namespace rasq
