// The tiny model of tests/testdata with summary slots (kernels/summarize_entries.h), of random
// queries.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "nlohmann/json.hpp"
#include "tests/support/tensors.h"
#include "tests/support/tiny_checkpoint.h"

namespace rasq::testing {

class TinyWithSummaries : public TinyCheckpoint {
 public:
  // `more` is of rasq_config.json, as TinyCheckpoint has it.
  TinyWithSummaries(int slots, double decay, nlohmann::json more = nlohmann::json::object(),
                    const Tensors& tensors = {})
      : TinyCheckpoint(Patched(slots, decay, std::move(more)), WithQueries(slots, tensors)) {}

 private:
  static nlohmann::json Patched(int slots, double decay, nlohmann::json more) {
    more["summary_slots"] = slots;
    more["summary_decay"] = decay;
    return more;
  }
  static Tensors WithQueries(int64_t slots, Tensors tensors) {
    constexpr int64_t kHeads = 2, kDim = 8;  // its kv heads, its compressed_dim
    for (const int layer : {1, 2, 3}) {      // those that read memory
      tensors["layers." + std::to_string(layer) + ".memory.summary_query"] = {
          {kHeads, slots, kDim}, RandomFloats(kHeads * slots * kDim, 50 + layer, 4)};
    }
    return tensors;
  }
};

}  // namespace rasq::testing
