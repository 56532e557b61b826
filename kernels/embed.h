// y[t] = table[id[t]], the token embedding, widened to float32.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "kernels/base/stream.h"
#include "kernels/base/thread_pool.h"

namespace rasq {

struct EmbedArgs {
  const void* table;        // [vocab, hidden], of `element`
  DType element;            //
  const int32_t* token_id;  // [rows]; -1 leaves the row of y as it is (it came as an embedding)
  float* y;                 // [rows, hidden]
  int64_t rows;             // >= 0
  int64_t hidden;           // >= 1
  int64_t vocab;            // ids are below it: checked by the CPU version alone
};

absl::Status ValidateEmbed(const EmbedArgs& args);
absl::Status EmbedCpu(const EmbedArgs& args, ThreadPool& pool);
absl::Status EmbedCuda(const EmbedArgs& args, Stream stream);

}  // namespace rasq
