// The inside of the engine. engine.cc and engine_calls.cc are the callers' side: the registry of
// sessions, checks, tokenizing, acceptance. engine_loop.cc is the thread's side: it owns the
// device, the model and all states; engine_places.cc moves these between device, host and disk. The
// doors between them are the inbox, the list of cancels and the sessions' counters, all under
// `mu_`.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/generation.h"
#include "engine/model.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "engine/slot_pool.h"
#include "engine/state_layout.h"
#include "engine/state_store.h"
#include "engine/step_pace.h"
#include "engine/tenants.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"
#include "kernels/base/mutex.h"
#include "kernels/ops.h"

namespace rasq {

class Engine::Impl {
 public:
  static absl::StatusOr<std::unique_ptr<Impl>> Create(const EngineOptions& options,
                                                      EngineObserver* observer,
                                                      std::shared_ptr<StateStore> store);
  absl::Status Adopt(StoredSession stored);
  ~Impl();

  const ModelInfo& model_info() const { return model_info_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const EngineOptions& options() const { return options_; }
  EngineStats Stats() const;
  absl::Status Health() const;
  int32_t FreePlaces(Strategy strategy) const;
  bool HasSession(const ScopedName& name) const;
  bool HasRequest(const ScopedName& request) const;

  absl::StatusOr<SessionInfo> CreateSession(const CreateSessionRequest& request);
  absl::StatusOr<SessionInfo> GetSession(const ScopedName& name) const;
  absl::StatusOr<SessionPage> ListSessions(const std::string& tenant, int32_t page_size,
                                           const std::string& page_token) const;
  void DeleteSession(const ScopedName& name, const std::function<void(absl::Status)>& done);
  void ForkSession(const ForkSessionRequest& request,
                   const std::function<void(absl::StatusOr<SessionInfo>)>& done);
  void SnapshotSession(const SnapshotRequest& request,
                       const std::function<void(absl::StatusOr<SnapshotInfo>)>& done);
  void RestoreSession(const RestoreSessionRequest& request,
                      std::function<void(absl::StatusOr<SessionInfo>)> done);
  absl::StatusOr<AppendReceipt> Append(
      AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed);
  absl::StatusOr<int64_t> Generate(GenerateRequest request, std::shared_ptr<GenerateSink> sink);
  void Cancel(int64_t generation);

 private:
  using SessionPtr = std::shared_ptr<Session>;

  // Slots of one size. Strategies rasq and window share theirs, and sessions of these may be
  // parked; each other strategy has its own, and its sessions stay on the device.
  struct StateRoom {
    std::unique_ptr<SlotPool> slots;       // for sessions
    std::unique_ptr<SlotPool> work_slots;  // for generations' copies
    int32_t max_open = 0;                  // sessions
    bool parks = false;
  };

  // The states of one strategy, and how they lie in their slots.
  struct StatePool {
    StateLayout layout;
    StateRoom* room = nullptr;
    StateOrigin origin;
  };

  // What a step moves forward: a session's own stream, or a generation's copy of it, or a part of
  // the search that comes before an answer.
  struct Stream {
    SessionPtr session;
    std::shared_ptr<Generation> generation;  // null: the session's own
    Probe* probe = nullptr;                  // of the generation's search; null: none

    InputQueue& queue() const {
      if (probe != nullptr) return probe->queue;
      return generation ? *generation->queue : session->queue;
    }
    StreamCursor& cursor() const {
      if (probe != nullptr) return probe->cursor;
      return generation ? generation->cursor : session->cursor;
    }
    int64_t& deficit() const { return generation ? generation->deficit : session->deficit; }
  };
  struct Share {
    Stream stream;
    int64_t tokens;
  };
  struct StepPlan {
    std::vector<Share> shares;
    int32_t decoding = 0;       // the first of `shares`: generations that take one token each
    bool appends_wait = false;  // there was input to absorb
  };

  // Ends an append when it is in the session's state and on disk, whichever comes last.
  class DurableAck;

  Impl(const EngineOptions& options, EngineObserver* observer, std::shared_ptr<StateStore> store);
  absl::Status Init();
  // The largest step, if `max_sessions` (0: as many as fit) sessions may be open.
  absl::StatusOr<StepLimits> MakeLimits(int32_t max_sessions, const MemoryConfig& memory) const;
  absl::Status InitPools(int32_t max_sessions, const MemoryConfig& memory);
  absl::Status InitRooms(int32_t max_sessions);
  absl::Status InitParking(int64_t slot_bytes);
  // States that lie in slots of the pools above, but otherwise (engine_variants.cc): of strategy
  // rasq without a part, and of generations that read text which is kept on the host.
  absl::Status InitVariants(const MemoryConfig& memory);
  absl::StatusOr<std::unique_ptr<StatePool>> MakeVariant(const MemoryConfig& memory) const;
  absl::Status InitProbes(const MemoryConfig& memory);
  int32_t ExtraProbes() const;
  // Null if such sessions are not served.
  const StatePool* FindPool(const SessionOptions& options) const;
  const StatePool& PoolOf(const SessionOptions& options) const { return *FindPool(options); }
  std::string NotServed(const SessionOptions& options) const;  // why FindPool finds none

  // Callers' side.
  absl::StatusOr<SessionOptions> CheckOptions(const SessionOptions& options) const;
  absl::StatusOr<RagOptions> CheckRag(const RagOptions& options) const;
  absl::StatusOr<AttentionRagOptions> CheckAttentionRag(const AttentionRagOptions& options) const;
  // What a session that keeps a history refuses; of others nothing.
  static absl::Status CheckHistoryContent(const Session& session, const Content& content);
  // kFailedPrecondition or kInvalidArgument if it asks for scores that there cannot be.
  static absl::Status CheckScore(const Session& session, const AppendRequest& request);
  absl::Status CheckHistoryRoom(const Session& session, int64_t num_tokens) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckPassages(const Session& session, int64_t prompt_tokens) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static absl::Status CheckSearch(const Session& session, int64_t prompt_tokens);
  absl::Status CheckGenerate(const GenerateRequest& request) const;
  absl::Status CheckContent(const Content& content) const;
  absl::Status LogHealth() const;
  static absl::Status ForClients(const absl::Status& log);
  // The pool that a record's state fits in: kFailedPrecondition if it is of another model.
  absl::StatusOr<const StatePool*> PoolOf(const SessionRecord& record,
                                          absl::string_view where) const;
  // A session that has come as far as `record`; its state is still to be put in its place.
  absl::StatusOr<SessionPtr> MakeSession(SessionRecord record);
  const StateRoom& RoomOf(const Session& session) const;
  // Into the registry: kAlreadyExists, kResourceExhausted. An empty id is replaced by a new one.
  enum class Arrival : int8_t { kNew, kAdopted };  // the latter was there before the engine
  absl::Status Register(const SessionPtr& session, Arrival arrival = Arrival::kNew)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckRoom(const ScopedName& name, Strategy strategy) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckLabels(const std::map<std::string, std::string>& labels) const;
  absl::Status CheckTokens(const Input& input) const;
  absl::StatusOr<SessionInfo> Repeated(const ScopedName& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status AddTask(const ScopedName& name, std::function<absl::StatusOr<bool>(SessionPtr)> task,
                       std::function<void(const absl::Status&)> on_dropped);
  absl::StatusOr<SessionPtr> Find(const ScopedName& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<SessionPtr> FindUsable(const ScopedName& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status MarkDeleting(const ScopedName& name, const std::function<void(absl::Status)>& done);
  SessionInfo InfoOf(const Session& session) const;
  SessionInfo Info(const Session& session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The tokens of content that follows what `text` holds back; a BOS first if it is due.
  std::vector<std::shared_ptr<const Input>> ToInput(Content content, bool pinned, bool& begun,
                                                    TextStream& text, int64_t& num_tokens) const;

  // The thread's side: its loop and the life of sessions (engine_loop.cc) ...
  void Run();
  void Shutdown();
  void Admit(std::deque<std::pair<SessionPtr, WorkItem>>& inbox);
  void Cancel(const std::vector<int64_t>& ids);
  void ExpireSessions();
  void FinishDeletes();
  void DropAppendsBehindGenerations(const SessionPtr& session);
  void DropItems(const SessionPtr& session, const absl::Status& status);
  void ForgetInput(Session& session);
  void EndItem(Session& session, const WorkItem& item, const absl::Status& status);
  void EndItems(const SessionPtr& session, const absl::Status& status);
  void EndBackground();
  void FailSession(const SessionPtr& session, const absl::Status& status);
  // ... where their states are (engine_places.cc): on the device while they are at work, elsewhere
  // when others need the room. What returns a bool gives false if it has to be tried again later.
  void SetPlace(Session& session, Place place);
  void ServePlaces();
  void MakeSpace();
  absl::StatusOr<bool> BringIn(const SessionPtr& session);
  absl::StatusOr<bool> CopyState(const SessionPtr& session, std::byte* to);
  absl::StatusOr<Slot> TakeSlot(SlotPool& slots, const Session* keep, bool exchange);
  absl::StatusOr<bool> Park(const SessionPtr& session, bool exchange);
  SessionPtr ToPark(const Session* keep) const;
  Slot TakeHostSlot();
  int32_t SpareHostSlots() const;
  std::shared_ptr<HostState> TakeHostMemory(int64_t bytes);
  void PutOnDevice(const SessionPtr& session, Slot slot);
  void PutOnHost(const SessionPtr& session, std::shared_ptr<HostState> host);
  void ReadState(const SessionPtr& session);
  void WriteState(const SessionPtr& session, const std::shared_ptr<HostState>& host);
  void WriteCheckpoint(const SessionPtr& session);
  void AfterWrite(const SessionPtr& session, const SessionRecord& record, const std::string& path,
                  int64_t logged, int64_t num_loaded, const absl::Status& status);
  void NoteCheckpoint(const SessionPtr& session, const SessionRecord& record,
                      const std::string& path, int64_t logged);
  SessionRecord MakeRecord(const Session& session) const;
  void SaveAll();
  absl::Status Save(const SessionPtr& session);
  void ForgetPlaces(const SessionPtr& session);
  // Disk work on the store's threads; what it posts runs on this one.
  void Background(std::function<void()> work);
  void Post(std::function<void()> task);
  // ... their copies (engine_copies.cc): forks, snapshots, sessions of an earlier run ...
  absl::StatusOr<bool> Fork(const SessionPtr& source, const ForkSessionRequest& request,
                            const std::function<void(absl::StatusOr<SessionInfo>)>& done);
  absl::StatusOr<bool> Snapshot(const SessionPtr& session, const SnapshotRequest& request,
                                const std::function<void(absl::StatusOr<SnapshotInfo>)>& done);
  struct Restored;
  void StartRestores();
  void FinishRestore(Restored restored);
  // ... what is durable (engine_log.cc) ...
  void EnterLog(const SessionPtr& session, const SessionRecord& record,
                std::function<void(absl::Status)> done);
  void Log(Session& session, WorkItem& item);
  void EndLogCalls(absl::Duration patience);
  // ... who moves forward next, and by how much (engine_plan.cc) ...
  int32_t WeightOf(const std::string& tenant) const;
  std::vector<SessionPtr> ServingOrder();
  double& DrawnBy(const std::string& tenant);
  void CountStart(const std::string& tenant);
  StepPlan PlanShares();
  void PlanDecoding(StepPlan& plan);
  static void AddShares(const Stream& stream, int64_t tokens, StepPlan& plan);
  std::vector<Flow> FindFlows(int64_t rows, std::vector<Stream>& streams);
  bool MayMove(const std::string& tenant, TokenKind kind, int64_t& tokens);
  void AccountStep(const StepPlan& plan, const std::vector<StreamStep>& steps, absl::Duration time);
  // ... sessions that keep their text on the host (engine_history.cc) ...
  bool AdvanceHistory(const SessionPtr& session);
  absl::Status BeginReading(const Session& session, Generation& generation);
  void AddContext(Generation& generation, const std::vector<Passage>& passages, int64_t searched);
  // ... of them those that look up where an answer attends (engine_attention_rag.cc) ...
  void BeginSearch(const Session& session, Generation& generation, std::vector<int32_t> question,
                   std::vector<Passage> chunks);
  void AfterProbe(const Stream& stream, const StepOutcome& outcome);
  absl::Status EndSearch(const Session& session, Generation& generation);
  // ... appends that are scored (engine_scores.cc) ...
  static void AddTargets(Session& session, const InputToken& next, StreamStep& step);
  static void NoteScores(Session& session, const StreamStep& step, const StepOutcome& outcome);
  bool WaitsForScore(const SessionPtr& session);
  bool ScoreTails();
  // ... and a step (engine_step.cc): items in order of acceptance, what one step does of them, and
  // what comes of it. RunStep is false if there was nothing to do.
  void ServeItems(const SessionPtr& session);
  bool DoTask(const SessionPtr& session);
  void LoadItems(Session& session);
  bool AbsorbItems(const SessionPtr& session);
  absl::StatusOr<bool> StartGeneration(const SessionPtr& session, Generation& generation);
  void ReturnHeldText(const SessionPtr& session, const Generation& generation);
  static StreamStep StepOf(const Session& session, std::byte* state, StreamCursor& cursor,
                           std::vector<InputToken> tokens);
  StreamStep MakeStep(const Share& share);
  bool RunStep();
  void ReportStep(const std::vector<Share>& shares, absl::Duration time);
  void FailStep(const std::vector<Share>& shares, const absl::Status& status);
  absl::Status ClearFresh(const Stream& stream);
  void AfterToken(const SessionPtr& session, const std::shared_ptr<Generation>& generation,
                  const StepOutcome& outcome);
  void NoteRetrievals(Generation* generation, const StepOutcome& outcome);
  void EndGeneration(const SessionPtr& session, const std::shared_ptr<Generation>& generation,
                     absl::StatusOr<FinishReason> end);
  WorkItem CommitItem(const SessionPtr& session, const std::shared_ptr<Generation>& generation,
                      GenerateSummary summary);
  void ForgetGeneration(const Generation& generation, Session& session, bool was_running);

  const EngineOptions options_;
  EngineObserver* const observer_;
  const std::shared_ptr<StateStore> store_;  // null: none

  // Constant after Init.
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Model> model_;         // the thread's own
  std::map<Strategy, StateRoom> rooms_;  // by strategy; kDefault: that of rasq and window
  // Of sessions that keep a history: places without slots.
  std::map<Strategy, StateRoom> history_rooms_;
  std::vector<StateLayout> probe_layouts_;  // of searches, by length
  std::unique_ptr<SlotPool> host_slots_;
  std::map<Strategy, StatePool> pools_;
  // Of rasq: without clusters, null if the model has none; without compression.
  std::unique_ptr<StatePool> no_sqa_pool_, no_rckv_pool_;
  std::vector<bool> ends_sentence_;  // see SentenceEnds
  ModelInfo model_info_;
  SchedulerLimits scheduler_limits_;
  EngineStats base_stats_;  // what does not change

  // Shared.
  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::map<ScopedName, SessionPtr> sessions_ ABSL_GUARDED_BY(mu_);
  std::map<ScopedName, ScopedName> session_of_request_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<SessionPtr, WorkItem>> inbox_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> cancels_ ABSL_GUARDED_BY(mu_);
  int32_t num_deleting_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t next_key_ ABSL_GUARDED_BY(mu_) = 1;
  int64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;  // of sessions that are given none
  int64_t next_generation_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<int64_t, SessionPtr> generations_open_ ABSL_GUARDED_BY(mu_);  // queued and running
  int32_t generations_running_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t backlog_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t appended_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t generated_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t buffer_replacements_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<const StateRoom*, int32_t> num_open_ ABSL_GUARDED_BY(mu_);  // sessions
  int32_t num_on_host_ ABSL_GUARDED_BY(mu_) = 0;
  int32_t num_on_disk_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t parks_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t unparks_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t files_written_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t files_failed_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t log_entries_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<std::function<void()>> posted_ ABSL_GUARDED_BY(mu_);
  int32_t in_background_ ABSL_GUARDED_BY(mu_) = 0;  // work that has not ended
  int32_t log_waits_ ABSL_GUARDED_BY(mu_) = 0;      // calls of the log that call back here
  CondVar background_;                              // less of these

  // The thread's own.
  std::map<int64_t, SessionPtr> busy_;     // sessions with items, by key
  std::map<int64_t, Stream> generations_;  // queued and running, by id
  std::vector<Stream> running_;
  std::vector<SessionPtr> tails_;  // whose last segments are to be scored, first come first served
  SchedulerState scheduler_;
  StepPace pace_;
  std::map<std::string, double> drawn_;  // tokens for its weight, by tenant: see ServingOrder
  double least_drawn_ = 0;               // of those that wait, when a generation last started
  // Until somebody who is over a rate may move; infinite: nobody is.
  absl::Duration quota_wait_ = absl::InfiniteDuration();
  absl::Time next_expiry_check_;
  int64_t num_steps_ = 0;
  bool history_waits_ = false;               // there are tokens to take into a history or its index
  std::map<int64_t, SessionPtr> on_device_;  // sessions that may be parked, by key
  std::map<int64_t, SessionPtr> on_host_;    // by the order in which they came there
  int64_t next_place_order_ = 1;
  std::deque<SessionPtr> waiting_;                        // for a slot, first come first served
  std::vector<std::shared_ptr<HostState>> being_copied_;  // to the device, until it is waited for
  absl::Time next_write_;                                 // not before, after one that failed
  bool disk_refuses_ = false;                             // the last write failed
  bool host_short_ = false;  // somebody found no host memory, since ServePlaces last ended
  std::deque<std::pair<RestoreSessionRequest, std::function<void(absl::StatusOr<SessionInfo>)>>>
      restores_;
  int32_t restoring_ = 0;

  std::thread thread_;
};

}  // namespace rasq
