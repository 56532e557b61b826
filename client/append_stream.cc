#include "client/append_stream.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <condition_variable>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cancellation.h"
#include "client/rasq_client.h"
#include "client/rpc_status.h"

namespace rasq::client {

// One StreamAppend call and the thread that reads its acks.
struct AppendStream::Connection {
  explicit Connection(Cancellation* cancellation) : scope(cancellation, &context) {}

  grpc::ClientContext context;
  Cancellation::Scope scope;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamAppendRequest, v1::StreamAppendResponse>>
      stream;
  std::thread reader;
  std::condition_variable changed;  // with the AppendStream's mu_
  bool ended = false;               // guarded by mu_: no more acks come
  bool draining = false;            // guarded by mu_: the server asks for another connection
  bool absorbed = true;             // guarded by mu_: all that is accepted is in the state
  bool progressed = false;          // guarded by mu_: an ack moved the session's offset
};

AppendStream::AppendStream(Client* client, std::string session_id,
                           const AppendStreamOptions& options)
    : client_(client), session_id_(std::move(session_id)), options_(options) {}

AppendStream::~AppendStream() {
  if (connection_ == nullptr) return;
  connection_->context.TryCancel();
  connection_->reader.join();
  connection_->stream->Finish();
}

AppendProgress AppendStream::progress() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return progress_;
}

int64_t AppendStream::InFlightBytes() const {
  if (pieces_.empty()) return 0;
  const Piece& last = pieces_.back();
  return last.offset + static_cast<int64_t>(last.text.size()) - pieces_.front().offset;
}

void AppendStream::Acknowledge(int64_t next_offset, int64_t context_tokens) {
  while (!pieces_.empty()) {
    Piece& piece = pieces_.front();
    const int64_t known = next_offset - piece.offset;
    if (known <= 0) break;
    if (known < static_cast<int64_t>(piece.text.size())) {
      piece.text.erase(0, known);
      piece.offset = next_offset;
      break;
    }
    pieces_.pop_front();
  }
  progress_.next_offset = next_offset;
  progress_.context_tokens = context_tokens;
  progress_.acknowledged_bytes = next_offset - first_offset_;
  progress_.appended_tokens = std::max<int64_t>(0, context_tokens - first_tokens_);
}

void AppendStream::ReadAcks(Connection* connection) {
  v1::StreamAppendResponse ack;
  const AppendProgress before = progress();
  while (connection->stream->Read(&ack)) {
    const std::lock_guard<std::mutex> lock(mu_);
    progress_.scored_tokens = before.scored_tokens + ack.scored_tokens();
    progress_.logprob_sum = before.logprob_sum + ack.logprob_sum();
    connection->progressed |= ack.next_offset() > progress_.next_offset;
    connection->absorbed = ack.absorbed_tokens() == ack.accepted_tokens();
    connection->draining |= ack.draining();
    Acknowledge(ack.next_offset(), ack.context_tokens());
    connection->changed.notify_all();
  }
  const std::lock_guard<std::mutex> lock(mu_);
  connection->ended = true;
  connection->changed.notify_all();
}

absl::Status AppendStream::Synchronise() {
  Cancellation* const cancellation = client_->options_.cancellation;
  if (attempts_ == options_.max_attempts) {
    return absl::UnavailableError(absl::StrCat("AppendStream: no byte came across in ", attempts_,
                                               " attempts, session_id=", session_id_));
  }
  if (attempts_ > 0) {
    const absl::Duration backoff =
        std::max(options_.first_backoff, asked_backoff_) * (1 << std::min(attempts_ - 1, 10));
    Cancellation nobody;  // waits for `backoff` where the client has none
    if ((cancellation != nullptr ? cancellation : &nobody)->WaitFor(backoff)) {
      return absl::CancelledError("AppendStream: cancelled");
    }
  }
  ++attempts_;

  grpc::ClientContext context;
  absl::Status status = client_->Prepare(session_id_, &context);
  if (!status.ok()) return status;
  if (started_) {
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(absl::Now() + options_.reconnect_timeout));
  }
  const Cancellation::Scope scope(cancellation, &context);
  v1::GetSessionRequest request;
  request.set_session_id(session_id_);
  v1::GetSessionResponse response;
  status = FromGrpc(client_->sessions_->GetSession(&context, request, &response));
  if (!status.ok()) return status;
  const v1::Session& session = response.session();

  const std::lock_guard<std::mutex> lock(mu_);
  if (!started_) {
    first_offset_ = end_offset_ = session.next_offset();
    first_tokens_ = session.context_tokens() + session.backlog_tokens();
    started_ = true;
  }
  const int64_t acknowledged = end_offset_ - InFlightBytes();
  if (session.next_offset() < acknowledged) {
    return absl::DataLossError(absl::StrCat(
        "AppendStream: the server lost acknowledged text, next_offset=", session.next_offset(),
        " acknowledged=", acknowledged));
  }
  if (session.next_offset() > end_offset_) {
    return absl::FailedPreconditionError(
        absl::StrCat("AppendStream: another writer appends to session_id=", session_id_));
  }
  if (session.next_offset() > acknowledged) attempts_ = 1;
  Acknowledge(session.next_offset(), session.context_tokens());
  sent_offset_ = session.next_offset();
  synchronised_ = true;
  return absl::OkStatus();
}

