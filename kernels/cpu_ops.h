// The CPU backend: the processor's memory and its versions of the operations, on one pool of
// threads.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace rasq {

class CpuOps : public Ops {
 public:
  CpuOps(int num_threads, DType element) : element_(element), pool_(num_threads) {}

  std::string device() const override { return "cpu"; }
  DType element() const override { return element_; }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t bytes) override;
  // The same memory, but not counted in allocated_bytes().
  absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(int64_t bytes) override;
  int64_t allocated_bytes() const override { return allocated_bytes_.load(); }
  int64_t free_bytes() const override;
  absl::Status CopyToDevice(void* device, const void* host, int64_t bytes) override;
  absl::Status CopyToHost(void* host, const void* device, int64_t bytes) override;
  absl::Status CopyOnDevice(void* to, const void* from, int64_t bytes) override;
  absl::Status Zero(void* device, int64_t bytes) override;

  absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(const float* weight, int64_t out,
                                                     int64_t in) override;
  absl::StatusOr<std::unique_ptr<Matrix>> RandomMatrix(int64_t out, int64_t in, float scale,
                                                       uint64_t seed) override;
  absl::Status FillRandom(void* device, int64_t count, float scale, uint64_t seed) override;

  absl::Status Gemm(const GemmArgs& args) override;
  absl::Status Embed(const EmbedArgs& args) override;
  absl::Status RmsNorm(const RmsNormArgs& args) override;
  absl::Status Swiglu(const SwigluArgs& args) override;
  absl::Status RotationTable(const RotationTableArgs& args) override;
  absl::Status Rotary(const RotaryArgs& args) override;
  absl::Status IndexTokens(const IndexTokensArgs& args) override;
  absl::Status StageRows(const StageRowsArgs& args) override;
  absl::Status WriteRing(const WriteRingArgs& args) override;
  absl::Status CommitRows(const CommitRowsArgs& args) override;
  absl::Status ReplaceEntries(const ReplaceEntriesArgs& args) override;
  absl::Status RetrievalScores(const RetrievalScoresArgs& args) override;
  absl::Status BudgetHead(const BudgetHeadArgs& args) override;
  absl::Status SelectEntries(const SelectEntriesArgs& args) override;
  absl::Status KeepSinks(const KeepSinksArgs& args) override;
  absl::Status CompressEntries(const CompressEntriesArgs& args) override;
  absl::Status ClusterEntries(const ClusterEntriesArgs& args) override;
  absl::Status KeepClusters(const KeepClustersArgs& args) override;
  absl::Status LoseEntries(const LoseEntriesArgs& args) override;
  absl::Status SummarizeEntries(const SummarizeEntriesArgs& args) override;
  absl::Status ListSummaries(const ListSummariesArgs& args) override;
  absl::Status StreamAttention(const StreamAttentionArgs& args) override;
  absl::Status KeyWeights(const KeyWeightsArgs& args) override;
  absl::Status PyramidEntries(const PyramidEntriesArgs& args) override;
  absl::Status RazorEntries(const RazorEntriesArgs& args) override;
  absl::Status RepeatScores(const RepeatScoresArgs& args) override;
  absl::Status ChunkEntries(const ChunkEntriesArgs& args) override;
  absl::Status ChunkQueries(const ChunkQueriesArgs& args) override;
  absl::Status Sample(const SampleArgs& args) override;
  absl::Status TokenLogprobs(const TokenLogprobsArgs& args) override;

 private:
  const DType element_;
  ThreadPool pool_;
  std::atomic<int64_t> allocated_bytes_{0};  // outlives the buffers and matrices that count in it
};

// kInvalidArgument for options that make no sense; kUnimplemented for a dtype without a fast path.
absl::StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const OpsOptions& options);

}  // namespace rasq
