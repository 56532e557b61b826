// How the engine comes up: options, checkpoint, device, states.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "engine/razor_heads.h"
#include "kernels/base/status.h"
#include "kernels/stream_attention.h"

namespace rasq {
namespace {

constexpr int32_t kMany = 1 << 20;

// Whether states of the strategy have slots of their own; the others share some.
bool HasOwnRoom(Strategy strategy) {
  return strategy != Strategy::kRasq && strategy != Strategy::kWindow && !KeepsHistory(strategy);
}

bool Serves(const EngineOptions& options, Strategy strategy) {
  return std::find(options.strategies.begin(), options.strategies.end(), strategy) !=
         options.strategies.end();
}

absl::Status Validate(const EngineOptions& options) {
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("max_sessions", options.max_sessions, -1, kMany));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("max_generations", options.max_generations, 1, kMany));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_full_sessions", options.max_full_sessions, 0, kMany));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("full_context_tokens", options.full_context_tokens, 64, 1 << 24));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_history_sessions", options.max_history_sessions, 0, kMany));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_history_tokens", options.max_history_tokens, 1, kMostHistoryTokens));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("capacity_tokens", options.capacity_tokens, 0, 1 << 24));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_batch_tokens", options.max_batch_tokens, 0, 1 << 20));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_batch_streams", options.max_batch_streams, 1, kMany));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("device_reserve_bytes", options.device_reserve_bytes, 0,
                                           int64_t{1} << 50));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("host_state_bytes", options.host_state_bytes, 0, int64_t{1} << 50));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_open_sessions", options.max_open_sessions, 0, kMany));
  constexpr int64_t kMostTokens = int64_t{1} << 40;
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_backlog_tokens", options.max_backlog_tokens, 1, kMostTokens));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("max_total_backlog_tokens",
                                           options.max_total_backlog_tokens, 1, kMostTokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("max_queued_generations", options.max_queued_generations, 0, kMany));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("max_new_tokens", options.max_new_tokens, 1, 1 << 30));
  RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("default_max_new_tokens", options.default_max_new_tokens,
                                           1, options.max_new_tokens));
  if (options.mixed_step_slowdown != 0) {
    RASQ_RETURN_IF_ERROR(
        CheckRange("mixed_step_slowdown", options.mixed_step_slowdown, 1.0, 1000.0));
  }
  if (options.default_ttl < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("default_ttl=", absl::FormatDuration(options.default_ttl), ": is negative"));
  }
  return ValidateBaselines(options.baselines);
}

absl::Status ValidateStrategies(const EngineOptions& options, const MemoryConfig& memory) {
  for (const Strategy strategy : options.strategies) {
    if (!KeepsHistory(strategy) || Serves(options, Strategy::kFull)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("strategies: ", Name(strategy),
                     " reads in places of strategy full, which must be named beside it"));
  }
  const bool serves_default = Serves(options, Strategy::kWindow) ||
                              (Serves(options, Strategy::kRasq) && memory.has_memory());
  if (serves_default) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("strategies: must hold window",
                                                 memory.has_memory() ? " or rasq" : "",
                                                 ", for sessions that ask for none"));
}

bool IsGpu(const Ops& ops) { return absl::StartsWith(ops.device(), "cuda"); }

// 0: as many as fit.
int32_t MaxSessions(const EngineOptions& options, const Ops& ops) {
  constexpr int32_t kCpuSessions = 16;
  if (options.max_sessions >= 0) return options.max_sessions;
  return IsGpu(ops) ? 0 : kCpuSessions;
}