void AppendStream::Connect() {
  synchronised_ = false;
  if (++connections_ > 1) {
    const std::lock_guard<std::mutex> lock(mu_);
    progress_.reconnects = connections_ - 1;
  }
  connection_ = std::make_unique<Connection>(client_->options_.cancellation);
  // Synchronise, which comes before, has returned what may be wrong with the options.
  (void)client_->Prepare(session_id_, &connection_->context);
  connection_->stream = client_->sessions_->StreamAppend(&connection_->context);
  connection_->reader =
      std::thread([this, connection = connection_.get()] { ReadAcks(connection); });
}

absl::Status AppendStream::Disconnect() {
  connection_->stream->WritesDone();
  connection_->reader.join();
  absl::Status status = FromGrpc(connection_->stream->Finish());
  if (connection_->progressed) attempts_ = 0;
  connection_.reset();
  // A server without room says when to come back.
  const std::optional<absl::Duration> delay =
      absl::IsResourceExhausted(status) ? RetryDelay(status) : std::nullopt;
  asked_backoff_ = delay.value_or(absl::ZeroDuration());
  if (delay.has_value()) {
    attempts_ = std::max(attempts_, 1);
    return attempts_ < options_.max_attempts ? absl::OkStatus() : status;
  }
  // A server that drains ends the stream well. A position learnt while the broken connection's
  // last messages were still on their way is out of range by the time the next one uses it.
  const bool again =
      absl::IsUnavailable(status) || (absl::IsOutOfRange(status) && connections_ > 1);
  return again ? absl::OkStatus() : status;
}

absl::Status AppendStream::Pump() {
  for (;;) {
    v1::StreamAppendRequest request;
    bool renew = false;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      const auto piece = std::find_if(pieces_.begin(), pieces_.end(),
                                      [this](const Piece& p) { return p.offset >= sent_offset_; });
      if (connection_ != nullptr) {
        renew = connection_->draining || connection_->ended;
        if (piece == pieces_.end() && !renew) return absl::OkStatus();
      } else if (pieces_.empty() && started_) {
        return absl::OkStatus();
      }
      if (piece != pieces_.end()) {
        request.set_session_id(session_id_);
        request.set_offset(piece->offset);
        request.mutable_content()->set_text(piece->text);
        request.set_score(options_.score);
      }
      if (connection_ != nullptr) connection_->absorbed = false;
    }
    if (connection_ == nullptr) {
      if (synchronised_) {
        Connect();
        continue;
      }
      absl::Status status = Synchronise();
      if (absl::IsUnavailable(status) && started_ && attempts_ < options_.max_attempts) continue;
      if (!status.ok()) return status;
      continue;
    }
    if (renew || !connection_->stream->Write(request)) {
      if (absl::Status status = Disconnect(); !status.ok()) return status;
      continue;
    }
    sent_offset_ += static_cast<int64_t>(request.content().text().size());
  }
}

absl::Status AppendStream::Await(const std::function<bool()>& done) {
  for (;;) {
    if (absl::Status status = Pump(); !status.ok()) return status;
    std::unique_lock<std::mutex> lock(mu_);
    if (connection_ == nullptr) return absl::OkStatus();  // nothing is left to send
    connection_->changed.wait(
        lock, [&] { return done() || connection_->ended || connection_->draining; });
    if (done()) return absl::OkStatus();
  }
}

absl::Status AppendStream::Send(absl::string_view text) {
  // The first offset must be known before a piece can have one.
  if (!started_) {
    if (absl::Status status = Pump(); !status.ok()) return status;
  }
  while (!text.empty()) {
    const absl::string_view front = Utf8Prefix(text, options_.piece_bytes);
    const auto size = static_cast<int64_t>(front.size());
    text.remove_prefix(front.size());
    {
      const std::lock_guard<std::mutex> lock(mu_);
      pieces_.push_back({.offset = end_offset_, .text = std::string(front)});
      end_offset_ += size;
    }
    const int64_t limit = std::max(options_.max_in_flight_bytes, size);
    absl::Status status = Await([&] { return InFlightBytes() <= limit; });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AppendStream::Write(absl::string_view text) {
  if (!status_.ok()) return status_;
  std::string characters;
  status_ = decoder_.Decode(text, &characters);
  if (absl::Status sent = Send(characters); status_.ok()) status_ = sent;
  return status_;
}

absl::Status AppendStream::Flush() {
  if (!status_.ok()) return status_;
  return status_ = Await([this] {
           return pieces_.empty() && (connection_ == nullptr || connection_->absorbed);
         });
}

absl::StatusOr<AppendProgress> AppendStream::Finish() {
  if (!status_.ok()) return status_;
  std::string none;
  status_ = decoder_.Finish(&none);
  // The server ends the stream when all of it is absorbed; what a connection loses at its end goes
  // over another.
  while (status_.ok()) {
    status_ = Pump();
    if (!status_.ok() || connection_ == nullptr) break;
    status_ = Disconnect();
  }
  if (!status_.ok()) return status_;
  return progress();
}

}  // namespace rasq::client
