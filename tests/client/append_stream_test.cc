#include "client/append_stream.h"

#include <gtest/gtest.h>

#include <future>

#include "client/rasq_client.h"
#include "tests/client/fake_session_service.h"

namespace rasq::client {
namespace {

std::string Letters(int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) text.push_back(static_cast<char>('a' + i * 7 % 26));
  return text;
}

class AppendStreamTest : public ::testing::Test {
 protected:
  void Start() {
    server_ = std::make_unique<FakeServer>(&service_);
    client_ = std::make_unique<Client>(
        ClientOptions{.address = server_->address(), .cancellation = &cancellation_});
  }
  std::unique_ptr<AppendStream> Stream() {
    return client_->StartAppend(
        "s",
        {.piece_bytes = 10, .max_in_flight_bytes = 40, .first_backoff = absl::Milliseconds(1)});
  }
  // Writes `text` in uneven parts and finishes.
  absl::StatusOr<AppendProgress> Send(AppendStream* stream, absl::string_view text) {
    for (size_t part = 1; !text.empty(); part = part * 3 % 37 + 1) {
      if (absl::Status status = stream->Write(text.substr(0, part)); !status.ok()) return status;
      text.remove_prefix(std::min(part, text.size()));
    }
    return stream->Finish();
  }

  FakeSessionService service_;
  Cancellation cancellation_;
  std::unique_ptr<FakeServer> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(AppendStreamTest, SendsPiecesAndTellsWhereItStands) {
  service_.set_text("before");
  Start();
  const std::string text = Letters(333);
  const auto stream = Stream();
  const auto progress = Send(stream.get(), text);
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(service_.text(), "before" + text);
  EXPECT_EQ(progress->acknowledged_bytes, 333);
  EXPECT_EQ(progress->appended_tokens, 333);
  EXPECT_EQ(progress->next_offset, 339);
  EXPECT_EQ(progress->reconnects, 0);
  EXPECT_LE(service_.largest_message(), 10);
  EXPECT_EQ(service_.streams(), 1);
  EXPECT_EQ(service_.routed_to(), "s");
}

TEST_F(AppendStreamTest, ScoresAreSummedOverConnections) {
  service_.plans_ = {{.good_messages = 3}, {.good_messages = 2, .drain = true}};
  Start();
  const std::string text = Letters(200);
  const auto stream = client_->StartAppend(
      "s", {.piece_bytes = 10, .first_backoff = absl::Milliseconds(1), .score = true});
  const auto progress = Send(stream.get(), text);
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(progress->reconnects, 2);
  EXPECT_EQ(progress->scored_tokens, 200);
  EXPECT_EQ(progress->logprob_sum, -100);

  const auto plain = Send(Stream().get(), text);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->scored_tokens, 0);
  EXPECT_EQ(plain->logprob_sum, 0);
}

struct Break {
  const char* name;
  StreamPlan plan;
};
void PrintTo(const Break& b, std::ostream* out) { *out << b.name; }

class BrokenStreamTest : public AppendStreamTest, public ::testing::WithParamInterface<Break> {};

TEST_P(BrokenStreamTest, LosesAndDoublesNothing) {
  service_.plans_ = {GetParam().plan, GetParam().plan, GetParam().plan};
  Start();
  const std::string text = Letters(500);
  const auto stream = Stream();
  const auto progress = Send(stream.get(), text);
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(service_.text(), text);
  EXPECT_EQ(progress->reconnects, 3);
  EXPECT_EQ(progress->acknowledged_bytes, 500);
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenStreamTest,
    ::testing::Values(Break{"MessageLost", {.good_messages = 3}},
                      Break{"AckLost", {.good_messages = 3, .take_last = true}},
                      Break{"FirstMessageLost", {}}, Break{"FirstAckLost", {.take_last = true}},
                      Break{"Drained", {.good_messages = 2, .take_last = true, .drain = true}}),
    ::testing::PrintToStringParamName());

TEST_F(AppendStreamTest, FlushReturnsWhenAllIsAbsorbed) {
  service_.plans_ = {{.good_messages = 1}};
  Start();
  const auto stream = Stream();
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(stream->Write(Letters(25)).ok());
    ASSERT_TRUE(stream->Flush().ok());
    EXPECT_EQ(stream->progress().acknowledged_bytes, 25 * i);
  }
  EXPECT_EQ(service_.text().size(), 125);
}

TEST_F(AppendStreamTest, GoesOnWithAServerThatComesBack) {
  Start();
  const auto stream = Stream();
  ASSERT_TRUE(stream->Write(Letters(100)).ok());
  ASSERT_TRUE(stream->Flush().ok());
  const int port = server_->port();
  server_.reset();
  server_ = std::make_unique<FakeServer>(&service_, port);
  ASSERT_TRUE(stream->Write(Letters(100)).ok());
  ASSERT_TRUE(stream->Finish().ok());
  EXPECT_EQ(service_.text(), Letters(100) + Letters(100));
}

