// The engine: sessions, and the thread that moves them forward. Callers on any thread put work in;
// one thread owns the device and all states behind it, plans a step, runs it, and hands results out
// through callbacks.
//
// Errors: kInvalidArgument names the field and value; kNotFound an unknown session; kAlreadyExists
// a taken id; kResourceExhausted a full queue or no free slot; kOutOfRange a wrong offset; kAborted
// a second generation; kFailedPrecondition what this session or model cannot do; kUnavailable when
// the engine is stopping; kInternal when a step failed (the session is then kFailed).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/state_store.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"

namespace rasq {

// Hears of one generation, on the engine's thread: must return at once. OnDone is the last call,
// and always comes.
class GenerateSink {
 public:
  virtual ~GenerateSink() = default;
  virtual void OnChunk(GenerateChunk chunk) = 0;
  virtual void OnDone(absl::StatusOr<GenerateSummary> summary) = 0;
};

class Engine {
 public:
  // Loads the model, allocates every state and workspace, starts the thread. `observer` may be
  // null, is borrowed, and must outlive the engine.
  // `store` is where sessions may be parked, logged and snapshotted; null: nowhere.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, EngineObserver* observer,
      std::shared_ptr<StateStore> store = nullptr);
  // A session that `store` found. kFailedPrecondition if it is of another model or other settings,
  // which it names. REQUIRES: no call of its tenant was made yet.
  absl::Status Adopt(StoredSession session);
  // Ends what is in flight with kUnavailable, puts all states on disk if there is a state
  // directory, then stops the thread. What was accepted is then kept with the states, absorbed or
  // not.
  ~Engine();

  // All of these may be called by many threads at once. No callback runs under a lock, and none
  // after the engine is gone.

  const ModelInfo& model() const;
  const Tokenizer& tokenizer() const;
  const EngineOptions& options() const;
  EngineStats Stats() const;
  // OK, or the fault of the device that ended the engine's thread; then all calls fail.
  absl::Status Health() const;

  // What EngineGroup places and finds sessions by: how many more of a strategy may be opened;
  // whether a session of that id is here, though it be on its way out, and one that a request of
  // that id made.
  int32_t FreePlaces(Strategy strategy) const;
  bool HasSession(const ScopedName& name) const;
  bool HasRequest(const ScopedName& request) const;

  absl::StatusOr<SessionInfo> CreateSession(const CreateSessionRequest& request);
  absl::StatusOr<SessionInfo> GetSession(const ScopedName& name) const;
  // `page_size` 0: the default; at most 1000.
  absl::StatusOr<SessionPage> ListSessions(const std::string& tenant, int32_t page_size,
                                           const std::string& page_token) const;
  // The session refuses new calls at once and is gone when those in flight have ended: then `done`
  // is called (from another thread, or before this returns).
  void DeleteSession(const ScopedName& name, const std::function<void(absl::Status)>& done);

  // A new session with the state that this one has when all that was accepted before this call is
  // absorbed; the same as a file of the snapshot directory; and a new session from such a file.
  // `done` is called once, from another thread or before this returns. kFailedPrecondition if there
  // is no snapshot directory or the file is of another model or settings, which it names; kDataLoss
  // if the file is damaged.
  void ForkSession(const ForkSessionRequest& request,
                   const std::function<void(absl::StatusOr<SessionInfo>)>& done);
  void SnapshotSession(const SnapshotRequest& request,
                       const std::function<void(absl::StatusOr<SnapshotInfo>)>& done);
  void RestoreSession(const RestoreSessionRequest& request,
                      std::function<void(absl::StatusOr<SessionInfo>)> done);

  // Tokenizes and queues content. On success the content is accepted, and `on_absorbed` is called
  // once, when all of it is in the session's state (or the session or the engine is gone); on an
  // error nothing was queued and `on_absorbed` is never called.
  absl::StatusOr<AppendReceipt> Append(
      AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed);

  // Queues a generation from all that was accepted before this call, plus the prompt. An error of
  // the request itself is returned, and `sink` is never called. Else the result is a handle for
  // Cancel. The session's context is touched at the end alone, and only if `commit` is set.
  absl::StatusOr<int64_t> Generate(GenerateRequest request, std::shared_ptr<GenerateSink> sink);
  // Ends a generation with kCancelled within one step; nothing if it is already over.
  void Cancel(int64_t generation);

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rasq
