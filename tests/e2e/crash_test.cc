// A durable server that is killed at any moment, again and again: what was acknowledged is there
// when it is back, clients go on from next_offset, and in the end the sessions say what they would
// have said without a crash. RASQ_CRASH_ROUNDS sets how often it is killed.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kTokens = 24;

// A client with a session of its own and a script without end: what it appends, and after every few
// appends a generation that it commits. It knows which of its steps were acknowledged.
class Talker {
 public:
  enum class Way { kUnary, kStream };
  Talker(int number, Way way) : number_(number), way_(way), id_(absl::StrCat("talker-", number)) {}

  const std::string& id() const { return id_; }
  int64_t done() const { return done_; }
  int64_t tokens() const { return tokens_; }

  // The server is back: finds out which steps it has, and what of them it had acknowledged.
  void Resume(ServerProgram& server) {
    v1::Session session;
    const grpc::Status status = server.Get(id_, &session);
    if (!created_ && status.error_code() == grpc::StatusCode::NOT_FOUND) return;
    ASSERT_TRUE(status.ok()) << id_ << ": " << status.error_message();
    created_ = true;
    const int64_t acknowledged = done_;
    const int64_t tokens = session.context_tokens() + session.backlog_tokens();
    EXPECT_GE(session.next_offset(), offset_) << id_;
    EXPECT_GE(tokens, tokens_) << id_;
    // A commit moves no offset; it was the last step that was sent, so its tokens show.
    if (done_ < sent_ && IsQuestion(done_) && tokens > tokens_) ++done_;
    while (done_ < sent_ && offset_ < session.next_offset()) {
      offset_ += static_cast<int64_t>(Text(done_).size());
      ++done_;
    }
    EXPECT_EQ(offset_, session.next_offset()) << id_ << " kept a part of step " << done_;
    unacknowledged_ += done_ - acknowledged;
    tokens_ = tokens;
    sent_ = done_;
  }

  // Until the server is gone.
  void Talk(ServerProgram& server) {
    while (Step(server, way_)) continue;
  }
  // On a server that stays: the same steps, in other pieces.
  void Repeat(ServerProgram& server, int64_t steps) {
    ASSERT_TRUE(server.Create(id_).ok());
    created_ = true;
    while (done_ < steps) ASSERT_TRUE(Step(server, Way::kUnary));
  }
  int64_t unacknowledged() const { return unacknowledged_; }

 private:
  static bool IsQuestion(int64_t step) { return step % 12 == 11; }
  // Short ones and long ones; most end inside a word.
  std::string Text(int64_t step) const {
    std::mt19937_64 random(1000 * number_ + step);
    const auto length = static_cast<int64_t>(random() % 8 == 0 ? 3000 : 1 + random() % 120);
    return testing::Prose(random(), length).substr(0, length);
  }

  // Some steps, acknowledged. False if the server did not answer.
  bool Step(ServerProgram& server, Way way) {
    if (!created_) {
      created_ = server.Create(id_).ok();
      return created_;
    }
    sent_ = done_ + 1;
    if (IsQuestion(done_)) return Ask(server);
    if (way == Way::kStream) return Stream(server);
    v1::AppendResponse response;
    if (!server.Append(id_, Text(done_), &response, offset_).ok()) return false;
    EXPECT_EQ(response.next_offset(), offset_ + static_cast<int64_t>(Text(done_).size()));
    offset_ = response.next_offset();
    tokens_ = response.context_tokens();
    ++done_;
    return true;
  }
  bool Ask(ServerProgram& server) {
    v1::GenerateRequest request = Question(id_, /*tokens=*/6);
    request.set_commit_output(v1::COMMIT_OUTPUT_COMMIT);
    v1::GenerateSummary summary;
    if (!server.Generate(request, nullptr, &summary).ok()) return false;
    // The prompt, what was said, and what the text before held back: at least so many.
    tokens_ += summary.output_tokens() + summary.prompt_tokens();
    ++done_;
    return true;
  }
  // A stream of the appends up to the next question. A step counts as acknowledged when all of the
  // stream's tokens so far are absorbed.
  bool Stream(ServerProgram& server) {
    grpc::ClientContext context;
    const auto stream = server.sessions().StreamAppend(&WithDeadline(context, 60));
    v1::StreamAppendResponse ack;
    bool alive = true;
    while (alive && !IsQuestion(sent_ - 1)) {
      v1::StreamAppendRequest request;
      request.set_session_id(id_);
      request.mutable_content()->set_text(Text(sent_ - 1));
      alive = stream->Write(request);
      if (alive) ++sent_;
    }
    --sent_;
    stream->WritesDone();
    int64_t absorbed = 0;
    while (stream->Read(&ack)) {
      if (ack.absorbed_tokens() == absorbed) continue;
      absorbed = ack.absorbed_tokens();
      tokens_ = std::max(tokens_, ack.context_tokens());
      if (absorbed != ack.accepted_tokens()) continue;
      while (offset_ < ack.next_offset()) {
        offset_ += static_cast<int64_t>(Text(done_).size());
        ++done_;
      }
    }
    sent_ = std::max(sent_, done_ + (alive ? 0 : 1));
    return stream->Finish().ok();
  }

