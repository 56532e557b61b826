// The C++ client of a Rasq server: sessions that take text for as long as it comes, and answer at
// any moment.
//
//   rasq::client::Client client({.address = "127.0.0.1:50051"});
//   client.CreateSession(request);
//   auto stream = client.StartAppend("wire");      // append_stream.h: resumes after a broken
//   stream->Write(text);                            // connection, loses and doubles nothing
//   stream->Finish();
//   client.Generate(request, [](const rasq::v1::GenerateResponse& piece) { ... });
//
// Errors are the server's, as absl::Status (rpc_status.h keeps the details); kUnavailable if it
// cannot be reached, kDeadlineExceeded past the deadline, kCancelled after a Cancel; where the
// options for TLS or the token are wrong, every call returns what is wrong with them. No
// exceptions. All methods block, and may be called by many threads at once.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/append_stream.h"
#include "client/cancellation.h"
#include "client/security.h"
#include "rasq/v1/admin.grpc.pb.h"
#include "rasq/v1/model.grpc.pb.h"
#include "rasq/v1/session.grpc.pb.h"

namespace rasq::client {

// $RASQ_ADDRESS, or 127.0.0.1:50051.
std::string DefaultAddress();

// A time span as requests hold it, to the nanosecond. REQUIRES: it is finite.
void SetDuration(absl::Duration duration, google::protobuf::Duration* proto);

struct ClientOptions {
  std::string address = DefaultAddress();          // HOST:PORT, or any gRPC name
  absl::Duration deadline = absl::ZeroDuration();  // of each call, streams too; 0: none
  absl::Duration keepalive = absl::Seconds(30);    // no more often than the server allows
  int max_message_bytes = 64 << 20;                // of a message received
  std::string user_agent = {};                     // stands before gRPC's own; empty: rasq/VERSION
  Cancellation* cancellation = nullptr;            // borrowed, of every call; may be null
  Security security = {};
};

class Client {
 public:
  explicit Client(ClientOptions options = {});

  absl::StatusOr<v1::Session> CreateSession(const v1::CreateSessionRequest& request);
  absl::StatusOr<v1::Session> GetSession(const std::string& session_id);
  // All pages.
  absl::StatusOr<std::vector<v1::Session>> ListSessions();
  absl::Status DeleteSession(const std::string& session_id);
  absl::StatusOr<v1::Session> ForkSession(const v1::ForkSessionRequest& request);
  absl::StatusOr<v1::Session> RestoreSession(const v1::RestoreSessionRequest& request);
  // `snapshot_id` empty: the server chooses.
  absl::StatusOr<v1::Snapshot> SnapshotSession(const std::string& session_id,
                                               const std::string& snapshot_id);
  // All pages.
  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots();
  absl::Status DeleteSnapshot(const std::string& snapshot_id);

  // Returns when the text is in the session's state. For more than some megabytes use StartAppend.
  absl::StatusOr<v1::AppendResponse> Append(const v1::AppendRequest& request);
  // The stream borrows this client.
  std::unique_ptr<AppendStream> StartAppend(const std::string& session_id,
                                            const AppendStreamOptions& options = {});

  // Calls `on_piece` for every message but the last, on this thread, as they come; returns the last
  // one's summary. `cancellation` is of this call alone, beside the client's; it may be null.
  absl::StatusOr<v1::GenerateSummary> Generate(
      const v1::GenerateRequest& request,
      const std::function<void(const v1::GenerateResponse&)>& on_piece,
      Cancellation* cancellation = nullptr);

  absl::StatusOr<v1::GetModelResponse> GetModel();
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo();
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text);
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& token_ids);

  // The server stops, as on SIGTERM; returns when that has begun. Without `grace`: the server's.
  absl::Status Drain(std::optional<absl::Duration> grace);
  // The server reads tokens, quotas and certificates again.
  absl::Status Reload();

 private:
  friend class AppendStream;

  // Deadline, token and routing metadata; `session_id` may be empty. Not OK: the options are wrong.
  absl::Status Prepare(const std::string& session_id, grpc::ClientContext* context) const;
  // One unary call of `method` on `stub`.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub* stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const std::string& session_id, const Request& request) const;

  const ClientOptions options_;
  const absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials_;
  const absl::StatusOr<std::string> token_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::SessionService::Stub> sessions_;
  const std::unique_ptr<v1::ModelService::Stub> model_;
  const std::unique_ptr<v1::AdminService::Stub> admin_;
};

}  // namespace rasq::client
