// The engine, called and waited for: appends and generations that return when they are over.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"

namespace rasq::testing {

// What a generation brought, in all.
struct Answer {
  std::string text;
  std::vector<GeneratedToken> tokens;
  GenerateSummary summary;

  std::vector<int32_t> ids() const;
};

// Gathers a generation and lets a test wait for its parts.
class CollectingSink : public GenerateSink {
 public:
  void OnChunk(GenerateChunk chunk) override;
  void OnDone(absl::StatusOr<GenerateSummary> summary) override;

  absl::StatusOr<Answer> Wait();
  // Until at least `count` tokens have come, or it is over.
  void WaitForTokens(size_t count);

 private:
  Mutex mu_;
  CondVar changed_;
  Answer answer_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

// A place for one result that another thread brings.
template <typename T>
class Pending {
 public:
  void Set(T value) {
    MutexLock lock(mu_);
    value_ = std::make_unique<T>(std::move(value));
    changed_.SignalAll();
  }
  T Wait() {
    MutexLock lock(mu_);
    while (value_ == nullptr) changed_.Wait(mu_);
    return *value_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::unique_ptr<T> value_ ABSL_GUARDED_BY(mu_);
};

// Options of the shipped model with few slots, on a backend of backends.h.
EngineOptions ShippedModel(const std::string& backend = "float32");

// Dies if the engine does not come up.
std::unique_ptr<Engine> StartEngine(const EngineOptions& options,
                                    EngineObserver* observer = nullptr);

std::string CreateSession(Engine& engine, const std::string& id = "",
                          const SessionOptions& options = {});
absl::StatusOr<AppendResult> Append(Engine& engine, const std::string& session, Content content,
                                    bool pinned = false);
absl::StatusOr<Answer> Generate(Engine& engine, GenerateRequest request);
absl::Status DeleteSession(Engine& engine, const std::string& session);

// Filler prose of about that many characters; the same for the same seed.
std::string Prose(uint64_t seed, int64_t characters);

}  // namespace rasq::testing
