#include "engine/scheduler.h"

#include <algorithm>
#include <functional>
#include <optional>

namespace rasq {
namespace {

// What a flow has been given in this step.
struct Sent {
  int32_t parts = 0;
  int32_t tokens = 0;
};

// What is left of a step.
class Room {
 public:
  Room(int32_t num_decoding, const SchedulerLimits& limits)
      : rows_(limits.max_rows - num_decoding),
        segments_(limits.max_segments - num_decoding),
        streams_(limits.max_streams - num_decoding),
        flow_rows_(limits.flow_rows),
        least_piece_(limits.least_piece) {}

  // How much of the next part of a flow fits: all, a piece, or nothing.
  int32_t Fit(int32_t part, const Sent& sent) const {
    if (segments_ == 0 || (sent.parts == 0 && streams_ == 0)) return 0;
    if (flow_rows_ < 0 || part <= flow_rows_) return part <= rows_ ? part : 0;
    if (flow_rows_ == 0) return 0;
    // Even pieces: else a last one could be too small to stand alone.
    const int32_t wanted = (part + flow_rows_ - 1) / flow_rows_;
    const int32_t pieces = std::max(1, std::min(wanted, part / std::max(1, least_piece_)));
    const int32_t piece = (part + pieces - 1) / pieces;
    return piece <= rows_ && (piece <= flow_rows_ || none_taken_) ? piece : 0;
  }

  void Take(int32_t tokens, const Sent& sent) {
    rows_ -= tokens;
    if (flow_rows_ >= 0) flow_rows_ = std::max(0, flow_rows_ - tokens);
    --segments_;
    if (sent.parts == 0) --streams_;
    none_taken_ = false;
  }

 private:
  int32_t rows_;
  int32_t segments_;
  int32_t streams_;
  int32_t flow_rows_;
  const int32_t least_piece_;
  bool none_taken_ = true;
};

// The flows of one tenant and priority, taking turns.
class Level {
 public:
  Level(int32_t quantum, std::vector<Flow>& flows, std::vector<Sent>& sent,
        SchedulerTurn<int64_t>& turn)
      : quantum_(quantum), flows_(flows), sent_(sent), turn_(turn) {}

  // By rising key.
  void Add(size_t flow) {
    members_.push_back(flow);
    waiting_ += HasParts(flow) ? 1 : 0;
    if (flows_[flow].key < turn_.key) ++at_;
  }
  void Begin() {
    at_ %= members_.size();
    if (Key() != turn_.key) turn_ = {.key = Key()};
  }

  // The flow whose turn it is and whose deficit allows its next part.
  std::optional<size_t> Next() {
    while (waiting_ > 0) {
      const size_t flow = members_[at_];
      if (HasParts(flow)) {
        if (!turn_.begun) flows_[flow].deficit += quantum_;
        turn_.begun = true;
        if (flows_[flow].parts[sent_[flow].parts] <= flows_[flow].deficit) return flow;
      }
      Advance();
    }
    return std::nullopt;
  }

  // Of the flow that Next gave.
  void Send(int32_t tokens, bool whole) {
    const size_t flow = members_[at_];
    flows_[flow].deficit -= tokens;
    sent_[flow].tokens += tokens;
    ++sent_[flow].parts;
    if (!whole || HasParts(flow)) return;
    flows_[flow].deficit = 0;
    --waiting_;
    Advance();
  }

 private:
  bool HasParts(size_t flow) const {
    return sent_[flow].parts < static_cast<int32_t>(flows_[flow].parts.size());
  }
  int64_t Key() const { return flows_[members_[at_]].key; }
  void Advance() {
    at_ = (at_ + 1) % members_.size();
    turn_ = {.key = Key()};
  }

  const int32_t quantum_;
  std::vector<Flow>& flows_;
  std::vector<Sent>& sent_;
  SchedulerTurn<int64_t>& turn_;
  std::vector<size_t> members_;
  size_t at_ = 0;
  size_t waiting_ = 0;
};

// A tenant with its flows.
struct Member {
  SchedulerTenant* tenant;
  std::map<int32_t, Level, std::greater<>> levels;  // by priority
  int64_t tokens = 0;                               // sent in this step

