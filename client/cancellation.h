// Ends calls in flight from another thread: share one between the caller and whoever may stop it.
#pragma once

#include <grpcpp/client_context.h>

#include <condition_variable>
#include <mutex>
#include <set>

#include "absl/time/time.h"

namespace rasq::client {

// All methods may be called by many threads at once. Once cancelled it stays so, and calls that
// begin later end at once.
class Cancellation {
 public:
  void Cancel();
  bool cancelled() const;
  // Waits, but not after a Cancel. Returns cancelled().
  bool WaitFor(absl::Duration timeout);

  // Keeps `context` known while it lives. A null `cancellation` does nothing.
  class Scope {
   public:
    Scope(Cancellation* cancellation, grpc::ClientContext* context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Cancellation* const cancellation_;
    grpc::ClientContext* const context_;
  };

 private:
  mutable std::mutex mu_;
  std::condition_variable changed_;
  bool cancelled_ = false;                   // guarded by mu_
  std::set<grpc::ClientContext*> contexts_;  // guarded by mu_
};

}  // namespace rasq::client
