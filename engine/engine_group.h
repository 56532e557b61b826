// Engines on several devices that look like one: each has the model's weights and sessions of its
// own, and a session lives where it was made. One device is the plain case.
//
// Calls, errors and threads are those of Engine. Capacity in EngineOptions counts for each device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/state_store.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"
#include "kernels/base/mutex.h"

namespace rasq {

using ProblemLog = std::function<void(const std::string&)>;

class EngineGroup {
 public:
  // One engine for each of `options.ops.device`: a device, several with commas between them
  // ("cuda:0,cuda:1"), or "cuda:all". `observer` hears of all, on each one's thread. Sessions that
  // an earlier run left in the state directory are there again: kFailedPrecondition if they are of
  // another model. `problem` hears a line of each that is lost, and why.
  static absl::StatusOr<std::unique_ptr<EngineGroup>> Create(const EngineOptions& options,
                                                             EngineObserver* observer,
                                                             const ProblemLog& problem = {});

  int32_t size() const { return static_cast<int32_t>(engines_.size()); }
  const Engine& engine(int32_t index) const { return *engines_[index]; }

  const ModelInfo& model() const { return model_; }  // slots and devices of all
  const Tokenizer& tokenizer() const { return engines_.front()->tokenizer(); }
  const EngineOptions& options() const { return options_; }
  EngineStats Stats() const;    // sums
  absl::Status Health() const;  // the first that is not OK

  // The session goes to the engine with the most free places, the first of several.
  absl::StatusOr<SessionInfo> CreateSession(const CreateSessionRequest& request);
  absl::StatusOr<SessionInfo> GetSession(const ScopedName& name) const;
  absl::StatusOr<SessionPage> ListSessions(const std::string& tenant, int32_t page_size,
                                           const std::string& page_token) const;
  void DeleteSession(const ScopedName& name, const std::function<void(absl::Status)>& done);

  void ForkSession(const ForkSessionRequest& request,
                   const std::function<void(absl::StatusOr<SessionInfo>)>& done);
  void SnapshotSession(const SnapshotRequest& request,
                       const std::function<void(absl::StatusOr<SnapshotInfo>)>& done);
  // To the engine with the most free places, too.
  void RestoreSession(const RestoreSessionRequest& request,
                      std::function<void(absl::StatusOr<SessionInfo>)> done);
  // kFailedPrecondition if there is no directory for snapshots.
  absl::StatusOr<SnapshotPage> ListSnapshots(const std::string& tenant, int32_t page_size,
                                             const std::string& page_token) const;
  absl::Status DeleteSnapshot(const ScopedName& name);

  absl::StatusOr<AppendReceipt> Append(
      AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed);
  absl::StatusOr<int64_t> Generate(GenerateRequest request, std::shared_ptr<GenerateSink> sink);
  void Cancel(int64_t generation);

 private:
  EngineGroup(const EngineOptions& options, std::shared_ptr<StateStore> store,
              std::vector<std::unique_ptr<Engine>> engines);
  absl::Status Recover(const ProblemLog& problem);
  // A name for a new session, and the engine that it goes to: the one that has a session of that
  // name or of that request, if one has.
  struct Target {
    std::string id;
    int32_t engine;
  };
  Target Place(const ScopedName& name, const std::string& request_id, Strategy strategy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(create_mu_);
  // Where the session lives; if nowhere, the first, whose answer is then kNotFound. Engines are
  // asked each time: they alone know when a session is gone.
  int32_t Home(const ScopedName& name) const;
  int32_t MostFree(Strategy strategy) const;

  const EngineOptions options_;
  const std::shared_ptr<StateStore> store_;
  const std::vector<std::unique_ptr<Engine>> engines_;
  ModelInfo model_;

  Mutex create_mu_;  // held while a session is made, so that no two of one id are
  int64_t next_id_ ABSL_GUARDED_BY(create_mu_) = 1;
};

}  // namespace rasq
