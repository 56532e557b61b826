// Sessions far beyond the slots, and sessions that come and go for ever. RASQ_SESSIONS and
// RASQ_CYCLES set how many.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/server_fixture.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

constexpr int kSlots = 16;
constexpr int kClients = 6;

std::string Id(int i) { return absl::StrCat("s", i); }

// Calls `work` for each number below `count`, by a few clients at once.
template <typename Work>
void ByClients(int count, const Work& work) {
  std::atomic<int> next = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&] {
      for (int number = next++; number < count; number = next++) work(number);
    });
  }
  for (std::thread& client : clients) client.join();
}

std::string Text(int session, int round) { return testing::Prose(2 * session + round, 150); }

TEST(ManySessionsTest, OnSixteenSlots) {
  const int count = NumberOr("RASQ_SESSIONS", 200);
  testing::TemporaryDirectory directory;
  ServerProgram few(RASQ_SERVER_BINARY,
                    {"--state-dir=" + directory.path(), absl::StrCat("--max-sessions=", kSlots)});
  ServerProgram enough(RASQ_SERVER_BINARY, {absl::StrCat("--max-sessions=", kSlots)});
  ASSERT_TRUE(few.listening() && enough.listening());
  const auto start = std::chrono::steady_clock::now();
  ByClients(count, [&](int i) { EXPECT_TRUE(few.Create(Id(i)).ok()); });
  for (int round = 0; round < 2; ++round) {
    ByClients(count, [&](int i) {
      const grpc::Status status = few.Append(Id(i), Text(i, round));
      EXPECT_TRUE(status.ok()) << Id(i) << ": " << status.error_message();
    });
  }
  std::vector<std::string> answers(count);
  ByClients(count, [&](int i) {
    const grpc::Status status = few.Generate(Question(Id(i), 8), &answers[i]);
    EXPECT_TRUE(status.ok()) << Id(i) << ": " << status.error_message();
  });
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  std::printf("%d sessions on %d slots, %.1f calls a second\n", count, kSlots,
              4 * count / time.count());
  const v1::GetServerInfoResponse info = few.Info();
  EXPECT_EQ(info.sessions_open(), count);
  EXPECT_GE(info.sessions_parked_disk(), count - kSlots - 8);

  // A sample, on a server where nothing moves.
  for (int i = 0; i < kSlots; ++i) {
    const int session = i * (count - 1) / (kSlots - 1);
    ASSERT_TRUE(enough.Create(Id(session)).ok());
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(enough.Append(Id(session), Text(session, round)).ok());
    }
    std::string answer;
    ASSERT_TRUE(enough.Generate(Question(Id(session), 8), &answer).ok());
    EXPECT_EQ(answers[session], answer) << Id(session);
  }
  EXPECT_EQ(few.Stop(), 0);
}

class CyclesTest : public ServerTest {};

TEST_F(CyclesTest, LeaveNothing) {
  const int cycles = NumberOr("RASQ_CYCLES", 1000);
  testing::TemporaryDirectory directory;
  ServerOptions options = TestServerOptions();
  options.engine.max_sessions = 2;
  options.engine.state_dir = directory.path();
  options.engine.durable = true;
  StartServer(options);
  const auto cycle = [&](int i) {
    ASSERT_TRUE(Create(Id(i)).ok());
    ASSERT_TRUE(Append(Id(i), "It will not be long. ").ok());
    ASSERT_TRUE(Delete(Id(i)).ok());
  };
  ByClients(cycles / 4, cycle);  // memory that is kept for the next use is taken by then
  const int64_t before = ResidentBytes(getpid());
  ByClients(cycles, [&](int i) { cycle(cycles + i); });
  const int64_t after = ResidentBytes(getpid());
  std::printf("%d cycles: %.1f MiB resident before, %.1f after\n", cycles,
              static_cast<double>(before) / (1 << 20), static_cast<double>(after) / (1 << 20));
  // The log's tables in memory are 8 MiB each, and fill up slowly.
  EXPECT_LT(after, before + (32 << 20));
  const EngineStats stats = server().engine().Stats();
  EXPECT_EQ(stats.slots_used, 0);
  EXPECT_EQ(stats.sessions_open, 0);
  EXPECT_EQ(stats.backlog_tokens, 0);
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (directory.CountFiles(".state") > 0 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_EQ(directory.CountFiles(".state"), 0);
}

}  // namespace
}  // namespace rasq
