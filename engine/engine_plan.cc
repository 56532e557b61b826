// Who moves forward next, and by how much: the engine's side of fairness (scheduler.h), quotas
// (tenants.h) and pace (step_pace.h).
#include <algorithm>
#include <limits>
#include <utility>

#include "engine/engine_impl.h"
#include "kernels/stream_attention.h"

namespace rasq {

namespace {

// What a start counts for, in drawn tokens: those that start at once shall be of several tenants.
constexpr double kStartTokens = 64;

}  // namespace

int32_t Engine::Impl::WeightOf(const std::string& tenant) const {
  return options_.tenants ? options_.tenants->Weight(tenant) : 1;
}

// Sessions with items. While generations wait for a place, that one comes first whose tenant has
// drawn the fewest tokens for its weight; of a tenant's, the higher priority, then who has waited
// longest.
std::vector<Engine::Impl::SessionPtr> Engine::Impl::ServingOrder() {
  std::vector<SessionPtr> order;  // a copy of busy_: serving an item may end others
  for (const auto& [key, session] : busy_) order.push_back(session);
  if (generations_.size() == running_.size()) return order;

  struct Waiting {
    double drawn;  // what the tenant will have drawn if those before start
    SessionPtr session;
    int32_t priority() const { return session->options.priority; }
    int64_t id() const { return session->items.front().generation->id; }
  };
  std::vector<Waiting> waiting;
  std::vector<SessionPtr> others;
  for (const SessionPtr& session : order) {
    LoadItems(*session);
    AbsorbItems(session);
    if (session->items.empty() || session->items.front().generation == nullptr) {
      others.push_back(session);
    } else {
      waiting.push_back({0, session});
    }
  }
  std::sort(waiting.begin(), waiting.end(), [](const Waiting& a, const Waiting& b) {
    return a.priority() != b.priority() ? a.priority() > b.priority() : a.id() < b.id();
  });
  std::map<std::string, int32_t> before;
  for (Waiting& w : waiting) {
    const std::string& tenant = w.session->name.tenant;
    w.drawn = DrawnBy(tenant) + before[tenant]++ * kStartTokens / WeightOf(tenant);
  }
  std::stable_sort(waiting.begin(), waiting.end(),
                   [](const Waiting& a, const Waiting& b) { return a.drawn < b.drawn; });
  for (Waiting& w : waiting) others.push_back(std::move(w.session));
  return others;
}

// Who comes back after a while does not make up for it.
double& Engine::Impl::DrawnBy(const std::string& tenant) {
  double& drawn = drawn_[tenant];
  drawn = std::max(drawn, least_drawn_);
  return drawn;
}

void Engine::Impl::CountStart(const std::string& tenant) {
  least_drawn_ = DrawnBy(tenant);
  drawn_[tenant] += kStartTokens / WeightOf(tenant);
  std::erase_if(drawn_, [this](const auto& entry) { return entry.second < least_drawn_; });
}

// Which streams move in this step, and by how many tokens: generations that decode come first and
// take one each, the others and the sessions themselves share the rest.
Engine::Impl::StepPlan Engine::Impl::PlanShares() {
  StepPlan plan;
  quota_wait_ = absl::InfiniteDuration();
  PlanDecoding(plan);
  SchedulerLimits limits = scheduler_limits_;
  if (plan.decoding > 0) {
    limits.flow_rows = pace_.AppendRows(plan.decoding);
    limits.least_piece = kLeastPartRows;
  }
  std::vector<Stream> streams;
  std::vector<Flow> flows =
      FindFlows(limits.flow_rows < 0 ? limits.max_rows : limits.flow_rows, streams);
  plan.appends_wait = !flows.empty();
  const std::vector<int32_t> tokens = PlanStep(plan.decoding, limits, flows, scheduler_);
  for (size_t i = 0; i < flows.size(); ++i) {
    streams[i].deficit() = flows[i].deficit;
    if (tokens[i] > 0) AddShares(streams[i], tokens[i], plan);
  }
  return plan;
}

// A generation's search is one flow, which its probes share in their order.
void Engine::Impl::AddShares(const Stream& stream, int64_t tokens, StepPlan& plan) {
  if (stream.generation == nullptr || stream.generation->search == nullptr) {
    plan.shares.push_back({stream, tokens});
    return;
  }
  for (Probe& probe : stream.generation->search->probes()) {
    const int64_t part = std::min(tokens, probe.queue.size());
    if (part == 0) continue;
    plan.shares.push_back({{stream.session, stream.generation, &probe}, part});
    tokens -= part;
  }
}

// A tenant that may not draw a token for each of its generations draws it for those that have
// waited longest.
void Engine::Impl::PlanDecoding(StepPlan& plan) {
  std::vector<const Stream*> decoding;
  for (const Stream& stream : running_) {
    if (stream.generation->decoding()) decoding.push_back(&stream);
  }
  if (options_.tenants) {
    std::stable_sort(decoding.begin(), decoding.end(), [](const Stream* a, const Stream* b) {
      return a->generation->last_time < b->generation->last_time;
    });
  }
  std::map<std::string, int64_t> left;  // tokens that a tenant may draw
  for (const Stream* stream : decoding) {
    const std::string& tenant = stream->session->name.tenant;
    const auto [found, is_new] = left.try_emplace(tenant, 0);
    if (is_new) MayMove(tenant, TokenKind::kGenerated, found->second);
    if (found->second == 0) continue;
    --found->second;
    plan.shares.push_back({*stream, 1});
    ++plan.decoding;
  }
}

// Streams with whole segments, in order of their keys, of tenants that may append. Looks at `rows`
// tokens of each, or at a segment if that is more.
std::vector<Flow> Engine::Impl::FindFlows(int64_t rows, std::vector<Stream>& streams) {
  std::map<int64_t, Stream> candidates;  // by flow key
  for (const auto& [key, session] : busy_) {
    if (session->slot) candidates[2 * key] = {session, nullptr};
  }
  for (const Stream& stream : running_) {
    if (!stream.generation->decoding()) candidates[2 * stream.session->key + 1] = stream;
  }
  std::vector<Flow> flows;
  std::map<std::string, int64_t> allowed;  // tokens that a tenant may append
  for (const auto& [key, stream] : candidates) {
    const Session& session = *stream.session;
    const int32_t segment = session.layout->shape.segment_rows;
    const AttentionSearch* search = stream.generation ? stream.generation->search.get() : nullptr;
    std::vector<int32_t> parts =
        search != nullptr
            ? search->Parts(rows)
            : stream.queue().Parts(stream.cursor(), segment, std::max<int64_t>(segment, rows),
                                   /*keep_last=*/stream.generation == nullptr);
    if (parts.empty()) continue;
    if (session.layout->has_store()) parts.resize(1);  // it moves by one segment a step
    const auto [found, is_new] = allowed.try_emplace(session.name.tenant, 0);
    if (is_new && MayMove(session.name.tenant, TokenKind::kAppended, found->second)) {
      SchedulerTenant& tenant = scheduler_.tenants[session.name.tenant];
      tenant.weight = WeightOf(session.name.tenant);
      tenant.tokens = found->second;
    }
    if (found->second == 0) continue;
    flows.push_back({.key = key,
                     .tenant = session.name.tenant,
                     .priority = session.options.priority,
                     .parts = std::move(parts),
                     .deficit = stream.deficit()});
    streams.push_back(stream);
  }
  return flows;
}

// Brings `tokens` to what the tenant may move now. If that is none, notes when it may again.
bool Engine::Impl::MayMove(const std::string& tenant, TokenKind kind, int64_t& tokens) {
  tokens = std::numeric_limits<int64_t>::max();
  if (options_.tenants == nullptr) return true;
  tokens = options_.tenants->Allowed(tenant, kind);
  if (tokens == 0) quota_wait_ = std::min(quota_wait_, options_.tenants->Wait(tenant, kind));
  return tokens > 0;
}

// After a step: its tokens are charged, and its time is learned from.
void Engine::Impl::AccountStep(const StepPlan& plan, const std::vector<StreamStep>& steps,
                               absl::Duration time) {
  int64_t appended = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& [stream, tokens] = plan.shares[i];
    const std::string& tenant = stream.session->name.tenant;
    const bool decodes = static_cast<int32_t>(i) < plan.decoding;
    appended += decodes ? 0 : tokens;
    if (steps[i].sample.has_value()) DrawnBy(tenant) += 1.0 / WeightOf(tenant);
    if (options_.tenants == nullptr) continue;
    if (!decodes) options_.tenants->Charge(tenant, TokenKind::kAppended, tokens);
    if (steps[i].sample.has_value()) options_.tenants->Charge(tenant, TokenKind::kGenerated, 1);
  }
  pace_.OnStep(plan.decoding, static_cast<int32_t>(appended), plan.appends_wait,
               absl::ToDoubleSeconds(time));
}

}  // namespace rasq
