// Append and StreamAppend over real gRPC.
#include <thread>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;
using Stream = grpc::ClientReaderWriter<v1::StreamAppendRequest, v1::StreamAppendResponse>;

v1::StreamAppendRequest Piece(const std::string& id, const std::string& text) {
  v1::StreamAppendRequest request;
  request.set_session_id(id);
  request.mutable_content()->set_text(text);
  return request;
}

// Reads to the end; `last` is the last ack.
grpc::Status Drain(Stream& stream, v1::StreamAppendResponse& last) {
  while (stream.Read(&last)) {
  }
  return stream.Finish();
}

class AppendTest : public ServerTest {};

TEST_F(AppendTest, AbsorbedWhenItReturns) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  v1::AppendResponse response;
  ASSERT_TRUE(Append("s", "The quick brown fox jumps over the lazy dog. ", &response).ok());
  EXPECT_GT(response.appended_tokens(), 0);
  EXPECT_EQ(response.next_offset(), 45);
  v1::Session session;
  ASSERT_TRUE(Get("s", &session).ok());
  EXPECT_EQ(session.context_tokens(), response.context_tokens());
  EXPECT_EQ(session.next_offset(), 45);
  EXPECT_EQ(session.backlog_tokens(), 0);
}

TEST_F(AppendTest, NothingIsAppendedByAnEmptyText) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  v1::AppendResponse response;
  const grpc::Status status = Append("s", "", &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.appended_tokens(), 0);
  EXPECT_EQ(response.next_offset(), 0);
  v1::AppendRequest unset;
  unset.set_session_id("s");
  grpc::ClientContext context;
  EXPECT_EQ(sessions().Append(&WithDeadline(context), unset, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(AppendTest, OffsetsMustFit) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  v1::AppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("abc ");
  request.set_offset(0);
  v1::AppendResponse response;
  grpc::ClientContext one, two, three;
  ASSERT_TRUE(sessions().Append(&WithDeadline(one), request, &response).ok());
  EXPECT_EQ(sessions().Append(&WithDeadline(two), request, &response).error_code(),
            StatusCode::OUT_OF_RANGE);
  request.set_offset(4);
  EXPECT_TRUE(sessions().Append(&WithDeadline(three), request, &response).ok());
  EXPECT_EQ(response.next_offset(), 8);
}

TEST_F(AppendTest, BadRequestsAreRefused) {
  StartServer();
  EXPECT_EQ(Append("nobody", "text").error_code(), StatusCode::NOT_FOUND);
  ASSERT_TRUE(Create("s").ok());
  for (const int32_t id : {-1, 1 << 30}) {
    v1::AppendRequest request;
    request.set_session_id("s");
    request.mutable_content()->mutable_token_ids()->add_ids(id);
    v1::AppendResponse response;
    grpc::ClientContext context;
    const grpc::Status status = sessions().Append(&WithDeadline(context), request, &response);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
    EXPECT_NE(status.error_message().find("content.token_ids.ids[0]"), std::string::npos);
  }
}

// Sends bytes as they are: the generated stub would not send a string that is not UTF-8.
TEST_F(AppendTest, TextThatIsNotUtf8IsNamed) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  const std::string bytes = std::string("\x0A\x01s\x12\x05\x0A\x03") + "ab\xFF";
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  for (const auto& [method, expected] : std::vector<std::pair<std::string, std::string>>{
           {"/rasq.v1.SessionService/Append", "content.text: not UTF-8 at byte 2"},
           {"/rasq.v1.SessionService/GetSession", ""},
           {"/rasq.v1.SessionService/Generate", "prompt.text: not UTF-8 at byte 2"}}) {
    grpc::GenericStub stub(Connect());
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    const auto call = stub.PrepareUnaryCall(&WithDeadline(context), method, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    if (expected.empty()) {
      EXPECT_TRUE(status.ok()) << status.error_message();  // field 2 is unknown there
    } else {
      EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << method;
      EXPECT_EQ(status.error_message(), expected);
    }
  }
}

TEST_F(AppendTest, StreamAcksWhatItAbsorbed) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  std::string text;
  for (int i = 0; i < 50; ++i) {
    const std::string piece = "Line " + std::to_string(i) + " of the wire.\n";
    text += piece;
    ASSERT_TRUE(stream->Write(Piece(i == 0 ? "s" : "", piece)));
  }
  stream->WritesDone();
  v1::StreamAppendResponse last;
  ASSERT_TRUE(Drain(*stream, last).ok());
  EXPECT_EQ(last.next_offset(), static_cast<int64_t>(text.size()));
  EXPECT_GT(last.accepted_tokens(), 0);
  EXPECT_EQ(last.absorbed_tokens(), last.accepted_tokens());
  EXPECT_FALSE(last.draining());

  // The same as in one piece.
  ASSERT_TRUE(Create("whole").ok());
  v1::AppendResponse whole;
  ASSERT_TRUE(Append("whole", text, &whole).ok());
  EXPECT_EQ(whole.context_tokens(), last.context_tokens());
}

