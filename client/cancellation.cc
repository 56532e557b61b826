#include "client/cancellation.h"

namespace rasq::client {

void Cancellation::Cancel() {
  const std::lock_guard<std::mutex> lock(mu_);
  cancelled_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.notify_all();
}

bool Cancellation::cancelled() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return cancelled_;
}

bool Cancellation::WaitFor(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mu_);
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout), [this] { return cancelled_; });
}

Cancellation::Scope::Scope(Cancellation* cancellation, grpc::ClientContext* context)
    : cancellation_(cancellation), context_(context) {
  if (cancellation_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(cancellation_->mu_);
  cancellation_->contexts_.insert(context_);
  // gRPC remembers a cancel that comes before the call begins.
  if (cancellation_->cancelled_) context_->TryCancel();
}

Cancellation::Scope::~Scope() {
  if (cancellation_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(cancellation_->mu_);
  cancellation_->contexts_.erase(context_);
}

}  // namespace rasq::client
