#include "server/stream_append_reactor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/wire.h"

namespace rasq {
namespace {

// A stream may fill this share of its session's backlog before the server stops reading it: the
// rest is for the message in hand and for other calls of the session.
constexpr int64_t kBacklogShare = 4;

}  // namespace

StreamAppendReactor::StreamAppendReactor(const Backend& backend,
                                         grpc::CallbackServerContext& context)
    : backend_(backend),
      high_water_tokens_(backend.engine.options().max_backlog_tokens / kBacklogShare),
      record_(backend, "StreamAppend", context) {}

StreamAppendReactor* StreamAppendReactor::Start(const Backend& backend,
                                                grpc::CallbackServerContext& context) {
  const std::shared_ptr<StreamAppendReactor> reactor(new StreamAppendReactor(backend, context));
  {
    MutexLock lock(reactor->mu_);
    reactor->self_ = reactor;
    if (!reactor->record_.admission().ok()) reactor->Fail(reactor->record_.admission());
    reactor->Advance();
  }
  backend.calls.Watch(reactor);
  return reactor.get();
}

void StreamAppendReactor::OnReadDone(bool ok) {
  grpc::ByteBuffer bytes;
  {
    MutexLock lock(mu_);
    reading_ = false;
    // What comes after the end was decided is not accepted: the client goes on from next_offset.
    if (!ok || input_closed_ || !failure_.ok() || finished_) {
      input_closed_ = true;
      Advance();
      return;
    }
    bytes.Swap(&read_buffer_);
    handling_ = true;
  }
  backend_.workers.Submit([self = shared_from_this(), bytes] { self->Handle(bytes); });
}

void StreamAppendReactor::Handle(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<AppendRequest> request = Parse(bytes);
  if (request.ok() && !std::holds_alternative<std::monostate>(request->content)) {
    Append(*std::move(request));
    return;
  }
  MutexLock lock(mu_);
  handling_ = false;
  if (!request.ok()) Fail(request.status());
  Advance();
}

absl::StatusOr<AppendRequest> StreamAppendReactor::Parse(const grpc::ByteBuffer& bytes) {
  v1::StreamAppendRequest message;
  RASQ_RETURN_IF_ERROR(ParseMessage(bytes, message));
  std::string id, tenant;
  {
    MutexLock lock(mu_);
    RASQ_RETURN_IF_ERROR(record_.CheckToken());
    id = session_id_;
    tenant = record_.tenant();
  }
  const bool first = id.empty();
  if (first) {
    id = message.session_id();
    RASQ_RETURN_IF_ERROR(CheckId(id, "session_id"));
  } else if (!message.session_id().empty() && message.session_id() != id) {
    return absl::InvalidArgumentError("session_id: differs from the stream's first message");
  }

  AppendRequest request;
  request.session = ScopedName(tenant, id);
  request.score = message.score();
  if (message.has_content()) {
    RASQ_ASSIGN_OR_RETURN(request.content,
                          TakeContent(*message.mutable_content(), backend_.engine.model(),
                                      backend_.limits, "content"));
  }
  if (message.has_offset()) {
    if (message.offset() < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("offset=", message.offset(), ": must not be negative"));
    }
    request.offset = message.offset();
  }
  if (first) {
    RASQ_ASSIGN_OR_RETURN(const SessionInfo session, backend_.engine.GetSession({tenant, id}));
    MutexLock lock(mu_);
    session_id_ = id;
    record_.set_session_id(id);
    totals_.set_context_tokens(session.context_tokens);
    totals_.set_next_offset(session.next_offset);
    totals_changed_ = true;
  }
  return request;
}

