// Plans a step: which streams move forward, and how far. A pure function: state and limits in, a
// plan out.
//
// Generations that are under way come first: each takes one row, so decoding goes on at every step
// whatever else is waiting. The rest of the step's rows go to flows, streams with input to absorb
// (appended text and prompts), by deficit round robin: flows of equal priority get equal numbers of
// tokens, whatever the sizes of their segments. A higher priority is served first.
// Source: Shreedhar and Varghese 1995, "Efficient fair queueing using deficit round robin".
#pragma once

#include <cstdint>
#include <vector>

namespace rasq {

struct Flow {
  int64_t key = 0;             // names the flow; stable from step to step
  int32_t priority = 0;        // higher first
  std::vector<int32_t> parts;  // tokens of its next segments, in order; each is taken whole
  int64_t deficit = 0;         // tokens it may still send in its turn; kept from step to step
};

struct SchedulerLimits {
  int32_t max_rows = 0;      // tokens of a step
  int32_t max_segments = 0;  // segments of a step
  int32_t max_streams = 0;   // generations and flows of a step
  int32_t quantum = 0;       // tokens that a flow's turn adds to its deficit
};

// Whose turn it is, from step to step.
struct SchedulerTurn {
  int64_t key = 0;           // the flow to visit next is the first with this key or a higher one
  bool interrupted = false;  // its turn began in the last step, which had no room left
};

// How many parts each flow may send: [flows]. `flows` are sorted by key; deficits and `turn` are
// brought up to date. `num_decoding` <= every limit.
std::vector<int32_t> PlanStep(int32_t num_decoding, const SchedulerLimits& limits,
                              std::vector<Flow>& flows, SchedulerTurn& turn);

}  // namespace rasq
