// A server whose disk is full, or gives back other bytes than it was given: it says so, loses
// nothing that it acknowledged, and serves all that is not touched.
#include <sys/mount.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/files.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

using grpc::StatusCode;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kTokens = 16;

std::string Id(int i) { return absl::StrCat("s", i); }

std::string Says(ServerProgram& server, const std::string& id) {
  std::string text;
  const grpc::Status status = server.Generate(Question(id, kTokens), &text);
  EXPECT_TRUE(status.ok()) << id << ": " << status.error_message();
  return text;
}

// Rows of embeddings: a few tokens that are much to write. The session's next offset goes there.
grpc::Status AppendRows(ServerProgram& server, const std::string& id, int rows,
                        int64_t* next_offset = nullptr, int seconds = 60) {
  grpc::ClientContext ask, context;
  v1::GetModelResponse model;
  const auto models = v1::ModelService::NewStub(server.Connect());
  EXPECT_TRUE(models->GetModel(&WithDeadline(ask, 60), v1::GetModelRequest(), &model).ok());
  v1::AppendRequest request;
  request.set_session_id(id);
  v1::Embeddings& content = *request.mutable_content()->mutable_embeddings();
  content.set_rows(rows);
  content.set_bfloat16(std::string(size_t{2} * rows * model.hidden_size(), '\0'));
  v1::AppendResponse response;
  const grpc::Status status =
      server.sessions().Append(&WithDeadline(context, seconds), request, &response);
  if (next_offset != nullptr) *next_offset = response.next_offset();
  return status;
}

// A small disk of its own; gone with it.
class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (mount("none", directory_.path().c_str(), "tmpfs", 0, "size=128m") != 0) {
      GTEST_SKIP() << "may not mount a file system";
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) {
      EXPECT_EQ(umount2(directory_.path().c_str(), MNT_DETACH), 0);
    }
  }
  void Fill() {
    std::ofstream out(directory_.path() + "/filler", std::ios::binary);
    for (const size_t size : {1 << 16, 1 << 8, 1}) {  // to the last byte
      const std::string block(size, 'x');
      while (out.write(block.data(), static_cast<std::streamsize>(size)).flush()) continue;
      out.clear();
    }
  }
  // The log has some room of its own, and the call that fills it waits; the next one is refused.
  static grpc::Status UntilRefused(ServerProgram& server, const std::string& id) {
    grpc::Status status;
    for (int i = 0;
         i < 100 && (status.ok() || status.error_code() == StatusCode::DEADLINE_EXCEEDED); ++i) {
      status = AppendRows(server, id, /*rows=*/1000, nullptr, /*seconds=*/2);
    }
    return status;
  }
  void MakeRoom() { fs::remove(directory_.path() + "/filler"); }

  testing::TemporaryDirectory directory_;
  bool mounted_ = false;
};

TEST_F(FullDiskTest, ADurableServerRefusesAppendsUntilThereIsRoom) {
  const std::vector<std::string> flags = {"--durable", "--state-dir=" + directory_.path(),
                                          "--max-sessions=4"};
  auto server = std::make_unique<ServerProgram>(RASQ_SERVER_BINARY, flags);
  ASSERT_TRUE(server->listening()) << server->Log();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(server->Create(Id(i)).ok());
  v1::AppendResponse acknowledged;
  ASSERT_TRUE(server->Append(Id(0), testing::Prose(0, 500), &acknowledged).ok());
  Fill();
  const grpc::Status refusal = UntilRefused(*server, Id(1));
  EXPECT_EQ(refusal.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refusal.error_message(), HasSubstr("the disk is full"));
  EXPECT_THAT(refusal.error_message(), Not(HasSubstr(directory_.path()))) << "clients see no paths";
  EXPECT_TRUE(server->Serving());
  EXPECT_FALSE(Says(*server, Id(0)).empty()) << "what leaves no trace needs no disk";
  EXPECT_EQ(server->Create("new").error_code(), StatusCode::RESOURCE_EXHAUSTED);

  MakeRoom();
  grpc::Status status;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  do {
    status = server->Append(Id(0), "And on. ");
  } while (!status.ok() && std::chrono::steady_clock::now() < patience);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(server->Create("new").ok());

  std::map<std::string, std::pair<int64_t, std::string>> before;
  for (int i = 0; i < 4; ++i) {
    v1::Session session;
    ASSERT_TRUE(server->Get(Id(i), &session).ok());
    before[Id(i)] = {session.next_offset(), Says(*server, Id(i))};
  }
  server->Kill();
  server = std::make_unique<ServerProgram>(RASQ_SERVER_BINARY, flags);
  ASSERT_TRUE(server->listening()) << server->Log();
  EXPECT_THAT(server->Log(), Not(HasSubstr("recovery:")));
  for (const auto& [id, was] : before) {
    v1::Session session;
    ASSERT_TRUE(server->Get(id, &session).ok());
    EXPECT_EQ(session.next_offset(), was.first);
    EXPECT_EQ(Says(*server, id), was.second);
  }
}