void StreamAppendReactor::Append(AppendRequest request) {
  bool may_wait = false;
  {
    MutexLock lock(mu_);
    if (finished_) return;
    may_wait = pending_ > 0;
    ++pending_;  // before the engine has it: it may be absorbed before the engine returns
  }
  std::optional<AppendRequest> copy;
  if (may_wait) copy = request;
  const absl::StatusOr<AppendReceipt> receipt = backend_.engine.Append(
      std::move(request), [self = shared_from_this()](absl::StatusOr<AppendResult> result) {
        self->OnAbsorbed(result);
      });

  MutexLock lock(mu_);
  handling_ = false;
  if (receipt.ok()) {
    totals_.set_accepted_tokens(totals_.accepted_tokens() + receipt->accepted_tokens);
    totals_.set_next_offset(std::max(totals_.next_offset(), receipt->next_offset));
    totals_changed_ = true;
  } else {
    --pending_;
    if (absl::IsResourceExhausted(receipt.status()) && may_wait) {
      held_ = std::move(copy);
      if (pending_ == 0 && !finished_) StartRetry();
    } else {
      Fail(receipt.status());
    }
  }
  Advance();
}

void StreamAppendReactor::OnAbsorbed(const absl::StatusOr<AppendResult>& result) {
  MutexLock lock(mu_);
  --pending_;
  if (result.ok()) {
    totals_.set_absorbed_tokens(totals_.absorbed_tokens() + result->appended_tokens);
    totals_.set_context_tokens(std::max(totals_.context_tokens(), result->context_tokens));
    totals_.set_next_offset(std::max(totals_.next_offset(), result->next_offset));
    totals_.set_scored_tokens(totals_.scored_tokens() + result->scored_tokens);
    totals_.set_logprob_sum(totals_.logprob_sum() + result->logprob_sum);
    totals_changed_ = true;
    backend_.metrics.OnScored(result->scored_tokens);
  } else {
    Fail(result.status());
  }
  if (held_.has_value() && pending_ == 0 && !finished_) StartRetry();
  Advance();
}

void StreamAppendReactor::StartRetry() {
  // Not here: this may be the engine's thread, and the text is tokenized again.
  handling_ = true;
  auto request = std::make_shared<AppendRequest>(*std::move(held_));
  held_.reset();
  backend_.workers.Submit(
      [self = shared_from_this(), request] { self->Append(std::move(*request)); });
}

bool StreamAppendReactor::MayRead() const {
  const int64_t outstanding =
      pending_ == 0 ? 0 : totals_.accepted_tokens() - totals_.absorbed_tokens();
  return !reading_ && !handling_ && !held_.has_value() && !input_closed_ && failure_.ok() &&
         outstanding <= high_water_tokens_;
}

void StreamAppendReactor::Advance() {
  if (finished_) return;
  if (!writing_ && totals_changed_) {
    totals_changed_ = false;
    writing_ = true;
    write_buffer_ = SerializeMessage(totals_);
    StartWrite(&write_buffer_);
  }
  if (MayRead()) {
    reading_ = true;
    read_buffer_.Clear();
    StartRead(&read_buffer_);
  }
  if (writing_) return;
  if (!failure_.ok()) {
    EndNow(failure_);
  } else if (input_closed_ && !handling_ && !held_.has_value() && pending_ == 0) {
    if (draining_) {
      EndNow(absl::UnavailableError("the server is stopping"));
    } else if (session_id_.empty()) {
      EndNow(absl::InvalidArgumentError("session_id: required in the first message"));
    } else {
      EndNow(absl::OkStatus());
    }
  }
}

void StreamAppendReactor::Fail(const absl::Status& status) {
  if (failure_.ok()) failure_ = status;
}

void StreamAppendReactor::EndNow(const absl::Status& status) {
  finished_ = true;
  record_.set_tokens_in(totals_.accepted_tokens());
  Finish(record_.End(status));
}

void StreamAppendReactor::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  if (!ok) Fail(absl::CancelledError("the client is gone"));
  Advance();
}

void StreamAppendReactor::OnCancel() {
  MutexLock lock(mu_);
  if (!finished_) EndNow(record_.WhyCancelled());
}

void StreamAppendReactor::Drain() {
  MutexLock lock(mu_);
  draining_ = true;
  input_closed_ = true;
  totals_.set_draining(true);
  totals_changed_ = true;
  Advance();
}

void StreamAppendReactor::OnDone() {
  backend_.calls.Forget(shared_from_this());
  std::shared_ptr<StreamAppendReactor> self;
  MutexLock lock(mu_);
  record_.Done();
  self.swap(self_);
}

}  // namespace rasq
