#include "server/unary_reactor.h"

namespace rasq {

UnaryReactor::UnaryReactor(const Backend& backend, const Method& method,
                           grpc::CallbackServerContext& context, grpc::ByteBuffer* response)
    : response_(response), record_(backend, method, context) {}

std::shared_ptr<UnaryReactor> UnaryReactor::Create(const Backend& backend, const Method& method,
                                                   grpc::CallbackServerContext& context,
                                                   grpc::ByteBuffer* response) {
  const std::shared_ptr<UnaryReactor> reactor(new UnaryReactor(backend, method, context, response));
  MutexLock lock(reactor->mu_);
  reactor->self_ = reactor;
  return reactor;
}

absl::Status UnaryReactor::admission() const {
  MutexLock lock(mu_);
  return record_.admission();
}

std::string UnaryReactor::tenant() const {
  MutexLock lock(mu_);
  return record_.tenant();
}

void UnaryReactor::set_tokens_in(int64_t tokens) {
  MutexLock lock(mu_);
  record_.set_tokens_in(tokens);
}

void UnaryReactor::set_session_id(absl::string_view id) {
  MutexLock lock(mu_);
  record_.set_session_id(id);
}

void UnaryReactor::Reply(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes = SerializeMessage(message);
  MutexLock lock(mu_);
  if (finished_) return;
  finished_ = true;
  response_->Swap(&bytes);
  Finish(record_.End(absl::OkStatus()));
}

void UnaryReactor::Fail(const absl::Status& status) {
  MutexLock lock(mu_);
  if (finished_) return;
  finished_ = true;
  Finish(record_.End(status));
}

void UnaryReactor::OnCancel() {
  MutexLock lock(mu_);
  if (finished_) return;
  finished_ = true;
  Finish(record_.End(record_.WhyCancelled()));
}

void UnaryReactor::OnDone() {
  std::shared_ptr<UnaryReactor> self;
  MutexLock lock(mu_);
  record_.Done();
  self.swap(self_);
}

}  // namespace rasq