TEST_F(FullDiskTest, ADurableServerStops) {
  const std::vector<std::string> flags = {"--durable", "--state-dir=" + directory_.path(),
                                          "--max-sessions=4", "--drain-grace=1s"};
  ServerProgram server(RASQ_SERVER_BINARY, flags);
  ASSERT_TRUE(server.listening()) << server.Log();
  ASSERT_TRUE(server.Create(Id(0)).ok());
  ASSERT_TRUE(server.Append(Id(0), testing::Prose(0, 500)).ok());
  Fill();
  EXPECT_EQ(UntilRefused(server, Id(0)).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(server.Stop(), 0);
  MakeRoom();
  ServerProgram next(RASQ_SERVER_BINARY, flags);
  ASSERT_TRUE(next.listening()) << next.Log();
  v1::Session session;
  ASSERT_TRUE(next.Get(Id(0), &session).ok());
  EXPECT_GE(session.next_offset(), static_cast<int64_t>(testing::Prose(0, 500).size()));
}

TEST_F(FullDiskTest, SessionsInMemoryGoOn) {
  ServerProgram server(RASQ_SERVER_BINARY,
                       {"--state-dir=" + directory_.path(), "--max-sessions=2"});
  ASSERT_TRUE(server.listening()) << server.Log();
  constexpr int kSessions = 10;
  std::map<std::string, std::string> said;
  for (int i = 0; i < kSessions; ++i) {
    ASSERT_TRUE(server.Create(Id(i)).ok());
    ASSERT_TRUE(server.Append(Id(i), testing::Prose(i, 800)).ok());
    said[Id(i)] = Says(server, Id(i));
  }
  Fill();
  std::string busy;
  for (int i = 0; i < kSessions; ++i) {
    v1::Session session;
    ASSERT_TRUE(server.Get(Id(i), &session).ok());
    if (session.state() == v1::SESSION_STATE_ACTIVE) busy = Id(i);
  }
  ASSERT_FALSE(busy.empty());
  // Others want to come in, and cannot push anything out to the disk.
  std::vector<std::thread> others;
  for (int i = 0; i < kSessions; ++i) {
    if (Id(i) == busy) continue;
    others.emplace_back([&, i] {
      const grpc::Status status = server.Append(Id(i), testing::Prose(i, 800), nullptr, -1, 60);
      EXPECT_TRUE(status.ok()) << Id(i) << ": " << status.error_message();
    });
  }
  for (int i = 0; i < 5; ++i) {
    const grpc::Status status = server.Append(busy, testing::Prose(i, 400), nullptr, -1, 15);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_TRUE(server.Serving());
  const auto said_so = [&] { return absl::StrContains(server.Log(), " state_write session="); };
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!said_so() && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  EXPECT_TRUE(said_so()) << server.Log();
  MakeRoom();
  for (std::thread& other : others) other.join();
  for (int i = 0; i < kSessions; ++i) EXPECT_FALSE(Says(server, Id(i)).empty());
  EXPECT_EQ(server.Stop(), 0);
}

class DamageTest : public ::testing::Test {
 protected:
  ServerProgram& Start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags = {"--state-dir=" + directory_.path(), "--max-sessions=2"};
    flags.insert(flags.end(), more.begin(), more.end());
    server_.reset();
    server_ = std::make_unique<ServerProgram>(RASQ_SERVER_BINARY, flags);
    if (!server_->listening()) ADD_FAILURE() << server_->Log();
    return *server_;
  }
  std::vector<fs::path> Files(const std::string& folder, const std::string& ending) const {
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(directory_.path() + "/" + folder)) {
      if (absl::EndsWith(file.path().string(), ending)) files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void Flip(const fs::path& path, int64_t at) {
    std::string bytes = ReadFile(path.string());
    ASSERT_LT(at, static_cast<int64_t>(bytes.size()));
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    WriteFile(path.string(), bytes);
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<ServerProgram> server_;
};

TEST_F(DamageTest, OneStateFileHurtsOneSession) {
  std::map<std::string, std::string> said;
  ServerProgram& first = Start();
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(first.Create(Id(i)).ok());
    ASSERT_TRUE(first.Append(Id(i), testing::Prose(i, 2000)).ok());
    said[Id(i)] = Says(first, Id(i));
  }
  ASSERT_EQ(first.Stop(), 0);
  const std::vector<fs::path> files = Files("states", ".state");
  ASSERT_EQ(files.size(), 4);
  Flip(files[0], 60);                                                   // the header
  Flip(files[1], static_cast<int64_t>(fs::file_size(files[1])) - 100);  // the state
  ServerProgram& second = Start();
  EXPECT_THAT(second.Log(), HasSubstr("recovery: "));
  EXPECT_THAT(second.Log(), HasSubstr(files[0].string()));
  std::vector<std::string> lost, damaged, whole;
  for (const auto& [id, was] : said) {
    std::string text;
    const grpc::Status status = second.Generate(Question(id, kTokens), &text);
    if (status.ok()) {
      EXPECT_EQ(text, was);
      whole.push_back(id);
    } else if (status.error_code() == StatusCode::NOT_FOUND) {
      lost.push_back(id);
    } else {
      EXPECT_EQ(status.error_code(), StatusCode::DATA_LOSS) << status.error_message();
      EXPECT_THAT(status.error_message(), Not(HasSubstr(directory_.path())));
      damaged.push_back(id);
    }
  }
  EXPECT_EQ(lost.size(), 1);
  ASSERT_EQ(damaged.size(), 1);
  EXPECT_EQ(whole.size(), 2);
  v1::Session session;
  ASSERT_TRUE(second.Get(damaged[0], &session).ok());
  EXPECT_EQ(session.state(), v1::SESSION_STATE_FAILED);
  EXPECT_TRUE(second.Delete(damaged[0]).ok());
  EXPECT_EQ(second.Stop(), 0);
}

TEST_F(DamageTest, OneRecordOfTheLogHurtsOneSession) {
  const std::vector<std::string> durable = {"--durable"};
  ServerProgram& first = Start(durable);
  std::vector<std::vector<int64_t>> ends(3);  // offsets of the ends of each one's appends
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(first.Create(Id(i)).ok());
    ends[i].push_back(0);
    for (int j = 0; j < 8; ++j) {
      ASSERT_TRUE(AppendRows(first, Id(i), /*rows=*/8, &ends[i].emplace_back()).ok());
    }
  }
  std::vector<std::string> said;
  for (int i = 0; i < 3; ++i) said.push_back(Says(first, Id(i)));
  first.Kill();
  // In the middle of what was written is the middle session. Damage takes the rest of its block; a
  // call fills a good third of one.
  constexpr int64_t kBlock = 32768;
  const std::vector<fs::path> files = Files("log", ".log");
  ASSERT_FALSE(files.empty());
  const std::string bytes = ReadFile(files.back().string());
  const auto middle = static_cast<int64_t>(bytes.find_last_not_of('\0')) / 2;
  Flip(files.back(), middle / kBlock * kBlock + 14 * 1024);
  ServerProgram& second = Start(durable);
  EXPECT_THAT(second.Log(), HasSubstr("recovery: "));
  int hurt = 0;
  for (int i = 0; i < 3; ++i) {
    v1::Session session;
    ASSERT_TRUE(second.Get(Id(i), &session).ok());
    EXPECT_THAT(ends[i], ::testing::Contains(session.next_offset()));
    if (session.next_offset() == ends[i].back()) {
      EXPECT_EQ(Says(second, Id(i)), said[i]);
    } else {
      ++hurt;
    }
    EXPECT_TRUE(second.Append(Id(i), "It goes on. ", nullptr, session.next_offset()).ok());
  }
  EXPECT_EQ(hurt, 1);
  EXPECT_EQ(second.Stop(), 0);
  Start(durable);
  EXPECT_THAT(server_->Log(), Not(HasSubstr("recovery: "))) << "it is reported once";
}

// Some damage RocksDB cannot skip: then the log ends there, and the server says so and starts.
TEST_F(DamageTest, ARecordMayEndTheLog) {
  const std::vector<std::string> durable = {"--durable"};
  ServerProgram& first = Start(durable);
  std::vector<std::vector<int64_t>> ends(2);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(first.Create(Id(i)).ok());
    ends[i].push_back(0);
    for (int j = 0; j < 8; ++j) {
      ASSERT_TRUE(AppendRows(first, Id(i), /*rows=*/30, &ends[i].emplace_back()).ok());
    }
  }
  first.Kill();
  const std::vector<fs::path> files = Files("log", ".log");
  ASSERT_FALSE(files.empty());
  const std::string bytes = ReadFile(files.back().string());
  Flip(files.back(), static_cast<int64_t>(bytes.find_last_not_of('\0')) / 2);
  ServerProgram& second = Start(durable);
  EXPECT_THAT(second.Log(), HasSubstr("recovery: "));
  v1::Session session;
  ASSERT_TRUE(second.Get(Id(0), &session).ok());
  EXPECT_THAT(ends[0], ::testing::Contains(session.next_offset()));
  EXPECT_GT(session.next_offset(), 0);
  EXPECT_TRUE(second.Append(Id(0), "It goes on. ", nullptr, session.next_offset()).ok());
  EXPECT_EQ(second.Stop(), 0);
  Start(durable);
  EXPECT_THAT(server_->Log(), Not(HasSubstr("recovery: "))) << "it is reported once";
}