// In one call, and over a stream of which the messages ask one by one.
TEST_F(AppendTest, ScoresWhatIsAskedFor) {
  StartServer();
  ASSERT_TRUE(Create("whole").ok());
  ASSERT_TRUE(Create("streamed").ok());
  ASSERT_TRUE(Create("plain").ok());
  const std::string text = "One line of the wire. And another line of the wire.\n";
  v1::AppendRequest request;
  request.set_session_id("whole");
  request.mutable_content()->set_text(text);
  request.set_score(true);
  v1::AppendResponse whole, plain;
  grpc::ClientContext call;
  ASSERT_TRUE(sessions().Append(&WithDeadline(call), request, &whole).ok());
  EXPECT_EQ(whole.scored_tokens(), whole.appended_tokens() - 1);
  EXPECT_LT(whole.logprob_sum(), 0);
  ASSERT_TRUE(Append("plain", text, &plain).ok());
  EXPECT_EQ(plain.appended_tokens(), whole.appended_tokens());
  EXPECT_EQ(plain.scored_tokens(), 0);
  EXPECT_EQ(plain.logprob_sum(), 0);

  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  for (size_t at = 0; at < text.size(); at += 20) {
    v1::StreamAppendRequest piece = Piece("streamed", text.substr(at, 20));
    piece.set_score(true);
    ASSERT_TRUE(stream->Write(piece));
  }
  ASSERT_TRUE(stream->Write(Piece("streamed", text)));
  stream->WritesDone();
  v1::StreamAppendResponse last;
  ASSERT_TRUE(Drain(*stream, last).ok());
  EXPECT_GT(last.absorbed_tokens(), 2 * last.scored_tokens());
  // What the last scored piece held back came with the next one, which did not ask.
  EXPECT_LE(last.scored_tokens(), whole.scored_tokens());
  EXPECT_GE(last.scored_tokens(), whole.scored_tokens() - 2);
  EXPECT_LT(last.logprob_sum(), 0);

  request.mutable_content()->mutable_embeddings();
  grpc::ClientContext refused;
  const grpc::Status status = sessions().Append(&WithDeadline(refused), request, &whole);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("score=true"), std::string::npos) << status.error_message();
}

TEST_F(AppendTest, StreamGoesOnFromNextOffset) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  {
    grpc::ClientContext context;
    const auto stream = sessions().StreamAppend(&WithDeadline(context));
    ASSERT_TRUE(stream->Write(Piece("s", "first half, ")));
    v1::StreamAppendResponse ack;
    while (ack.next_offset() < 12) ASSERT_TRUE(stream->Read(&ack));
    context.TryCancel();
    EXPECT_EQ(Drain(*stream, ack).error_code(), StatusCode::CANCELLED);
  }
  v1::Session session;
  ASSERT_TRUE(Get("s", &session).ok());
  ASSERT_EQ(session.next_offset(), 12);
  for (const int64_t offset : {0, 12}) {
    grpc::ClientContext context;
    const auto stream = sessions().StreamAppend(&WithDeadline(context));
    v1::StreamAppendRequest piece = Piece("s", "second half");
    piece.set_offset(offset);
    stream->Write(piece);
    stream->WritesDone();
    v1::StreamAppendResponse last;
    EXPECT_EQ(Drain(*stream, last).error_code(),
              offset == 0 ? StatusCode::OUT_OF_RANGE : StatusCode::OK);
    EXPECT_EQ(last.next_offset(), offset == 0 ? 12 : 23);
  }
}

TEST_F(AppendTest, StreamsOfOneMessage) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  struct Case {
    v1::StreamAppendRequest request;
    StatusCode code;
  };
  v1::StreamAppendRequest only_id;
  only_id.set_session_id("s");
  v1::StreamAppendRequest negative = Piece("s", "x");
  negative.set_offset(-1);
  for (const Case& c : {Case{only_id, StatusCode::OK}, Case{Piece("s", ""), StatusCode::OK},
                        Case{Piece("", "text"), StatusCode::INVALID_ARGUMENT},
                        Case{Piece("nobody", "text"), StatusCode::NOT_FOUND},
                        Case{negative, StatusCode::INVALID_ARGUMENT}}) {
    grpc::ClientContext context;
    const auto stream = sessions().StreamAppend(&WithDeadline(context));
    stream->Write(c.request);
    stream->WritesDone();
    v1::StreamAppendResponse last;
    EXPECT_EQ(Drain(*stream, last).error_code(), c.code) << c.request.ShortDebugString();
  }
  grpc::ClientContext context;
  const auto silent = sessions().StreamAppend(&WithDeadline(context));
  silent->WritesDone();
  v1::StreamAppendResponse last;
  EXPECT_EQ(Drain(*silent, last).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(AppendTest, StreamKeepsToItsSession) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Create("t").ok());
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  ASSERT_TRUE(stream->Write(Piece("s", "mine ")));
  ASSERT_TRUE(stream->Write(Piece("s", "too ")));
  stream->Write(Piece("t", "not mine"));
  v1::StreamAppendResponse last;
  const grpc::Status status = Drain(*stream, last);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(last.next_offset(), 9);
}