TEST_F(AppendStreamTest, GivesUpWhenNothingComesAcross) {
  service_.plans_.assign(20, {});
  Start();
  const auto stream = Stream();
  const auto progress = Send(stream.get(), Letters(100));
  EXPECT_TRUE(absl::IsUnavailable(progress.status())) << progress.status();
  EXPECT_EQ(service_.streams(), 5);
  EXPECT_EQ(stream->Write("more"), progress.status());
}

TEST_F(AppendStreamTest, OtherErrorsEndIt) {
  service_.plans_ = {{.good_messages = 1, .end = grpc::StatusCode::RESOURCE_EXHAUSTED}};
  Start();
  const auto progress = Send(Stream().get(), Letters(100));
  EXPECT_TRUE(absl::IsResourceExhausted(progress.status())) << progress.status();
  EXPECT_EQ(service_.streams(), 1);
}

// What a server without room says: come back after 20 ms.
StreamPlan Full(int good_messages = 0) {
  return {.good_messages = good_messages,
          .end = grpc::StatusCode::RESOURCE_EXHAUSTED,
          .retry_nanos = 20'000'000};
}

TEST_F(AppendStreamTest, WaitsForAServerWithoutRoom) {
  service_.plans_ = {Full(), Full(3), Full(), Full()};
  Start();
  const absl::Time begin = absl::Now();
  const auto progress = Send(Stream().get(), Letters(100));
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(service_.text(), Letters(100));
  // After the first end, then again after those behind the bytes that came across.
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(20 + 20 + 40 + 80));
}

TEST_F(AppendStreamTest, GivesUpOnAServerThatStaysWithoutRoom) {
  service_.plans_.assign(20, Full());
  Start();
  const auto progress = Send(Stream().get(), Letters(100));
  EXPECT_TRUE(absl::IsResourceExhausted(progress.status())) << progress.status();
}

TEST_F(AppendStreamTest, AServerThatForgotIsDataLoss) {
  service_.plans_ = {{.good_messages = 3}};
  service_.next_offsets_ = {0, 10};
  Start();
  const auto progress = Send(Stream().get(), Letters(100));
  EXPECT_TRUE(absl::IsDataLoss(progress.status())) << progress.status();
}

TEST_F(AppendStreamTest, AnotherWriterIsAnError) {
  service_.plans_ = {{.good_messages = 3}};
  service_.next_offsets_ = {0, 1000};
  Start();
  const auto progress = Send(Stream().get(), Letters(100));
  EXPECT_TRUE(absl::IsFailedPrecondition(progress.status())) << progress.status();
}

TEST_F(AppendStreamTest, APositionThatMovedMeanwhileIsAskedForAgain) {
  service_.plans_ = {{.good_messages = 3, .take_last = true}};
  service_.next_offsets_ = {0, 30};  // the second is one message behind the truth
  Start();
  const auto stream = Stream();
  ASSERT_TRUE(stream->Write(Letters(100)).ok());
  const auto progress = stream->Finish();
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(service_.text(), Letters(100));
}

TEST_F(AppendStreamTest, BoundsWhatIsInFlight) {
  service_.ack_every_bytes_ = 35;
  Start();
  ASSERT_TRUE(Send(Stream().get(), Letters(1000)).ok());
  EXPECT_EQ(service_.text(), Letters(1000));
  EXPECT_LE(service_.largest_in_flight(), 50);  // the limit, and the message that crossed it
}

TEST_F(AppendStreamTest, CancelEndsAWriteThatWaits) {
  service_.silent_ = true;
  Start();
  const auto stream = Stream();
  auto result = std::async(std::launch::async, [&] { return stream->Write(Letters(1000)); });
  service_.WaitForBytes(40);
  cancellation_.Cancel();
  EXPECT_TRUE(absl::IsCancelled(result.get()));
}

TEST_F(AppendStreamTest, UnknownSession) {
  Start();
  const auto stream = client_->StartAppend("other");
  EXPECT_TRUE(absl::IsNotFound(stream->Finish().status()));
}

TEST_F(AppendStreamTest, NoServer) {
  Start();
  server_.reset();
  EXPECT_TRUE(absl::IsUnavailable(Stream()->Write("text")));
}

TEST_F(AppendStreamTest, CharactersMayBeCutBetweenWrites) {
  Start();
  const std::string text = "Zürich: 1 €, 𝄞, 東京。 Zürich: 1 €, 𝄞, 東京。";
  const auto stream = Stream();
  for (const char byte : text) ASSERT_TRUE(stream->Write(std::string(1, byte)).ok());
  ASSERT_TRUE(stream->Finish().ok());
  EXPECT_EQ(service_.text(), text);
}

TEST_F(AppendStreamTest, RefusesWhatIsNotUtf8) {
  Start();
  const auto stream = Stream();
  ASSERT_TRUE(stream->Write("good ").ok());
  const absl::Status status = stream->Write("bad \xFF");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("byte 9"), std::string::npos) << status;

  const auto cut = Stream();
  ASSERT_TRUE(cut->Write("\xE2\x82").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(cut->Finish().status()));
}

}  // namespace
}  // namespace rasq::client
