// A backend: one device's memory and its versions of the operations. The model is written once
// against this; CpuOps is linked in, others are modules loaded at run time (OpenOps), so that one
// package serves machines with and without a GPU, and no GPU library is loaded where there is none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/budget_head.h"
#include "kernels/chunk_entries.h"
#include "kernels/cluster_entries.h"
#include "kernels/compress_entries.h"
#include "kernels/copy_rows.h"
#include "kernels/embed.h"
#include "kernels/gemm.h"
#include "kernels/index_tokens.h"
#include "kernels/key_weights.h"
#include "kernels/pyramid_entries.h"
#include "kernels/razor_entries.h"
#include "kernels/repeat_scores.h"
#include "kernels/replace_entries.h"
#include "kernels/retrieval_scores.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/sample.h"
#include "kernels/select_entries.h"
#include "kernels/stream_attention.h"
#include "kernels/summarize_entries.h"
#include "kernels/swiglu.h"
#include "kernels/token_logprobs.h"

namespace rasq {

// Bytes on the device; freed by its destructor. The Ops that made it must outlive it.
class Buffer {
 public:
  virtual ~Buffer() = default;
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 protected:
  Buffer(std::byte* data, int64_t bytes) : data_(data), bytes_(bytes) {}

 private:
  std::byte* data_;
  int64_t bytes_;
};

// Work that was recorded, to be replayed: see Ops::BeginRecording.
class Recording {
 public:
  virtual ~Recording() = default;
};

// Operations run in the order of the calls. Used by one thread at a time. Arguments' pointers are
// to this device's memory unless said otherwise.
class Ops {
 public:
  virtual ~Ops() = default;

  virtual std::string device() const = 0;  // "cpu", "cuda:0"
  virtual DType element() const = 0;       // of activations between operations, and of the states

  // Zero-filled, aligned to 256 bytes. kResourceExhausted names the size.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) = 0;
  // Host memory, zero-filled, that copies to and from the device run fastest with.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(int64_t bytes) = 0;
  virtual int64_t allocated_bytes() const = 0;  // on the device, now alive
  virtual int64_t free_bytes() const = 0;       // that Allocate could still give
  // `host` may be changed on return; memory of AllocateHost only after the next CopyToHost.
  virtual absl::Status CopyToDevice(void* device, const void* host, int64_t bytes) = 0;
  virtual absl::Status CopyToHost(void* host, const void* device, int64_t bytes) = 0;  // waits
  virtual absl::Status CopyOnDevice(void* to, const void* from, int64_t bytes) = 0;
  virtual absl::Status Zero(void* device, int64_t bytes) = 0;

  // `weight` is in host memory: [out, in] in float32.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(const float* weight, int64_t out,
                                                             int64_t in) = 0;

  // Random weights: uniform in [-scale, scale), a function of the seed alone.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> RandomMatrix(int64_t out, int64_t in, float scale,
                                                               uint64_t seed) = 0;
  // The same for `count` elements of element().
  virtual absl::Status FillRandom(void* device, int64_t count, float scale, uint64_t seed) = 0;

  // A device on which each launch costs the host time can record operations and replay them in one
  // launch: what BeginRecording and EndRecording enclose does not run, but becomes a Recording. It
  // may hold operations alone, no copies to or from the host, and its arguments keep their values;
  // what they point to may change. Backends without use for it leave can_record() false.
  virtual bool can_record() const { return false; }
  virtual absl::Status BeginRecording();
  virtual absl::StatusOr<std::unique_ptr<Recording>> EndRecording();
  virtual absl::Status Replay(const Recording& recording);

  virtual absl::Status Gemm(const GemmArgs& args) = 0;
  virtual absl::Status Embed(const EmbedArgs& args) = 0;
  virtual absl::Status RmsNorm(const RmsNormArgs& args) = 0;
  virtual absl::Status Swiglu(const SwigluArgs& args) = 0;
  virtual absl::Status RotationTable(const RotationTableArgs& args) = 0;
  virtual absl::Status Rotary(const RotaryArgs& args) = 0;
  virtual absl::Status IndexTokens(const IndexTokensArgs& args) = 0;
  virtual absl::Status StageRows(const StageRowsArgs& args) = 0;
  virtual absl::Status WriteRing(const WriteRingArgs& args) = 0;
  virtual absl::Status CommitRows(const CommitRowsArgs& args) = 0;
  virtual absl::Status ReplaceEntries(const ReplaceEntriesArgs& args) = 0;
  virtual absl::Status RetrievalScores(const RetrievalScoresArgs& args) = 0;
  virtual absl::Status BudgetHead(const BudgetHeadArgs& args) = 0;
  virtual absl::Status SelectEntries(const SelectEntriesArgs& args) = 0;
  virtual absl::Status KeepSinks(const KeepSinksArgs& args) = 0;
  virtual absl::Status CompressEntries(const CompressEntriesArgs& args) = 0;
  virtual absl::Status ClusterEntries(const ClusterEntriesArgs& args) = 0;
  virtual absl::Status KeepClusters(const KeepClustersArgs& args) = 0;
  virtual absl::Status LoseEntries(const LoseEntriesArgs& args) = 0;
  virtual absl::Status SummarizeEntries(const SummarizeEntriesArgs& args) = 0;
  virtual absl::Status ListSummaries(const ListSummariesArgs& args) = 0;
  virtual absl::Status StreamAttention(const StreamAttentionArgs& args) = 0;
  virtual absl::Status KeyWeights(const KeyWeightsArgs& args) = 0;
  virtual absl::Status PyramidEntries(const PyramidEntriesArgs& args) = 0;
  virtual absl::Status RazorEntries(const RazorEntriesArgs& args) = 0;
  virtual absl::Status RepeatScores(const RepeatScoresArgs& args) = 0;
  virtual absl::Status ChunkEntries(const ChunkEntriesArgs& args) = 0;
  virtual absl::Status ChunkQueries(const ChunkQueriesArgs& args) = 0;
  virtual absl::Status Sample(const SampleArgs& args) = 0;
  virtual absl::Status TokenLogprobs(const TokenLogprobsArgs& args) = 0;
};

struct OpsOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  int threads = 0;              // of the CPU backend; 0: one per processor
  std::string dtype = "auto";   // "auto", "float32", "bfloat16"; auto: bfloat16 where it is fast
  // Products are computed by one algorithm whatever their number of rows, so that results are equal
  // to the last bit under any schedule. The CPU's always are; on a GPU decoding is slower.
  bool batch_invariant = false;
};

// kInvalidArgument names a field with an unknown value; kUnavailable if the device is not there or
// its module, librasq_NAME.so beside the program or on the library path, cannot be loaded. "auto"
// takes a GPU where one is, else the CPU.
absl::StatusOr<std::unique_ptr<Ops>> OpenOps(const OpsOptions& options);

// What a module exports, as `extern "C"`: returns null and fills `error` on failure. `version` is
// kOpsVersion of the caller: a module of another build refuses.
inline constexpr int kOpsVersion = 8;
using OpenOpsModule = Ops* (*)(int version, int device_index, const OpsOptions& options,
                               std::string& error);
inline constexpr char kOpenOpsModuleName[] = "rasq_open_ops";

}  // namespace rasq
