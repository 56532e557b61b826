// One StreamAppend call: reads messages one by one into the engine, acks totals as text is
// absorbed, and stops reading while too much of the stream is not.
//
// Four parties touch it, each on threads of its own: gRPC's reactions, a worker that has a
// message in hand, the engine's callbacks, and Drain. All state is under one mutex, and one
// function, Advance, decides from it what to start next. At most one read, one message in hand and
// one write exist at a time. gRPC's hold ends with OnDone; a callback that comes later finds
// finished_ set.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/types.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "kernels/base/mutex.h"
#include "rasq/v1/session.pb.h"
#include "server/call.h"
#include "server/live_calls.h"

namespace rasq {

class StreamAppendReactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                            public Drainable,
                            public std::enable_shared_from_this<StreamAppendReactor> {
 public:
  // The reactor is gRPC's, which ends its life.
  static StreamAppendReactor* Start(const Backend& backend, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Drain() override;

 private:
  StreamAppendReactor(const Backend& backend, grpc::CallbackServerContext& context);

  // Takes one message into the engine, or ends the stream. Called without the mutex by the one
  // who has the message in hand.
  void Handle(const grpc::ByteBuffer& bytes);
  absl::StatusOr<AppendRequest> Parse(const grpc::ByteBuffer& bytes);
  // Gives the engine what the message asked to append.
  void Append(AppendRequest request);
  void OnAbsorbed(const absl::StatusOr<AppendResult>& result);

  // Starts whatever can be started now.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartRetry() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndNow(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Backend& backend_;
  const int64_t high_water_tokens_;

  Mutex mu_;
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<StreamAppendReactor> self_ ABSL_GUARDED_BY(mu_);  // gRPC's hold
  std::string session_id_ ABSL_GUARDED_BY(mu_);  // empty before the first message

  grpc::ByteBuffer read_buffer_;                            // gRPC's while reading_
  bool reading_ ABSL_GUARDED_BY(mu_) = false;               // a read is in flight
  bool handling_ ABSL_GUARDED_BY(mu_) = false;              // a message is in hand
  bool input_closed_ ABSL_GUARDED_BY(mu_) = false;          // half-closed, or draining
  std::optional<AppendRequest> held_ ABSL_GUARDED_BY(mu_);  // found no room; tried again when
                                                            // this stream's own is absorbed
  int64_t pending_ ABSL_GUARDED_BY(mu_) = 0;                // messages accepted, not absorbed

  v1::StreamAppendResponse totals_ ABSL_GUARDED_BY(mu_);
  bool totals_changed_ ABSL_GUARDED_BY(mu_) = false;  // since the last write began
  grpc::ByteBuffer write_buffer_;                     // gRPC's while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;

  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);   // ends the stream after the last ack
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // Finish was called: no operation may follow
};

}  // namespace rasq
