// The selection of a chunk's open segment as it lies in its stream's state, for the processor and
// the GPU alike. Private to kernels/.
#pragma once

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/select_entries.h"

namespace rasq {

struct StateSelection {
  RASQ_HOST_DEVICE StateSelection(const SelectEntriesArgs& a, const StreamChunk& c)
      : count(reinterpret_cast<int32_t*>(c.state + a.state.count)),
        row(reinterpret_cast<int32_t*>(c.state + a.state.row)),
        score(reinterpret_cast<float*>(c.state + a.state.score)),
        log_gate(reinterpret_cast<float*>(c.state + a.state.log_gate)),
        position(reinterpret_cast<int64_t*>(c.state + a.state.position)) {}

  int32_t* count;
  int32_t* row;
  float* score;
  float* log_gate;
  int64_t* position;
};

}  // namespace rasq
