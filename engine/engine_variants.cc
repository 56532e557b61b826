// States that are no pool of their own: of strategy rasq without a part, which lie in its slots but
// otherwise, and of generations that read a history kept on the host, in slots of strategy full.
#include "absl/strings/str_cat.h"
#include "engine/engine_impl.h"
#include "engine/sentences.h"
#include "kernels/base/status.h"

namespace rasq {

// Of rasq with another memory, in the same slots. REQUIRES: its states are not larger.
absl::StatusOr<std::unique_ptr<Engine::Impl::StatePool>> Engine::Impl::MakeVariant(
    const MemoryConfig& memory) const {
  auto pool = std::make_unique<StatePool>(pools_.at(Strategy::kRasq));
  RASQ_ASSIGN_OR_RETURN(
      pool->layout, MakeStateLayout(Strategy::kRasq, checkpoint_->model(), memory, ops_->element(),
                                    {.full_context_tokens = options_.full_context_tokens}));
  pool->origin = OriginOf(checkpoint_->fingerprint(), ops_->element(), pool->layout);
  return pool;
}

absl::Status Engine::Impl::InitVariants(const MemoryConfig& memory) {
  const auto rasq = pools_.find(Strategy::kRasq);
  if (rasq != pools_.end() && rasq->second.layout.has_clusters()) {
    MemoryConfig without = memory;
    without.num_clusters = 0;
    RASQ_ASSIGN_OR_RETURN(no_sqa_pool_, MakeVariant(without));
  }
  if (rasq != pools_.end()) {
    MemoryConfig exact = memory;
    exact.exact_entries = true;
    // As many entries as the bytes hold; one always fits.
    int32_t exceeds = memory.capacity + 1;
    for (exact.capacity = 1; exceeds - exact.capacity > 1;) {
      MemoryConfig tried = exact;
      tried.capacity = exact.capacity + (exceeds - exact.capacity) / 2;
      RASQ_ASSIGN_OR_RETURN(no_rckv_pool_, MakeVariant(tried));
      const bool fits = no_rckv_pool_->layout.bytes <= rasq->second.layout.bytes;
      (fits ? exact.capacity : exceeds) = tried.capacity;
    }
    RASQ_ASSIGN_OR_RETURN(no_rckv_pool_, MakeVariant(exact));
  }
  if (options_.max_history_sessions == 0 || !pools_.contains(Strategy::kFull)) {
    return absl::OkStatus();
  }
  for (const Strategy strategy : options_.strategies) {
    if (!KeepsHistory(strategy)) continue;
    if (ends_sentence_.empty()) ends_sentence_ = SentenceEnds(*tokenizer_);
    StatePool pool = pools_.at(Strategy::kFull);
    pool.layout.strategy = strategy;
    // Its sessions have no state on the device: their tokens mean the same wherever the model does.
    pool.origin = {{"model", checkpoint_->fingerprint()}};
    StateRoom& room = history_rooms_[strategy];
    room.max_open = options_.max_history_sessions;
    pool.room = &room;
    pools_[strategy] = std::move(pool);
    MutexLock lock(mu_);
    num_open_[&room] = 0;
  }
  return absl::OkStatus();
}

const Engine::Impl::StatePool* Engine::Impl::FindPool(const SessionOptions& options) const {
  const bool rasq = options.strategy == Strategy::kRasq;
  if (rasq && options.ablation.no_rckv && no_rckv_pool_ != nullptr) return no_rckv_pool_.get();
  if (rasq && options.ablation.no_sqa && no_sqa_pool_ != nullptr) return no_sqa_pool_.get();
  const auto pool = pools_.find(options.strategy);
  return pool != pools_.end() ? &pool->second : nullptr;
}

// Why FindPool finds none.
std::string Engine::Impl::NotServed(const SessionOptions& options) const {
  if (options.strategy == Strategy::kRasq && !checkpoint_->memory().has_memory()) {
    return "strategy=rasq: the model has no memory adapter (rasq_config.json)";
  }
  std::string served;
  for (const auto& [strategy, pool] : pools_) {
    absl::StrAppend(&served, served.empty() ? "" : ",", Name(strategy));
  }
  return absl::StrCat("strategy=", Name(options.strategy),
                      ": is not served: the server has strategies=", served);
}

}  // namespace rasq
