#include "engine/scheduler.h"

#include <algorithm>
#include <set>

namespace rasq {
namespace {

// Flows of one priority take turns until all are served or the step is full. Returns false if full.
class RoundRobin {
 public:
  RoundRobin(const SchedulerLimits& limits, int32_t num_decoding, std::vector<Flow>& flows,
             SchedulerTurn& turn)
      : limits_(limits),
        rows_(limits.max_rows - num_decoding),
        segments_(limits.max_segments - num_decoding),
        streams_(limits.max_streams - num_decoding),
        flows_(flows),
        turn_(turn),
        sent_(flows.size()) {}

  bool Serve(const std::vector<size_t>& members) {
    size_t at = 0;
    while (at < members.size() && flows_[members[at]].key < turn_.key) ++at;
    if (at == members.size()) at = 0;
    if (flows_[members[at]].key != turn_.key) turn_.interrupted = false;
    size_t waiting = members.size();
    while (waiting > 0) {
      const size_t index = members[at];
      Flow& flow = flows_[index];
      if (HasParts(index)) {
        if (!turn_.interrupted) flow.deficit += limits_.quantum;
        turn_ = {.key = flow.key, .interrupted = false};
        if (!Send(index)) {
          turn_.interrupted = true;
          return false;
        }
      }
      if (!HasParts(index)) flow.deficit = 0;
      waiting = std::count_if(members.begin(), members.end(),
                              [this](size_t member) { return HasParts(member); });
      at = (at + 1) % members.size();
      turn_ = {.key = flows_[members[at]].key, .interrupted = false};
    }
    return true;
  }

  std::vector<int32_t> sent() { return std::move(sent_); }

 private:
  bool HasParts(size_t index) const {
    return sent_[index] < static_cast<int32_t>(flows_[index].parts.size());
  }

  // Sends what the deficit allows; false if the step has no room for a part that it allows.
  bool Send(size_t index) {
    Flow& flow = flows_[index];
    while (HasParts(index) && flow.parts[sent_[index]] <= flow.deficit) {
      const int32_t part = flow.parts[sent_[index]];
      const int32_t new_streams = sent_[index] == 0 ? 1 : 0;
      if (part > rows_ || segments_ == 0 || streams_ < new_streams) return false;
      streams_ -= new_streams;
      rows_ -= part;
      --segments_;
      flow.deficit -= part;
      ++sent_[index];
    }
    return true;
  }

  const SchedulerLimits& limits_;
  int32_t rows_;
  int32_t segments_;
  int32_t streams_;
  std::vector<Flow>& flows_;
  SchedulerTurn& turn_;
  std::vector<int32_t> sent_;
};

}  // namespace

std::vector<int32_t> PlanStep(int32_t num_decoding, const SchedulerLimits& limits,
                              std::vector<Flow>& flows, SchedulerTurn& turn) {
  RoundRobin round_robin(limits, num_decoding, flows, turn);
  std::set<int32_t, std::greater<>> priorities;
  for (const Flow& flow : flows) priorities.insert(flow.priority);
  for (int32_t priority : priorities) {
    std::vector<size_t> members;
    for (size_t i = 0; i < flows.size(); ++i) {
      if (flows[i].priority == priority) members.push_back(i);
    }
    if (!round_robin.Serve(members)) break;
  }
  return round_robin.sent();
}

}  // namespace rasq
