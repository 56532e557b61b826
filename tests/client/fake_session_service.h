// A session service that keeps the text it is sent, a token a byte, each of which it finds as
// likely as exp(-0.5); and breaks streams where a test says so.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "rasq/v1/session.grpc.pb.h"

namespace rasq::client {

// What one StreamAppend call does, in the order of calls; calls past the list work well.
struct StreamPlan {
  int64_t good_messages = 0;  // taken and acknowledged before the end comes
  bool take_last = false;     // the message after them is taken, but its ack is lost
  bool drain = false;         // the end is an ack with `draining`, and an orderly end
  grpc::StatusCode end = grpc::StatusCode::UNAVAILABLE;
  int retry_nanos = 0;  // of the end's RetryInfo; 0: it has none
};

inline std::string RetryDetails(const StreamPlan& plan) {
  if (plan.retry_nanos == 0) return "";
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_nanos(plan.retry_nanos);
  google::rpc::Status status;
  status.set_code(plan.end);
  status.add_details()->PackFrom(info);
  return status.SerializeAsString();
}

class FakeSessionService : public v1::SessionService::Service {
 public:
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override {
    if (request->session_id() != "s")
      return {grpc::StatusCode::NOT_FOUND, "session_id=" + request->session_id()};
    const std::lock_guard<std::mutex> lock(mu_);
    const auto metadata = context->client_metadata().find("x-rasq-session");
    if (metadata != context->client_metadata().end()) {
      routed_to_ = std::string(metadata->second.data(), metadata->second.size());
    }
    if (!next_offsets_.empty()) {
      response->mutable_session()->set_next_offset(next_offsets_.front());
      next_offsets_.erase(next_offsets_.begin());
      return grpc::Status::OK;
    }
    response->mutable_session()->set_next_offset(Size());
    response->mutable_session()->set_context_tokens(Size());
    return grpc::Status::OK;
  }

  grpc::Status StreamAppend(grpc::ServerContext* context,
                            grpc::ServerReaderWriter<v1::StreamAppendResponse,
                                                     v1::StreamAppendRequest>* stream) override {
    StreamPlan plan;
    bool planned = false;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (streams_ < static_cast<int>(plans_.size())) {
        plan = plans_[streams_];
        planned = true;
      }
      ++streams_;
    }
    v1::StreamAppendRequest request;
    int64_t messages = 0, unacknowledged = 0, scored = 0;
    while (stream->Read(&request)) {
      ++messages;
      const bool over = planned && messages > plan.good_messages;
      v1::StreamAppendResponse ack;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        if (over && !plan.take_last) break;
        if (request.offset() != Size()) return {grpc::StatusCode::OUT_OF_RANGE, "offset"};
        text_ += request.content().text();
        largest_message_ = std::max<int64_t>(largest_message_, request.content().text().size());
        unacknowledged += static_cast<int64_t>(request.content().text().size());
        largest_in_flight_ = std::max(largest_in_flight_, unacknowledged);
        arrived_.notify_all();
        if (request.score()) scored += static_cast<int64_t>(request.content().text().size());
        ack.set_scored_tokens(scored);
        ack.set_logprob_sum(-0.5 * static_cast<double>(scored));
        ack.set_next_offset(Size());
        ack.set_context_tokens(Size());
        ack.set_accepted_tokens(Size());
        ack.set_absorbed_tokens(Size());
        ack.set_draining(planned && plan.drain && messages == plan.good_messages);
      }
      if (over) break;
      if (silent_) continue;
      if (unacknowledged < ack_every_bytes_) continue;
      unacknowledged = 0;
      stream->Write(ack);
    }
    if (silent_ && !context->IsCancelled())
      return {grpc::StatusCode::INTERNAL, "never acknowledged"};
    if (planned && !plan.drain) return {plan.end, "broken by plan", RetryDetails(plan)};
    if (unacknowledged > 0) {
      const std::lock_guard<std::mutex> lock(mu_);
      v1::StreamAppendResponse ack;
      ack.set_next_offset(Size());
      ack.set_context_tokens(Size());
      stream->Write(ack);
    }
    return grpc::Status::OK;
  }

  // Set before the first call.
  std::vector<StreamPlan> plans_;
  std::vector<int64_t> next_offsets_;  // GetSession's first answers; then the truth
  int64_t ack_every_bytes_ = 0;
  bool silent_ = false;  // no acks at all

  // What the calls so far have left. Each takes the lock: ThreadSanitizer sees no order in gRPC.
  std::string text() { return Read(text_); }
  std::string routed_to() { return Read(routed_to_); }
  int streams() { return Read(streams_); }
  int64_t largest_message() { return Read(largest_message_); }
  int64_t largest_in_flight() { return Read(largest_in_flight_); }
  // Waits for text.
  void WaitForBytes(int64_t bytes) {
    std::unique_lock<std::mutex> lock(mu_);
    arrived_.wait(lock, [&] { return Size() >= bytes; });
  }
  void set_text(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mu_);
    text_ = text;
  }

 private:
  template <typename T>
  T Read(const T& value) {
    const std::lock_guard<std::mutex> lock(mu_);
    return value;
  }
  int64_t Size() const { return static_cast<int64_t>(text_.size()); }

  std::mutex mu_;  // guards what follows
  std::condition_variable arrived_;
  std::string text_;
  std::string routed_to_;
  int streams_ = 0;
  int64_t largest_message_ = 0;
  int64_t largest_in_flight_ = 0;
};

// A server of `service` on a port of its own, or on the `port` of one that has ended.
class FakeServer {
 public:
  explicit FakeServer(grpc::Service* service, int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace rasq::client
