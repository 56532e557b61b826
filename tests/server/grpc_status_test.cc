#include "server/grpc_status.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

// The detail of type T, or its default if the status has none; `count` is how many it has.
template <typename T>
T Detail(const grpc::Status& status, int& count) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(status.error_details()));
  EXPECT_EQ(rich.code(), status.error_code());
  EXPECT_EQ(rich.message(), status.error_message());
  T detail;
  count = 0;
  for (const auto& any : rich.details()) count += any.UnpackTo(&detail) ? 1 : 0;
  return detail;
}

TEST(GrpcStatusTest, OkIsOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus(), "r-1").ok()); }

TEST(GrpcStatusTest, CodesKeepTheirNumbers) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "message");
    EXPECT_EQ(static_cast<int>(ToGrpcStatus(status, "r-1").error_code()), code);
    int count = 0;
    const auto info = Detail<google::rpc::ErrorInfo>(ToGrpcStatus(status, "r-1"), count);
    EXPECT_EQ(count, 1);
    EXPECT_EQ(info.domain(), "rasq");
    EXPECT_EQ(info.reason(), std::string(ReasonOf(status.code())));
    EXPECT_FALSE(info.reason().empty());
    EXPECT_EQ(info.metadata().at("request_id"), "r-1");
  }
}

TEST(GrpcStatusTest, InvalidArgumentNamesItsField) {
  const grpc::Status status = ToGrpcStatus(
      absl::InvalidArgumentError("stop.stop_strings[3].size=0: must be from 1"), "r-1");
  int count = 0;
  const auto bad = Detail<google::rpc::BadRequest>(status, count);
  EXPECT_EQ(count, 1);
  ASSERT_EQ(bad.field_violations_size(), 1);
  EXPECT_EQ(bad.field_violations(0).field(), "stop.stop_strings[3].size");
  EXPECT_EQ(bad.field_violations(0).description(), status.error_message());
}

TEST(GrpcStatusTest, FullAndStoppingSayWhenToTryAgain) {
  for (const absl::Status& status :
       {absl::ResourceExhaustedError("full"), absl::UnavailableError("stopping")}) {
    int count = 0;
    const auto retry = Detail<google::rpc::RetryInfo>(ToGrpcStatus(status, "r-1"), count);
    EXPECT_EQ(count, 1);
    EXPECT_GT(retry.retry_delay().seconds(), 0);
  }
  int count = 0;
  Detail<google::rpc::RetryInfo>(ToGrpcStatus(absl::NotFoundError("none"), "r-1"), count);
  EXPECT_EQ(count, 0);
}

TEST(GrpcStatusTest, InternalCausesStayInside) {
  const grpc::Status status =
      ToGrpcStatus(absl::InternalError("/dev/nvidia0 fell off the bus"), "r-1");
  EXPECT_EQ(status.error_message().find("nvidia"), std::string::npos);
  EXPECT_EQ(status.error_details().find("nvidia"), std::string::npos);
}

TEST(GrpcStatusTest, FieldIsWhatTheMessageBeginsWith) {
  EXPECT_EQ(FieldOf("content.text: not UTF-8 at byte 1"), "content.text");
  EXPECT_EQ(FieldOf("offset=3: next_offset is 4"), "offset");
  EXPECT_EQ(FieldOf("content.token_ids.ids[7]=-1: no"), "content.token_ids.ids[7]");
  EXPECT_EQ(FieldOf("the server is stopping"), "");
  EXPECT_EQ(FieldOf("two words: more"), "");
  EXPECT_EQ(FieldOf(": nothing"), "");
  EXPECT_EQ(FieldOf(""), "");
}

TEST(GrpcStatusTest, ReasonsKnowWhatAMessageIsAbout) {
  EXPECT_EQ(ReasonOf(absl::NotFoundError("session_id=\"s\": no such session")),
            "SESSION_NOT_FOUND");
  EXPECT_EQ(ReasonOf(absl::NotFoundError("snapshot_id=\"s\": no such snapshot")),
            "SNAPSHOT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(absl::ResourceExhaustedError("tenant=news: sessions=2 are open")),
            "QUOTA_EXCEEDED");
  EXPECT_EQ(ReasonOf(absl::ResourceExhaustedError("sessions=2: all taken")), "AT_CAPACITY");
  EXPECT_EQ(ReasonOf(absl::InvalidArgumentError("tenant=news: what")), "INVALID_FIELD");
}

TEST(GrpcStatusTest, WhatTheDeviceBrokeMayBeTriedElsewhere) {
  const absl::Status broken = absl::InternalError("a step failed");
  const absl::Status fault = absl::UnavailableError("cuda:0: fell off the bus");
  EXPECT_EQ(WithHealth(broken, absl::OkStatus()), broken);
  EXPECT_TRUE(absl::IsUnavailable(WithHealth(broken, fault)));
  EXPECT_TRUE(absl::IsNotFound(WithHealth(absl::NotFoundError("none"), fault)));
  EXPECT_TRUE(WithHealth(absl::OkStatus(), fault).ok());
}

}  // namespace
}  // namespace rasq
