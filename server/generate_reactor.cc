#include "server/generate_reactor.h"

#include <utility>

#include "engine/engine.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/wire.h"

namespace rasq {
namespace {

// Chunks merge up to this size, far below the 4 MiB that clients take by default.
constexpr size_t kMaxMessageBytes = 64 << 10;

}  // namespace

// What the engine holds; it keeps the reactor's memory until its last call.
class GenerateReactor::Sink : public GenerateSink {
 public:
  explicit Sink(std::shared_ptr<GenerateReactor> reactor) : reactor_(std::move(reactor)) {}
  void OnChunk(GenerateChunk chunk) override { reactor_->OnChunk(chunk); }
  void OnDone(absl::StatusOr<GenerateSummary> summary) override { reactor_->OnEnd(summary); }

 private:
  const std::shared_ptr<GenerateReactor> reactor_;
};

GenerateReactor::GenerateReactor(const Backend& backend, grpc::CallbackServerContext& context)
    : backend_(backend), record_(backend, "Generate", context) {}

GenerateReactor* GenerateReactor::Start(const Backend& backend,
                                        grpc::CallbackServerContext& context,
                                        const grpc::ByteBuffer& bytes) {
  const std::shared_ptr<GenerateReactor> reactor(new GenerateReactor(backend, context));
  auto message = std::make_shared<v1::GenerateRequest>();
  {
    MutexLock lock(reactor->mu_);
    reactor->self_ = reactor;
    absl::Status status = reactor->record_.admission();
    if (status.ok()) status = ParseMessage(bytes, *message);
    if (!status.ok()) {
      reactor->EndNow(status);
      return reactor.get();
    }
    reactor->record_.set_session_id(message->session_id());
  }
  backend.workers.Submit([reactor, message] { reactor->Run(*message); });
  return reactor.get();
}

void GenerateReactor::Run(v1::GenerateRequest& message) {
  const absl::StatusOr<int64_t> generation = Submit(message);
  bool given_up = false;
  {
    MutexLock lock(mu_);
    if (generation.ok()) {
      generation_ = *generation;
      given_up = finished_;  // OnCancel came first and knew no handle
    } else {
      result_ = generation.status();
    }
    Advance();
  }
  if (given_up) backend_.engine.Cancel(*generation);
}

absl::StatusOr<int64_t> GenerateReactor::Submit(v1::GenerateRequest& message) {
  RASQ_ASSIGN_OR_RETURN(GenerateRequest request,
                        TakeGenerate(message, backend_.engine.model(), backend_.limits));
  {
    MutexLock lock(mu_);
    request.session.tenant = record_.tenant();
  }
  return backend_.engine.Generate(std::move(request), std::make_shared<Sink>(shared_from_this()));
}

void GenerateReactor::OnChunk(const GenerateChunk& chunk) {
  MutexLock lock(mu_);
  if (finished_) return;
  output_tokens_ += static_cast<int64_t>(chunk.tokens.size());
  if (outbox_.empty() || outbox_.back().ByteSizeLong() >= kMaxMessageBytes) outbox_.emplace_back();
  MergeChunk(chunk, outbox_.back());
  Advance();
}

void GenerateReactor::OnEnd(const absl::StatusOr<GenerateSummary>& summary) {
  MutexLock lock(mu_);
  if (finished_) return;
  if (summary.ok()) {
    *outbox_.emplace_back().mutable_summary() = ToProto(*summary);
    record_.set_tokens_in(summary->prompt_tokens);
  }
  result_ = summary.status();
  Advance();
}

void GenerateReactor::Advance() {
  if (finished_ || writing_) return;
  if (!outbox_.empty()) {
    writing_ = true;
    write_buffer_ = SerializeMessage(outbox_.front());
    outbox_.pop_front();
    StartWrite(&write_buffer_);
  } else if (result_.has_value()) {
    EndNow(*result_);
  }
}

void GenerateReactor::EndNow(const absl::Status& status) {
  finished_ = true;
  outbox_.clear();
  record_.set_tokens_out(output_tokens_);
  Finish(record_.End(status));
}

void GenerateReactor::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  // A failed write means a client that is gone: OnCancel says so too, and ends the call.
  if (ok) Advance();
}

void GenerateReactor::OnCancel() {
  std::optional<int64_t> generation;
  {
    MutexLock lock(mu_);
    if (finished_) return;
    EndNow(record_.WhyCancelled());
    generation = generation_;
  }
  // Nothing happens if the engine is done with it.
  if (generation.has_value()) backend_.engine.Cancel(*generation);
}

void GenerateReactor::OnDone() {
  std::shared_ptr<GenerateReactor> self;
  MutexLock lock(mu_);
  record_.Done();
  self.swap(self_);
}

}  // namespace rasq
