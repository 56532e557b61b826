#include "client/rasq_client.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "client/rpc_status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/client/fake_session_service.h"

namespace rasq::client {
namespace {

TEST(RpcStatusTest, EveryCodeKeepsItsNumberAndMessage) {
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status = FromGrpc({static_cast<grpc::StatusCode>(code), "top_p=2"});
    EXPECT_EQ(status.raw_code(), code);
    EXPECT_EQ(status.message(), "top_p=2");
    EXPECT_FALSE(RetryDelay(status).has_value());
  }
}

TEST(RpcStatusTest, KeepsDetails) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  retry.mutable_retry_delay()->set_nanos(500000000);
  google::rpc::ErrorInfo info;
  info.set_reason("NO_SLOT");
  (*info.mutable_metadata())["request_id"] = "r-1";
  google::rpc::Status details;
  details.add_details()->PackFrom(retry);
  details.add_details()->PackFrom(info);
  const absl::Status status =
      FromGrpc({grpc::StatusCode::RESOURCE_EXHAUSTED, "full", details.SerializeAsString()});
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(RetryDelay(status), absl::Milliseconds(2500));
  EXPECT_EQ(RequestId(status), "r-1");
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo");
  ASSERT_TRUE(payload.has_value());
  EXPECT_NE(std::string(*payload).find("NO_SLOT"), std::string::npos);
}

TEST(RpcStatusTest, DetailsThatAreNoneAreLeftOut) {
  const absl::Status status = FromGrpc({grpc::StatusCode::INTERNAL, "x", "\xFF\xFF"});
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_FALSE(RetryDelay(status).has_value());
}

// Streams "one ", "two ", then the summary; or goes on for ever.
class FakeGenerateService : public FakeSessionService {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    v1::GenerateResponse piece;
    for (const char* text : {"one ", "two "}) {
      piece.set_text(text);
      writer->Write(piece);
    }
    while (request->stop().ignore_eos() && !context->IsCancelled()) writer->Write(piece);
    if (request->prompt().text() == "fail") return {grpc::StatusCode::ABORTED, "busy"};
    if (request->prompt().text() == "cut") return grpc::Status::OK;
    piece.set_text("three");
    piece.mutable_summary()->set_output_tokens(3);
    writer->Write(piece);
    return grpc::Status::OK;
  }
  grpc::Status ListSessions(grpc::ServerContext*, const v1::ListSessionsRequest* request,
                            v1::ListSessionsResponse* response) override {
    const int page = request->page_token().empty() ? 0 : std::stoi(request->page_token());
    response->add_sessions()->set_session_id("s" + std::to_string(page));
    if (page < 2) response->set_next_page_token(std::to_string(page + 1));
    return grpc::Status::OK;
  }
  grpc::Status ForkSession(grpc::ServerContext* context, const v1::ForkSessionRequest* request,
                           v1::ForkSessionResponse* response) override {
    const auto routed = context->client_metadata().find("x-rasq-session");
    if (routed == context->client_metadata().end() || routed->second != "s") {
      return {grpc::StatusCode::INTERNAL, "not routed to the session's server"};
    }
    response->mutable_session()->set_session_id(request->session_id() + request->new_session_id());
    return grpc::Status::OK;
  }
  grpc::Status SnapshotSession(grpc::ServerContext*, const v1::SnapshotSessionRequest* request,
                               v1::SnapshotSessionResponse* response) override {
    response->mutable_snapshot()->set_session_id(request->session_id());
    response->mutable_snapshot()->set_snapshot_id(request->snapshot_id());
    return grpc::Status::OK;
  }
  grpc::Status RestoreSession(grpc::ServerContext*, const v1::RestoreSessionRequest* request,
                              v1::RestoreSessionResponse* response) override {
    response->mutable_session()->set_session_id(request->snapshot_id() + request->session_id());
    return grpc::Status::OK;
  }
  grpc::Status ListSnapshots(grpc::ServerContext*, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override {
    const bool first = request->page_token().empty();
    response->add_snapshots()->set_snapshot_id(first ? "noon" : "evening");
    if (first) response->set_next_page_token("2");
    return grpc::Status::OK;
  }
  grpc::Status DeleteSnapshot(grpc::ServerContext*, const v1::DeleteSnapshotRequest* request,
                              v1::DeleteSnapshotResponse*) override {
    return request->snapshot_id() == "noon" ? grpc::Status::OK
                                            : grpc::Status(grpc::StatusCode::NOT_FOUND, "none");
  }
};

class ClientTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::GenerateSummary> Generate(const std::string& prompt) {
    request_.set_session_id("s");
    request_.mutable_prompt()->set_text(prompt);
    return client_.Generate(request_,
                            [this](const v1::GenerateResponse& piece) { text_ += piece.text(); });
  }

  FakeGenerateService service_;
  FakeServer server_{&service_};
  Client client_{{.address = server_.address()}};
  v1::GenerateRequest request_;
  std::string text_;
};

TEST_F(ClientTest, GenerateHandsOutPiecesThenTheSummary) {
  const auto summary = Generate("p");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(text_, "one two three");
  EXPECT_EQ(summary->output_tokens(), 3);
}

TEST_F(ClientTest, GenerateFails) {
  EXPECT_TRUE(absl::IsAborted(Generate("fail").status()));
  EXPECT_TRUE(absl::IsInternal(Generate("cut").status()));
}

TEST_F(ClientTest, CancelFromTheCallbackEndsAnEndlessGeneration) {
  Cancellation cancellation;
  request_.mutable_stop()->set_ignore_eos(true);
  const auto summary = client_.Generate(
      request_, [&](const v1::GenerateResponse&) { cancellation.Cancel(); }, &cancellation);
  EXPECT_TRUE(absl::IsCancelled(summary.status())) << summary.status();
  // What was cancelled stays so.
  EXPECT_TRUE(absl::IsCancelled(client_
                                    .Generate(
                                        request_, [](const v1::GenerateResponse&) {}, &cancellation)
                                    .status()));
}

TEST_F(ClientTest, DeadlineEndsAnEndlessGeneration) {
  Client hasty({.address = server_.address(), .deadline = absl::Milliseconds(50)});
  request_.mutable_stop()->set_ignore_eos(true);
  const auto summary = hasty.Generate(request_, [](const v1::GenerateResponse&) {});
  EXPECT_TRUE(absl::IsDeadlineExceeded(summary.status())) << summary.status();
}

TEST_F(ClientTest, ListsAllPages) {
  const auto sessions = client_.ListSessions();
  ASSERT_TRUE(sessions.ok()) << sessions.status();
  ASSERT_EQ(sessions->size(), 3u);
  EXPECT_EQ((*sessions)[2].session_id(), "s2");
}

TEST_F(ClientTest, ForksSnapshotsRestores) {
  v1::ForkSessionRequest fork;
  fork.set_session_id("s");
  fork.set_new_session_id("-copy");
  const auto forked = client_.ForkSession(fork);
  ASSERT_TRUE(forked.ok()) << forked.status();
  EXPECT_EQ(forked->session_id(), "s-copy");
  EXPECT_EQ(client_.SnapshotSession("s", "noon")->snapshot_id(), "noon");
  v1::RestoreSessionRequest restore;
  restore.set_snapshot_id("noon");
  restore.set_session_id("-again");
  EXPECT_EQ(client_.RestoreSession(restore)->session_id(), "noon-again");
  const auto snapshots = client_.ListSnapshots();
  ASSERT_TRUE(snapshots.ok()) << snapshots.status();
  ASSERT_EQ(snapshots->size(), 2u);
  EXPECT_EQ((*snapshots)[1].snapshot_id(), "evening");
  EXPECT_TRUE(client_.DeleteSnapshot("noon").ok());
  EXPECT_TRUE(absl::IsNotFound(client_.DeleteSnapshot("dawn")));
}

TEST_F(ClientTest, WhatTheServerDoesNotServe) {
  EXPECT_EQ(client_.GetModel().status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(absl::IsNotFound(client_.GetSession("other").status()));
}

TEST(AddressTest, ComesFromTheEnvironment) {
  unsetenv("RASQ_ADDRESS");
  EXPECT_EQ(DefaultAddress(), "127.0.0.1:50051");
  setenv("RASQ_ADDRESS", "example.test:1", /*overwrite=*/1);
  EXPECT_EQ(DefaultAddress(), "example.test:1");
  unsetenv("RASQ_ADDRESS");
}

}  // namespace
}  // namespace rasq::client