  // The level that sends next; null: the tenant has nothing to send, or may not.
  Level* Next() {
    if (tokens >= tenant->tokens) return nullptr;
    for (auto& [priority, level] : levels) {
      if (level.Next().has_value()) return &level;
    }
    return nullptr;
  }
};

// By name.
using Members = std::map<std::string, Member>;

Members MakeMembers(int32_t quantum, std::vector<Flow>& flows, std::vector<Sent>& sent,
                    SchedulerState& state) {
  Members members;
  for (size_t i = 0; i < flows.size(); ++i) {
    SchedulerTenant& tenant = state.tenants[flows[i].tenant];
    Member& member = members.try_emplace(flows[i].tenant, Member{&tenant, {}}).first->second;
    SchedulerTurn<int64_t>& turn = tenant.turns[flows[i].priority];
    member.levels.try_emplace(flows[i].priority, quantum, flows, sent, turn).first->second.Add(i);
  }
  std::erase_if(state.tenants, [&](const auto& entry) { return !members.contains(entry.first); });
  for (auto& [name, member] : members) {
    auto& levels = member.levels;
    std::erase_if(member.tenant->turns,
                  [&levels](const auto& entry) { return !levels.contains(entry.first); });
    for (auto& [priority, level] : levels) level.Begin();
  }
  return members;
}

class Plan {
 public:
  Plan(const SchedulerLimits& limits, int32_t num_decoding, std::vector<Flow>& flows,
       std::vector<Sent>& sent)
      : room_(num_decoding, limits), flows_(flows), sent_(sent) {}

  // A tenant sends what its deficit allows. False if the step is full.
  bool Serve(Member& member) {
    while (Level* level = member.Next()) {
      const size_t flow = *level->Next();
      const int32_t part = flows_[flow].parts[sent_[flow].parts];
      if (part > member.tenant->deficit) return true;
      const int32_t tokens = room_.Fit(part, sent_[flow]);
      if (tokens == 0) return false;
      room_.Take(tokens, sent_[flow]);
      level->Send(tokens, tokens == part);
      member.tokens += tokens;
      member.tenant->deficit -= tokens;
      if (tokens < part) return false;
    }
    member.tenant->deficit = 0;
    return true;
  }

 private:
  Room room_;
  std::vector<Flow>& flows_;
  std::vector<Sent>& sent_;
};

}  // namespace

std::vector<int32_t> PlanStep(int32_t num_decoding, const SchedulerLimits& limits,
                              std::vector<Flow>& flows, SchedulerState& state) {
  std::vector<Sent> sent(flows.size());
  Members members = MakeMembers(limits.quantum, flows, sent, state);
  std::vector<Members::value_type*> waiting;
  int32_t heaviest = 1;
  for (auto& entry : members) {
    if (entry.second.Next() == nullptr) continue;
    waiting.push_back(&entry);
    heaviest = std::max(heaviest, entry.second.tenant->weight);
  }
  Plan plan(limits, num_decoding, flows, sent);
  SchedulerTurn<std::string>& turn = state.turn;
  auto at = std::find_if(waiting.begin(), waiting.end(),
                         [&](const auto* entry) { return entry->first >= turn.key; });
  while (!waiting.empty()) {
    if (at == waiting.end()) at = waiting.begin();
    auto& [name, member] = **at;
    if (name != turn.key) turn = {.key = name};
    if (!turn.begun) {
      // The heaviest sends a quantum in its turn, so that no turn is long.
      member.tenant->deficit +=
          static_cast<double>(limits.quantum) * member.tenant->weight / heaviest;
    }
    turn.begun = true;
    if (!plan.Serve(member)) break;
    at = member.Next() == nullptr ? waiting.erase(at) : at + 1;
    if (!waiting.empty()) turn = {.key = (at == waiting.end() ? waiting.front() : *at)->first};
  }
  std::vector<int32_t> tokens;
  tokens.reserve(sent.size());
  for (const Sent& of_flow : sent) tokens.push_back(of_flow.tokens);
  return tokens;
}

}  // namespace rasq