// A backlog far smaller than the text: the stream must wait for room, not fail.
TEST_F(AppendTest, StreamWaitsForRoom) {
  ServerOptions options = TestServerOptions();
  options.engine.max_backlog_tokens = 64;
  StartServer(options);
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&WithDeadline(context));
  const std::string piece = "Thirteen words make about as many tokens, which is a fifth of it. ";
  int64_t sent = 0;
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(stream->Write(Piece("s", piece)));
    sent += static_cast<int64_t>(piece.size());
  }
  stream->WritesDone();
  v1::StreamAppendResponse last;
  const grpc::Status status = Drain(*stream, last);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(last.next_offset(), sent);
  // A single message that no backlog can hold is refused.
  std::string long_text;
  for (int i = 0; i < 40; ++i) long_text += piece;
  EXPECT_EQ(Append("s", long_text).error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(AppendTest, ManyStreamsAtOnce) {
  StartServer();
  constexpr int kStreams = 4;
  for (int i = 0; i < kStreams; ++i) ASSERT_TRUE(Create("s" + std::to_string(i)).ok());
  std::vector<std::thread> threads;
  std::vector<grpc::Status> statuses(kStreams);
  std::vector<v1::StreamAppendResponse> last(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    threads.emplace_back([&, i] {
      const auto stub = v1::SessionService::NewStub(Connect());
      grpc::ClientContext context;
      const auto stream = stub->StreamAppend(&WithDeadline(context));
      for (int n = 0; n < 30; ++n) stream->Write(Piece("s" + std::to_string(i), "Some words. "));
      stream->WritesDone();
      statuses[i] = Drain(*stream, last[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kStreams; ++i) {
    EXPECT_TRUE(statuses[i].ok()) << statuses[i].error_message();
    EXPECT_EQ(last[i].next_offset(), 30 * 12);
    EXPECT_EQ(last[i].context_tokens(), last[0].context_tokens());
  }
}

TEST_F(AppendTest, WhatWasAcceptedStaysWhenTheClientGivesUp) {
  StartServer();
  ASSERT_TRUE(Create("s").ok());
  std::string text;
  while (text.size() < 200'000) text += "One more sentence for the backlog. ";
  v1::AppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text(text);
  v1::AppendResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  const grpc::Status status = sessions().Append(&context, request, &response);
  EXPECT_TRUE(status.ok() || status.error_code() == StatusCode::DEADLINE_EXCEEDED)
      << status.error_message();
  v1::Session session;
  ASSERT_TRUE(Get("s", &session).ok());
  EXPECT_EQ(session.next_offset(), static_cast<int64_t>(text.size()));
  EXPECT_TRUE(Delete("s").ok());
}

TEST_F(AppendTest, TenMegabytesAndTheServerGoesOn) {
  StartServer();
  ASSERT_TRUE(Create("big").ok());
  ASSERT_TRUE(Create("small").ok());
  std::string text;
  while (text.size() < 10'000'000) text += "The wire never stops, and neither does the reader. ";
  std::thread sender([&] {
    grpc::ClientContext context;
    v1::AppendRequest request;
    request.set_session_id("big");
    request.mutable_content()->set_text(text);
    v1::AppendResponse response;
    const grpc::Status status =
        v1::SessionService::NewStub(Connect())->Append(&WithDeadline(context), request, &response);
    // The session goes before all is absorbed.
    EXPECT_FALSE(status.ok());
  });
  v1::Session session;
  while (session.next_offset() == 0) ASSERT_TRUE(Get("big", &session).ok());
  EXPECT_EQ(session.next_offset(), static_cast<int64_t>(text.size()));
  EXPECT_TRUE(Append("small", "Others are served meanwhile. ").ok());
  EXPECT_TRUE(Delete("big").ok());
  sender.join();
  EXPECT_TRUE(Append("small", "And afterwards. ").ok());
}

}  // namespace
}  // namespace rasq