// A GPU needs more rows to be busy.
int32_t MaxBatchTokens(const EngineOptions& options, const Ops& ops) {
  constexpr int32_t kCpuTokens = 512, kGpuTokens = 4096;
  if (options.max_batch_tokens > 0) return options.max_batch_tokens;
  return IsGpu(ops) ? kGpuTokens : kCpuTokens;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine::Impl>> Engine::Impl::Create(
    const EngineOptions& options, EngineObserver* observer, std::shared_ptr<StateStore> store) {
  RASQ_RETURN_IF_ERROR(Validate(options));
  std::unique_ptr<Impl> impl(new Impl(options, observer, std::move(store)));
  RASQ_RETURN_IF_ERROR(impl->Init());
  impl->thread_ = std::thread([impl = impl.get()] { impl->Run(); });
  return impl;
}

Engine::Impl::Impl(const EngineOptions& options, EngineObserver* observer,
                   std::shared_ptr<StateStore> store)
    : options_(options),
      observer_(observer),
      store_(std::move(store)),
      pace_(options.mixed_step_slowdown, kLeastPartRows) {}

absl::Status Engine::Impl::Init() {
  RASQ_ASSIGN_OR_RETURN(checkpoint_, Checkpoint::Open(options_.model, options_.load_format));
  RASQ_ASSIGN_OR_RETURN(tokenizer_, checkpoint_->LoadTokenizer());
  const ModelConfig& model = checkpoint_->model();
  if (tokenizer_->vocab_size() > model.vocab) {
    return absl::InvalidArgumentError(
        absl::StrCat(options_.model, "/tokenizer.json: has id ", tokenizer_->vocab_size() - 1,
                     ", but config.json says vocab_size=", model.vocab));
  }
  MemoryConfig memory = checkpoint_->memory();
  if (options_.capacity_tokens > 0) {
    if (!memory.has_memory()) {
      return absl::InvalidArgumentError(absl::StrCat("capacity_tokens=", options_.capacity_tokens,
                                                     ": the model has no memory adapter"));
    }
    memory.capacity = options_.capacity_tokens;
  }
  memory.entry_type = options_.entry_type;
  RASQ_RETURN_IF_ERROR(ValidateStrategies(options_, memory));
  RASQ_ASSIGN_OR_RETURN(ops_, OpenOps(options_.ops));

  const int32_t max_sessions = MaxSessions(options_, *ops_);
  RASQ_ASSIGN_OR_RETURN(const StepLimits limits, MakeLimits(max_sessions, memory));
  RASQ_ASSIGN_OR_RETURN(model_, Model::Create(*checkpoint_, memory, limits, *ops_));
  scheduler_limits_ = {.max_rows = limits.max_rows,
                       .max_segments = limits.MaxSegments(memory.segment),
                       .max_streams = limits.max_streams - ExtraProbes(),
                       .quantum = memory.segment};
  const int64_t weight_bytes = ops_->allocated_bytes() - model_->workspace_bytes();
  RASQ_RETURN_IF_ERROR(InitPools(max_sessions, memory));

  const bool has_rasq = pools_.contains(Strategy::kRasq);
  const StateLayout& layout = pools_.at(has_rasq ? Strategy::kRasq : Strategy::kWindow).layout;
  const StateRoom& room = rooms_.at(Strategy::kDefault);
  model_info_ = {
      .name = std::filesystem::path(options_.model).lexically_normal().filename().string(),
      .architecture = model.architecture,
      .fingerprint = checkpoint_->fingerprint(),
      .parameters = checkpoint_->num_parameters(),
      .vocab = model.vocab,
      .hidden = model.hidden,
      .layers = model.num_layers,
      .window_tokens = memory.window,
      .segment_tokens = memory.segment,
      .capacity_tokens = layout.shape.capacity,
      .budget_tokens = std::min(memory.budget, layout.shape.capacity),
      .max_budget_tokens = layout.shape.max_selected,
      .session_state_bytes = layout.bytes,
      .session_slots = room.slots->num_slots(),
      .device = ops_->device(),
      .dtype = Name(ops_->element()),
      .entry_type = Name(layout.entry_type, ops_->element())};
  for (const auto& [strategy, pool] : pools_) {
    if (pool.room->parks) continue;
    model_info_.own_states.push_back({.strategy = strategy,
                                      .sessions = pool.room->max_open,
                                      .state_bytes = pool.layout.bytes,
                                      .max_context_tokens = pool.layout.max_context()});
  }
  base_stats_.slots_total = room.slots->num_slots();
  base_stats_.work_slots = room.work_slots->num_slots();
  base_stats_.weight_bytes = weight_bytes;
  base_stats_.workspace_bytes = model_->workspace_bytes();
  for (const auto& [strategy, own] : rooms_) {
    base_stats_.session_bytes += own.slots->bytes() + own.work_slots->bytes();
  }
  return InitVariants(memory);
}

absl::StatusOr<StepLimits> Engine::Impl::MakeLimits(int32_t max_sessions,
                                                    const MemoryConfig& memory) const {
  int32_t own = 0, stores = 0;  // strategies that have slots of their own, and a store
  for (const Strategy strategy : options_.strategies) {
    if (options_.max_full_sessions > 0 && HasOwnRoom(strategy)) ++own;
    if (options_.max_full_sessions > 0 && KeepsStore(strategy)) ++stores;
  }
  const int32_t copies = options_.max_generations * (1 + own);
  // Every generation that decodes has a row, and beside them one whole segment must fit.
  const int32_t max_rows = MaxBatchTokens(options_, *ops_);
  if (max_rows < copies + memory.segment) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_batch_tokens=", max_rows, ": must be at least ", copies + memory.segment,
                     " for max_generations=", options_.max_generations));
  }
  if (options_.max_batch_streams <= copies) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_batch_streams=", options_.max_batch_streams, ": must be at least ",
                     copies + 1, " for max_generations=", options_.max_generations));
  }
  // The workspace grows with the streams of a step, so it is not made for more than there can be.
  const int32_t all =
      max_sessions == 0 ? kMany : max_sessions + own * options_.max_full_sessions + copies;
  const int32_t max_streams = std::min({all, options_.max_batch_streams, max_rows});
  // Decoding streams may be padded to as many as all copies.
  const int32_t store_streams =
      stores > 0
          ? std::max(copies, stores * (options_.max_full_sessions + options_.max_generations))
          : 0;
  return StepLimits{.max_streams = max_streams + ExtraProbes(),
                    .max_store_streams = std::min(store_streams, max_streams),
                    .max_rows = max_rows,
                    .max_samples = copies + ExtraProbes()};
}

