// Unary calls over raw bytes: parse, hand to a handler, answer once, from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "kernels/base/mutex.h"
#include "server/call.h"
#include "server/wire.h"

namespace rasq {

// gRPC holds the object from Create until OnDone; whoever else holds a pointer, such as a callback
// in the engine, may answer late: only the first answer counts. gRPC runs no reaction within our
// calls of its operations, so they are made under the mutex.
class UnaryReactor : public grpc::ServerUnaryReactor,
                     public std::enable_shared_from_this<UnaryReactor> {
 public:
  // `response` is gRPC's and lives until OnDone.
  static std::shared_ptr<UnaryReactor> Create(const Backend& backend, const Method& method,
                                              grpc::CallbackServerContext& context,
                                              grpc::ByteBuffer* response);

  absl::Status admission() const;
  std::string tenant() const;
  void set_session_id(absl::string_view id);
  void set_tokens_in(int64_t tokens);
  void Reply(const google::protobuf::Message& message);
  void Fail(const absl::Status& status);

  void OnCancel() override;
  void OnDone() override;

 private:
  UnaryReactor(const Backend& backend, const Method& method, grpc::CallbackServerContext& context,
               grpc::ByteBuffer* response);

  mutable Mutex mu_;
  grpc::ByteBuffer* const response_;
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<UnaryReactor> self_ ABSL_GUARDED_BY(mu_);  // gRPC's hold
};

using UnaryCall = std::shared_ptr<UnaryReactor>;

// Where a handler runs: on gRPC's thread if it returns at once, on a worker if it tokenizes.
enum class RunOn : int8_t { kGrpcThread, kWorker };

// A method's body: `handler(request, call)` must lead to one answer.
template <typename Request>
grpc::ServerUnaryReactor* ServeUnary(const Backend& backend, const Method& method, RunOn run_on,
                                     grpc::CallbackServerContext& context,
                                     const grpc::ByteBuffer& bytes, grpc::ByteBuffer* response,
                                     std::function<void(Request&, const UnaryCall&)> handler) {
  const UnaryCall call = UnaryReactor::Create(backend, method, context, response);
  auto request = std::make_shared<Request>();
  absl::Status status = call->admission();
  if (status.ok()) status = ParseMessage(bytes, *request);
  if (!status.ok()) {
    call->Fail(status);
  } else if (run_on == RunOn::kGrpcThread) {
    handler(*request, call);
  } else {
    backend.workers.Submit(
        [request, call, handler = std::move(handler)] { handler(*request, call); });
  }
  return call.get();
}

template <typename Response>
void Answer(const UnaryCall& call, const absl::StatusOr<Response>& result) {
  result.ok() ? call->Reply(*result) : call->Fail(result.status());
}

}  // namespace rasq
