// Generate over real gRPC: results, cancelling, deadlines, one at a time.
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

v1::GenerateRequest Short(const std::string& id, int tokens) {
  v1::GenerateRequest request = EndlessGeneration(id);
  request.mutable_stop()->set_max_new_tokens(tokens);
  return request;
}

class GenerateTest : public ServerTest {
 protected:
  void SetUp() override {
    StartServer();
    ASSERT_TRUE(Create("s").ok());
    ASSERT_TRUE(Append("s", "Once upon a time there was a session that never ended. ").ok());
  }

  // Waits until the session takes a generation again: a cancelled one ends within a step.
  grpc::Status GenerateWhenFree(const v1::GenerateRequest& request) {
    grpc::Status status;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    do {
      status = Generate(request);
    } while (status.error_code() == StatusCode::ABORTED &&
             std::chrono::steady_clock::now() < deadline);
    return status;
  }
};

TEST_F(GenerateTest, TextTokensSummary) {
  v1::GenerateRequest request = Short("s", 12);
  request.set_logprobs(2);
  grpc::ClientContext context;
  const auto reader = sessions().Generate(&WithDeadline(context), request);
  v1::GenerateResponse response;
  int tokens = 0;
  std::string text;
  bool ended = false;
  while (reader->Read(&response)) {
    EXPECT_FALSE(ended);
    tokens += response.tokens_size();
    text += response.text();
    for (const v1::GeneratedToken& token : response.tokens()) {
      EXPECT_LE(token.logprob(), 0);
      EXPECT_EQ(token.alternatives_size(), 2);
    }
    ended = response.has_summary();
    EXPECT_TRUE(!ended || (response.text().empty() && response.tokens().empty()));
  }
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_TRUE(ended);
  EXPECT_EQ(tokens, 12);
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(response.summary().finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.summary().output_tokens(), 12);
  EXPECT_GT(response.summary().prompt_tokens(), 0);
  EXPECT_GT(response.summary().context_tokens(), 0);
}

TEST_F(GenerateTest, SameSeedSameText) {
  v1::GenerateRequest request = Short("s", 16);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(42);
  std::string first, second;
  ASSERT_TRUE(Generate(request, &first).ok());
  ASSERT_TRUE(Generate(request, &second).ok());
  EXPECT_EQ(first, second);
}

TEST_F(GenerateTest, DiscardLeavesNoTraceAndCommitDoes) {
  v1::Session before, after;
  ASSERT_TRUE(Get("s", &before).ok());
  v1::GenerateRequest request = Short("s", 8);
  ASSERT_TRUE(Generate(request).ok());
  ASSERT_TRUE(Get("s", &after).ok());
  EXPECT_EQ(after.context_tokens(), before.context_tokens());
  request.set_commit_output(v1::COMMIT_OUTPUT_COMMIT);
  ASSERT_TRUE(Generate(request).ok());
  ASSERT_TRUE(Get("s", &after).ok());
  EXPECT_GT(after.context_tokens(), before.context_tokens() + 8);
}

TEST_F(GenerateTest, SecondOneIsAborted) {
  RunningGeneration generation(sessions(), EndlessGeneration("s"));
  EXPECT_EQ(Generate(Short("s", 1)).error_code(), StatusCode::ABORTED);
  generation.Cancel();
  EXPECT_EQ(generation.Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(GenerateWhenFree(Short("s", 1)).ok());
}

TEST_F(GenerateTest, DeadlineFreesTheSession) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const auto reader = sessions().Generate(&context, EndlessGeneration("s"));
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(GenerateWhenFree(Short("s", 1)).ok());
}

// Cancels at every moment of a call's life, from before it is read to well into its stream.
TEST_F(GenerateTest, CancelAtAnyMoment) {
  for (int reads = 0; reads < 12; ++reads) {
    grpc::ClientContext context;
    const auto reader = sessions().Generate(&WithDeadline(context), EndlessGeneration("s"));
    v1::GenerateResponse response;
    for (int i = 0; i < reads / 2 && reader->Read(&response); ++i) {
    }
    context.TryCancel();
    while (reader->Read(&response)) {
    }
    const StatusCode code = reader->Finish().error_code();
    EXPECT_TRUE(code == StatusCode::CANCELLED || code == StatusCode::ABORTED) << code;
  }
  EXPECT_TRUE(GenerateWhenFree(Short("s", 1)).ok());
}

TEST_F(GenerateTest, BadRequestsAreRefused) {
  EXPECT_EQ(Generate(Short("nobody", 1)).error_code(), StatusCode::NOT_FOUND);
  v1::GenerateRequest request = Short("s", 1);
  request.mutable_sampling()->set_temperature(-1);
  EXPECT_EQ(Generate(request).error_code(), StatusCode::INVALID_ARGUMENT);
  request = Short("s", 1 << 30);
  EXPECT_EQ(Generate(request).error_code(), StatusCode::INVALID_ARGUMENT);
  request = Short("s", 1);
  request.mutable_prompt()->mutable_token_ids()->add_ids(-1);
  EXPECT_EQ(Generate(request).error_code(), StatusCode::INVALID_ARGUMENT);
}

// With so many alternatives the whole is larger than a connection's window: writes wait, and chunks
// merge.
TEST_F(GenerateTest, SlowReaderGetsAll) {
  v1::GenerateRequest request = Short("s", 400);
  request.set_logprobs(20);
  grpc::ClientContext context;
  const auto reader = sessions().Generate(&WithDeadline(context), request);
  // Others are served while nobody reads.
  ASSERT_TRUE(Create("other").ok());
  ASSERT_TRUE(Append("other", "Something else entirely. ").ok());
  ASSERT_TRUE(Generate(Short("other", 20)).ok());
  v1::GenerateResponse response;
  int tokens = 0;
  while (reader->Read(&response)) tokens += response.tokens_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 400);
}

TEST_F(GenerateTest, SessionsDoNotDisturbEachOther) {
  constexpr int kSessions = 4;
  std::vector<std::string> texts(kSessions);
  std::vector<grpc::Status> statuses(kSessions);
  for (int i = 0; i < kSessions; ++i) {
    const std::string id = "t" + std::to_string(i);
    ASSERT_TRUE(Create(id).ok());
    ASSERT_TRUE(Append(id, "Once upon a time there was a session that never ended. ").ok());
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < kSessions; ++i) {
    threads.emplace_back([&, i] {
      const auto stub = v1::SessionService::NewStub(Connect());
      grpc::ClientContext context;
      const auto reader =
          stub->Generate(&WithDeadline(context), Short("t" + std::to_string(i), 24));
      v1::GenerateResponse response;
      while (reader->Read(&response)) texts[i] += response.text();
      statuses[i] = reader->Finish();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kSessions; ++i) {
    EXPECT_TRUE(statuses[i].ok()) << statuses[i].error_message();
    EXPECT_EQ(texts[i], texts[0]);
  }
}

}  // namespace
}  // namespace rasq