  const int number_;
  const Way way_;
  const std::string id_;
  bool created_ = false;
  int64_t sent_ = 0;    // steps that the server may have
  int64_t done_ = 0;    // steps that it has
  int64_t offset_ = 0;  // after those
  int64_t tokens_ = 0;  // at least so many of them
  int64_t unacknowledged_ = 0;
};

// Sessions that come and go: one whose deletion was acknowledged stays away.
class Deleter {
 public:
  void Run(ServerProgram& server) {
    while (true) {
      const std::string id = absl::StrCat("short-", next_++);
      if (!server.Create(id).ok() || !server.Append(id, "Soon forgotten. ").ok() ||
          !server.Delete(id).ok()) {
        return;
      }
      deleted_.push_back(id);
    }
  }
  void Check(ServerProgram& server) {
    for (const std::string& id : deleted_) {
      EXPECT_EQ(server.Get(id).error_code(), grpc::StatusCode::NOT_FOUND) << id;
    }
    deleted_.clear();
  }

 private:
  int next_ = 0;
  std::vector<std::string> deleted_;
};

TEST(CrashTest, NothingAcknowledgedIsLost) {
  const int rounds = NumberOr("RASQ_CRASH_ROUNDS", 5);
  constexpr int kTalkers = 6;
  testing::TemporaryDirectory directory;
  // Fewer slots than sessions: files of parked states are among what a crash interrupts.
  const std::vector<std::string> flags = {"--durable", "--state-dir=" + directory.path(),
                                          "--max-sessions=3"};
  std::vector<Talker> talkers;
  for (int i = 0; i < kTalkers; ++i) {
    talkers.emplace_back(i, i % 2 == 0 ? Talker::Way::kUnary : Talker::Way::kStream);
  }
  Deleter deleter;
  std::mt19937_64 random(20261122);
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    ServerProgram server(RASQ_SERVER_BINARY, flags);
    ASSERT_TRUE(server.listening()) << server.Log();
    EXPECT_THAT(server.Log(), Not(HasSubstr("recovery:")));
    for (Talker& talker : talkers) talker.Resume(server);
    deleter.Check(server);
    if (HasFailure()) return;
    std::vector<std::thread> threads;
    for (Talker& talker : talkers) threads.emplace_back([&] { talker.Talk(server); });
    threads.emplace_back([&] { deleter.Run(server); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 1000));
    server.Kill();
    for (std::thread& thread : threads) thread.join();
  }

  ServerProgram last(RASQ_SERVER_BINARY, flags);
  ServerProgram unbroken(RASQ_SERVER_BINARY, {"--max-sessions=6"});
  ASSERT_TRUE(last.listening() && unbroken.listening());
  int64_t steps = 0, tokens = 0, unacknowledged = 0;
  for (int i = 0; i < kTalkers; ++i) {
    SCOPED_TRACE(talkers[i].id());
    talkers[i].Resume(last);
    ASSERT_GT(talkers[i].done(), 0);
    Talker again(i, Talker::Way::kUnary);
    again.Repeat(unbroken, talkers[i].done());
    std::string wanted, got;
    ASSERT_TRUE(unbroken.Generate(Question(again.id(), kTokens), &wanted).ok());
    ASSERT_TRUE(last.Generate(Question(again.id(), kTokens), &got).ok());
    EXPECT_EQ(got, wanted);
    v1::Session after, before;
    ASSERT_TRUE(last.Get(again.id(), &after).ok() && unbroken.Get(again.id(), &before).ok());
    EXPECT_EQ(after.context_tokens(), before.context_tokens());
    steps += talkers[i].done();
    tokens += talkers[i].tokens();
    unacknowledged += talkers[i].unacknowledged();
  }
  EXPECT_EQ(last.Stop(), 0);
  std::printf("%d kills: %lld calls of %lld tokens kept, %lld of them not acknowledged\n", rounds,
              static_cast<long long>(steps), static_cast<long long>(tokens),
              static_cast<long long>(unacknowledged));
}

}  // namespace
}  // namespace rasq
