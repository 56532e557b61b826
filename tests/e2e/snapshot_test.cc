// Fork, snapshot and restore through the server.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

constexpr char kFact[] = "The code of the quiet orchard is 4711.\n";

class SnapshotTest : public ServerTest {
 protected:
  SnapshotTest() {
    options_ = TestServerOptions();
    options_.engine.snapshot_dir = directory_;
    std::filesystem::create_directories(directory_);
  }
  ~SnapshotTest() override { std::filesystem::remove_all(directory_); }

  grpc::Status Fork(const std::string& id, const std::string& new_id,
                    v1::Session* session = nullptr) {
    grpc::ClientContext context;
    v1::ForkSessionRequest request;
    request.set_session_id(id);
    request.set_new_session_id(new_id);
    v1::ForkSessionResponse response;
    const grpc::Status status = sessions().ForkSession(&Prepare(context), request, &response);
    if (session != nullptr) *session = response.session();
    return status;
  }
  grpc::Status Snapshot(const std::string& id, const std::string& snapshot_id,
                        v1::Snapshot* snapshot = nullptr) {
    grpc::ClientContext context;
    v1::SnapshotSessionRequest request;
    request.set_session_id(id);
    request.set_snapshot_id(snapshot_id);
    v1::SnapshotSessionResponse response;
    const grpc::Status status = sessions().SnapshotSession(&Prepare(context), request, &response);
    if (snapshot != nullptr) *snapshot = response.snapshot();
    return status;
  }
  grpc::Status Restore(const std::string& snapshot_id, const std::string& id,
                       v1::Session* session = nullptr) {
    grpc::ClientContext context;
    v1::RestoreSessionRequest request;
    request.set_snapshot_id(snapshot_id);
    request.set_session_id(id);
    (*request.mutable_labels())["made"] = "again";
    v1::RestoreSessionResponse response;
    const grpc::Status status = sessions().RestoreSession(&Prepare(context), request, &response);
    if (session != nullptr) *session = response.session();
    return status;
  }
  // Snapshot ids, over all pages of one.
  std::vector<std::string> Snapshots() {
    std::vector<std::string> ids;
    v1::ListSnapshotsRequest request;
    request.set_page_size(1);
    do {
      grpc::ClientContext context;
      v1::ListSnapshotsResponse response;
      EXPECT_TRUE(sessions().ListSnapshots(&Prepare(context), request, &response).ok());
      for (const v1::Snapshot& snapshot : response.snapshots()) {
        ids.push_back(snapshot.snapshot_id());
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return ids;
  }
  grpc::Status DeleteSnapshot(const std::string& snapshot_id) {
    grpc::ClientContext context;
    v1::DeleteSnapshotRequest request;
    request.set_snapshot_id(snapshot_id);
    v1::DeleteSnapshotResponse response;
    return sessions().DeleteSnapshot(&Prepare(context), request, &response);
  }
  std::string Continuation(const std::string& id) {
    v1::GenerateRequest request = EndlessGeneration(id);
    request.mutable_stop()->set_max_new_tokens(16);
    std::string text;
    EXPECT_TRUE(Generate(request, &text).ok());
    return text;
  }

  const std::string directory_ = TemporaryPath("snapshots");
  ServerOptions options_;
};

TEST_F(SnapshotTest, AForkGoesItsOwnWay) {
  StartServer(options_);
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Append("s", kFact).ok());
  v1::Session fork;
  ASSERT_TRUE(Fork("s", "copy", &fork).ok());
  EXPECT_EQ(fork.session_id(), "copy");
  EXPECT_EQ(fork.next_offset(), 39);
  EXPECT_EQ(Continuation("copy"), Continuation("s"));
  ASSERT_TRUE(Append("copy", "And more. ").ok());
  v1::Session original;
  ASSERT_TRUE(Get("s", &original).ok());
  EXPECT_EQ(original.next_offset(), 39);
  EXPECT_EQ(Fork("s", "copy").error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Fork("nobody", "other").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Fork("s", "no spaces").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(SnapshotTest, SnapshotsAreRestoredListedAndDeleted) {
  StartServer(options_);
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Append("s", kFact).ok());
  v1::Snapshot snapshot;
  ASSERT_TRUE(Snapshot("s", "noon", &snapshot).ok());
  EXPECT_EQ(snapshot.snapshot_id(), "noon");
  EXPECT_EQ(snapshot.session_id(), "s");
  EXPECT_EQ(snapshot.next_offset(), 39);
  EXPECT_GT(snapshot.file_bytes(), 0);
  ASSERT_TRUE(Snapshot("s", "evening").ok());
  EXPECT_EQ(Snapshots(), (std::vector<std::string>{"evening", "noon"}));
  v1::Session restored;
  ASSERT_TRUE(Restore("noon", "again", &restored).ok());
  EXPECT_EQ(restored.next_offset(), 39);
  EXPECT_EQ(restored.labels().at("made"), "again");
  EXPECT_EQ(Continuation("again"), Continuation("s"));
  ASSERT_TRUE(DeleteSnapshot("noon").ok());
  EXPECT_EQ(Snapshots(), (std::vector<std::string>{"evening"}));
  EXPECT_EQ(Restore("noon", "late").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(DeleteSnapshot("noon").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(DeleteSnapshot("../evening").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(SnapshotTest, WithoutADirectoryThereAreNone) {
  options_.engine.snapshot_dir.clear();
  StartServer(options_);
  ASSERT_TRUE(Create("s").ok());
  EXPECT_EQ(Snapshot("s", "noon").error_code(), StatusCode::FAILED_PRECONDITION);
}

TEST_F(SnapshotTest, TenantsHaveTheirOwn) {
  constexpr char kNews[] = "news-secret-0123456789";
  constexpr char kShop[] = "shop-secret-0123456789";
  options_.auth_file = TemporaryPath("snapshot_test_auth.json");
  WriteFile(options_.auth_file,
            absl::StrCat(R"({"tokens": [
                {"token": ")",
                         kNews, R"(", "tenant": "news", "scopes": ["inference"]},
                {"token": ")",
                         kShop, R"(", "tenant": "shop", "scopes": ["inference"]}]})"));
  StartServer(options_);
  set_token(kNews);
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Snapshot("s", "noon").ok());
  set_token(kShop);
  EXPECT_EQ(Fork("s", "mine").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Snapshot("s", "mine").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Restore("noon", "mine").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(DeleteSnapshot("noon").error_code(), StatusCode::NOT_FOUND);
  EXPECT_TRUE(Snapshots().empty());
  set_token(kNews);
  EXPECT_EQ(Snapshots(), (std::vector<std::string>{"noon"}));
}

}  // namespace
}  // namespace rasq