absl::Status Engine::Impl::InitPools(int32_t max_sessions, const MemoryConfig& memory) {
  StoreOptions store{.full_context_tokens = options_.full_context_tokens,
                     .baselines = options_.baselines};
  if (Serves(options_, Strategy::kRazor) && options_.max_full_sessions > 0) {
    RASQ_ASSIGN_OR_RETURN(const HeadScores scores, ScoreHeads(*model_, *ops_, options_.baselines));
    store.retrieval_heads = ChooseRetrievalHeads(scores, checkpoint_->model(), options_.baselines);
  }
  for (const Strategy strategy : options_.strategies) {
    if (strategy == Strategy::kRasq && !memory.has_memory()) continue;
    if (HasOwnRoom(strategy) && options_.max_full_sessions == 0) continue;
    if (KeepsHistory(strategy)) continue;  // InitVariants'
    StatePool& pool = pools_[strategy];
    RASQ_ASSIGN_OR_RETURN(pool.layout, MakeStateLayout(strategy, checkpoint_->model(), memory,
                                                       ops_->element(), store));
    RASQ_RETURN_IF_ERROR(model_->Serve(pool.layout));
    pool.room = &rooms_[HasOwnRoom(strategy) ? strategy : Strategy::kDefault];
    pool.origin = OriginOf(checkpoint_->fingerprint(), ops_->element(), pool.layout);
  }
  RASQ_RETURN_IF_ERROR(InitProbes(memory));
  return InitRooms(max_sessions);
}

absl::Status Engine::Impl::InitRooms(int32_t max_sessions) {
  std::map<Strategy, int64_t> slot_bytes;  // of a room's largest states
  for (const auto& [strategy, pool] : pools_) {
    int64_t& bytes = slot_bytes[HasOwnRoom(strategy) ? strategy : Strategy::kDefault];
    bytes = std::max(bytes, pool.layout.bytes);
  }
  const int32_t own = options_.max_full_sessions, copies = options_.max_generations;
  if (max_sessions == 0) {
    SlotRoom room{.free_bytes = ops_->free_bytes(),
                  .reserve_bytes = options_.device_reserve_bytes,
                  .other_bytes = 0,
                  .slot_bytes = slot_bytes.at(Strategy::kDefault)};
    for (const auto& [strategy, bytes] : slot_bytes) {
      room.other_bytes += (copies + (strategy == Strategy::kDefault ? 0 : own)) * bytes;
    }
    RASQ_ASSIGN_OR_RETURN(max_sessions, SlotsThatFit(room));
  }
  MutexLock lock(mu_);
  for (const auto& [strategy, bytes] : slot_bytes) {
    StateRoom& room = rooms_.at(strategy);
    room.parks = strategy == Strategy::kDefault;
    const int32_t slots = room.parks ? max_sessions : own;
    RASQ_ASSIGN_OR_RETURN(room.slots, SlotPool::Create(*ops_, slots, bytes));
    RASQ_ASSIGN_OR_RETURN(room.work_slots, SlotPool::Create(*ops_, copies, bytes));
    room.max_open = slots;
    num_open_[&room] = 0;
  }
  return InitParking(slot_bytes.at(Strategy::kDefault));
}

absl::Status Engine::Impl::InitParking(int64_t slot_bytes) {
  // Enough for the exchange of two sessions while others go to disk and come back.
  constexpr int64_t kLeastWithDisk = 4;
  constexpr int32_t kOpenWithDisk = 65536;
  const bool disk = store_ != nullptr && store_->has_states();
  int64_t host_slots = options_.host_state_bytes / slot_bytes;
  if (options_.host_state_bytes > 0 && host_slots == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("host_state_bytes=", options_.host_state_bytes, ": a state has ", slot_bytes));
  }
  if (disk) host_slots = std::max(host_slots, kLeastWithDisk);
  RASQ_ASSIGN_OR_RETURN(
      host_slots_,
      SlotPool::CreateOnHost(*ops_, static_cast<int32_t>(std::min<int64_t>(host_slots, kMany)),
                             slot_bytes));
  // Without a disk, one place in host memory is for exchanges.
  StateRoom& room = rooms_.at(Strategy::kDefault);
  const int32_t places = room.slots->num_slots() + std::max(host_slots_->num_slots() - 1, 0);
  room.max_open = options_.max_open_sessions;
  if (room.max_open == 0) room.max_open = disk ? std::max(kOpenWithDisk, places) : places;
  if (!disk && room.max_open > places) {
    return absl::InvalidArgumentError(absl::StrCat("max_open_sessions=", room.max_open,
                                                   ": without a state_dir there are ", places,
                                                   " places for their states"));
  }
  return absl::OkStatus();
}

}  // namespace rasq
