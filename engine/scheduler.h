// Plans a step: which streams move forward, and how far. A pure function: state and limits in, a
// plan out.
//
// Generations that are under way come first: each takes one row. The rest of the step's rows go to
// flows, streams with input to absorb (appended text and prompts), by deficit round robin in two
// levels. Tenants take turns, and get tokens in proportion to their weights whatever the number of
// their flows and the sizes of their segments. In a tenant's turn its flows of the highest priority
// take turns, and get equal numbers of tokens.
// Source: Shreedhar and Varghese 1995, "Efficient fair queueing using deficit round robin".
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace rasq {

struct Flow {
  int64_t key = 0;  // names the flow; stable from step to step
  std::string tenant;
  int32_t priority = 0;        // higher first
  std::vector<int32_t> parts;  // tokens of its next segments, in order
  int64_t deficit = 0;         // tokens it may still send in its turn; kept from step to step
};

struct SchedulerLimits {
  int32_t max_rows = 0;      // tokens of a step
  int32_t max_segments = 0;  // segments of a step
  int32_t max_streams = 0;   // generations and flows of a step
  int32_t quantum = 0;       // tokens that a flow's turn adds to its deficit; >= any part
  // Rows that flows may take, less than `max_rows` leaves for them; -1: no such bound. A part that
  // does not fit is then cut into even pieces of at least `least_piece` rows, and the first piece
  // goes even if that is somewhat more. 0: none go.
  int32_t flow_rows = -1;
  int32_t least_piece = 0;
};

// Whose turn it is, from step to step.
template <typename Key>
struct SchedulerTurn {
  Key key = {};        // the one to visit next is the first with this key or a higher one
  bool begun = false;  // its deficit has already grown for this turn
};

struct SchedulerTenant {
  // Set by the caller for each step.
  int32_t weight = 1;                                    // >= 1
  int64_t tokens = std::numeric_limits<int64_t>::max();  // its last part begins below this number
  // Kept from step to step.
  double deficit = 0;
  std::map<int32_t, SchedulerTurn<int64_t>> turns;  // of its flows, by priority
};

struct SchedulerState {
  std::map<std::string, SchedulerTenant> tenants;
  SchedulerTurn<std::string> turn;
};

// How many tokens each flow may send: [flows]. `flows` are sorted by key; deficits and `state` are
// brought up to date, and tenants without flows are dropped. `num_decoding` <= every limit.
std::vector<int32_t> PlanStep(int32_t num_decoding, const SchedulerLimits& limits,
                              std::vector<Flow>& flows, SchedulerState& state);

}  // namespace rasq
