// The engine, called and waited for: appends and generations that return when they are over.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"

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

// The calls below take an Engine or an EngineGroup.

// Dies if it is refused.
template <typename AnyEngine>
std::string CreateSession(AnyEngine& engine, const std::string& id = "",
                          const SessionOptions& options = {}) {
  const auto session = engine.CreateSession({.id = id, .options = options});
  if (!session.ok()) std::fprintf(stderr, "%s\n", session.status().ToString().c_str());
  RASQ_CHECK(session.ok());
  return session->id;
}

// Calls `start` with a callback and waits for what it brings.
template <typename Result>
Result Await(const std::function<void(std::function<void(Result)>)>& start) {
  auto pending = std::make_shared<Pending<Result>>();
  start([pending](Result result) { pending->Set(std::move(result)); });
  return pending->Wait();
}

template <typename AnyEngine>
absl::StatusOr<AppendResult> Append(AnyEngine& engine, const ScopedName& session, Content content,
                                    bool pinned = false) {
  auto pending = std::make_shared<Pending<absl::StatusOr<AppendResult>>>();
  RASQ_RETURN_IF_ERROR(
      engine
          .Append({.session = session, .content = std::move(content), .pinned = pinned},
                  [pending](absl::StatusOr<AppendResult> result) { pending->Set(result); })
          .status());
  return pending->Wait();
}

template <typename AnyEngine>
absl::StatusOr<Answer> Generate(AnyEngine& engine, GenerateRequest request) {
  auto sink = std::make_shared<CollectingSink>();
  RASQ_RETURN_IF_ERROR(engine.Generate(std::move(request), sink).status());
  return sink->Wait();
}

template <typename AnyEngine>
absl::Status DeleteSession(AnyEngine& engine, const ScopedName& session) {
  return Await<absl::Status>([&](auto done) { engine.DeleteSession(session, done); });
}

template <typename AnyEngine>
absl::StatusOr<SessionInfo> Fork(AnyEngine& engine, const ForkSessionRequest& request) {
  return Await<absl::StatusOr<SessionInfo>>([&](auto done) { engine.ForkSession(request, done); });
}
template <typename AnyEngine>
absl::StatusOr<SnapshotInfo> Snapshot(AnyEngine& engine, const SnapshotRequest& request) {
  return Await<absl::StatusOr<SnapshotInfo>>(
      [&](auto done) { engine.SnapshotSession(request, done); });
}
template <typename AnyEngine>
absl::StatusOr<SessionInfo> Restore(AnyEngine& engine, const RestoreSessionRequest& request) {
  return Await<absl::StatusOr<SessionInfo>>(
      [&](auto done) { engine.RestoreSession(request, done); });
}

// The greedy continuation of a session by so many tokens, which leaves no trace.
template <typename AnyEngine>
std::vector<int32_t> NextTokens(AnyEngine& engine, const ScopedName& session, int32_t count) {
  GenerateRequest request{.session = session, .prompt = std::string(" The")};
  request.stop = {.max_new_tokens = count, .ignore_eos = true};
  const absl::StatusOr<Answer> answer = Generate(engine, std::move(request));
  if (!answer.ok()) std::fprintf(stderr, "%s\n", answer.status().ToString().c_str());
  return answer.ok() ? answer->ids() : std::vector<int32_t>();
}

// Filler prose of about that many characters; the same for the same seed.
std::string Prose(uint64_t seed, int64_t characters);

}  // namespace rasq::testing
