// One Generate call: the engine's chunks become messages, the summary the last one.
//
// The engine's thread never waits for a client: while one write is in flight, chunks merge in the
// outbox, whose size the call's own max_new_tokens bounds. gRPC's hold ends with OnDone, the
// engine's with the sink's last call; a chunk that comes after the end finds finished_ set.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

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

namespace rasq {

class GenerateReactor : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                        public std::enable_shared_from_this<GenerateReactor> {
 public:
  // The reactor is gRPC's, which ends its life.
  static GenerateReactor* Start(const Backend& backend, grpc::CallbackServerContext& context,
                                const grpc::ByteBuffer& bytes);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Sink;

  GenerateReactor(const Backend& backend, grpc::CallbackServerContext& context);

  // Hands the request to the engine, or ends the call. Without the mutex.
  void Run(v1::GenerateRequest& message);
  absl::StatusOr<int64_t> Submit(v1::GenerateRequest& message);

  void OnChunk(const GenerateChunk& chunk);
  void OnEnd(const absl::StatusOr<GenerateSummary>& summary);

  // Starts the next write, or ends the call when nothing is left to write.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndNow(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Backend& backend_;

  Mutex mu_;
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<GenerateReactor> self_ ABSL_GUARDED_BY(mu_);  // gRPC's hold
  std::deque<v1::GenerateResponse> outbox_ ABSL_GUARDED_BY(mu_);
  grpc::ByteBuffer write_buffer_;  // gRPC's while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  int64_t output_tokens_ ABSL_GUARDED_BY(mu_) = 0;          // generated so far
  std::optional<int64_t> generation_ ABSL_GUARDED_BY(mu_);  // the engine's handle, once it is known
  std::optional<absl::Status> result_ ABSL_GUARDED_BY(mu_);  // ends the call after the outbox
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // Finish was called: no operation may follow
};

}  // namespace rasq