TEST_F(DamageTest, ASnapshotIsRefused) {
  ServerProgram& server = Start();
  ASSERT_TRUE(server.Create(Id(0)).ok());
  ASSERT_TRUE(server.Append(Id(0), testing::Prose(0, 2000)).ok());
  v1::SnapshotSessionRequest request;
  request.set_session_id(Id(0));
  request.set_snapshot_id("kept");
  v1::SnapshotSessionResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(
      server.sessions().SnapshotSession(&WithDeadline(context, 60), request, &response).ok());
  const fs::path path = Files("snapshots/tenant-", ".snapshot").at(0);
  const auto size = static_cast<int64_t>(fs::file_size(path));
  for (const int64_t at : {int64_t{20}, int64_t{100}, size / 2, size - 1}) {
    Flip(path, at);
    v1::RestoreSessionRequest restore;
    restore.set_snapshot_id("kept");
    restore.set_session_id("restored");
    v1::RestoreSessionResponse restored;
    grpc::ClientContext call;
    const grpc::Status status =
        server.sessions().RestoreSession(&WithDeadline(call, 60), restore, &restored);
    EXPECT_EQ(status.error_code(), StatusCode::DATA_LOSS) << at << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("snapshot_id=kept"));
    EXPECT_EQ(server.Get("restored").error_code(), StatusCode::NOT_FOUND);
    Flip(path, at);
  }
  EXPECT_FALSE(Says(server, Id(0)).empty());
}

}  // namespace
}  // namespace rasq
