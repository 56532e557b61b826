#include "kernels/cpu_ops.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/elements_cpu.h"
#include "kernels/matrix_cpu.h"
#include "kernels/random.h"
#include "kernels/row_tasks_cpu.h"

namespace rasq {
namespace {

constexpr int64_t kAlignment = 256;

// More cannot be held: the system would hand the addresses out and end the process at their use.
int64_t PhysicalBytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

class CpuBuffer : public Buffer {
 public:
  // A null `total`: not counted.
  CpuBuffer(std::byte* data, int64_t bytes, std::atomic<int64_t>* total)
      : Buffer(data, bytes), total_(total) {
    if (total_ != nullptr) total_->fetch_add(bytes);
  }
  ~CpuBuffer() override {
    if (total_ != nullptr) total_->fetch_sub(bytes());
    std::free(data());
  }

 private:
  std::atomic<int64_t>* const total_;
};

absl::StatusOr<std::unique_ptr<Buffer>> MakeBuffer(absl::string_view op, int64_t bytes,
                                                   std::atomic<int64_t>* total) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "bytes", bytes, 0, INT64_MAX - kAlignment));
  std::byte* data = nullptr;
  if (bytes <= PhysicalBytes()) {
    const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::max(rounded, kAlignment)));
  }
  if (data == nullptr) return absl::ResourceExhaustedError(absl::StrCat(op, ": bytes=", bytes));
  std::memset(data, 0, bytes);
  return std::make_unique<CpuBuffer>(data, bytes, total);
}

absl::Status CheckScale(absl::string_view op, float scale) {
  if (std::isfinite(scale) && scale >= 0) return absl::OkStatus();
  return BadArgument(op, "scale", scale);
}

// `count` random numbers of `type` at `to`.
void FillRandomElements(DType type, void* to, int64_t count, float scale, uint64_t seed,
                        ThreadPool& pool) {
  constexpr int64_t kRun = 1024;
  const int64_t num_runs = (count + kRun - 1) / kRun;
  ForRowRanges(pool, num_runs, kRun * 8, [&](int64_t begin, int64_t end) {
    float run[kRun];
    for (int64_t first = begin * kRun; first < std::min(count, end * kRun); first += kRun) {
      const int64_t n = std::min(kRun, count - first);
      for (int64_t i = 0; i < n; ++i) run[i] = WeightAt(seed, first + i, scale);
      StoreElements(type, run, static_cast<std::byte*>(to) + first * SizeOf(type), n);
    }
  });
}

absl::Status CheckCopy(absl::string_view op, const void* to, const void* from, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "bytes", bytes, 0));
  if (bytes == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "to", to));
  return CheckNotNull(op, "from", from);
}

absl::Status Copy(absl::string_view op, void* to, const void* from, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy(op, to, from, bytes));
  if (bytes > 0) std::memcpy(to, from, bytes);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Buffer>> CpuOps::Allocate(int64_t bytes) {
  return MakeBuffer("Allocate", bytes, &allocated_bytes_);
}

absl::StatusOr<std::unique_ptr<Buffer>> CpuOps::AllocateHost(int64_t bytes) {
  return MakeBuffer("AllocateHost", bytes, /*total=*/nullptr);
}

int64_t CpuOps::free_bytes() const {
  return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

absl::Status CpuOps::CopyToDevice(void* device, const void* host, int64_t bytes) {
  return Copy("CopyToDevice", device, host, bytes);
}

absl::Status CpuOps::CopyToHost(void* host, const void* device, int64_t bytes) {
  return Copy("CopyToHost", host, device, bytes);
}

absl::Status CpuOps::CopyOnDevice(void* to, const void* from, int64_t bytes) {
  return Copy("CopyOnDevice", to, from, bytes);
}

absl::Status CpuOps::Zero(void* device, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy("Zero", device, device, bytes));
  if (bytes > 0) std::memset(device, 0, bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuOps::PackMatrix(const float* weight, int64_t out,
                                                           int64_t in) {
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Matrix> matrix, PackMatrixCpu(weight, out, in, element_));
  static_cast<CpuMatrix&>(*matrix).CountIn(allocated_bytes_);
  return matrix;
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuOps::RandomMatrix(int64_t out, int64_t in, float scale,
                                                             uint64_t seed) {
  RASQ_RETURN_IF_ERROR(CheckRange("RandomMatrix", "out", out, 1, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("RandomMatrix", "in", in, 1, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckScale("RandomMatrix", scale));
  std::vector<float> weight(out * in);
  FillRandomElements(DType::kFloat32, weight.data(), out * in, scale, seed, pool_);
  return PackMatrix(weight.data(), out, in);
}

absl::Status CpuOps::FillRandom(void* device, int64_t count, float scale, uint64_t seed) {
  RASQ_RETURN_IF_ERROR(CheckRange("FillRandom", "count", count, 0));
  RASQ_RETURN_IF_ERROR(CheckScale("FillRandom", scale));
  if (count == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("FillRandom", "device", device));
  FillRandomElements(element_, device, count, scale, seed, pool_);
  return absl::OkStatus();
}

absl::Status CpuOps::Gemm(const GemmArgs& args) { return GemmCpu(args, pool_); }
absl::Status CpuOps::Embed(const EmbedArgs& args) { return EmbedCpu(args, pool_); }
absl::Status CpuOps::RmsNorm(const RmsNormArgs& args) { return RmsNormCpu(args, pool_); }
absl::Status CpuOps::Swiglu(const SwigluArgs& args) { return SwigluCpu(args, pool_); }
absl::Status CpuOps::RotationTable(const RotationTableArgs& args) {
  return RotationTableCpu(args, pool_);
}
absl::Status CpuOps::Rotary(const RotaryArgs& args) { return RotaryCpu(args, pool_); }
absl::Status CpuOps::IndexTokens(const IndexTokensArgs& args) {
  return IndexTokensCpu(args, pool_);
}
absl::Status CpuOps::StageRows(const StageRowsArgs& args) { return StageRowsCpu(args, pool_); }
absl::Status CpuOps::WriteRing(const WriteRingArgs& args) { return WriteRingCpu(args, pool_); }
absl::Status CpuOps::CommitRows(const CommitRowsArgs& args) { return CommitRowsCpu(args, pool_); }
absl::Status CpuOps::ReplaceEntries(const ReplaceEntriesArgs& args) {
  return ReplaceEntriesCpu(args, pool_);
}
absl::Status CpuOps::RetrievalScores(const RetrievalScoresArgs& args) {
  return RetrievalScoresCpu(args, pool_);
}
absl::Status CpuOps::BudgetHead(const BudgetHeadArgs& args) { return BudgetHeadCpu(args, pool_); }
absl::Status CpuOps::SelectEntries(const SelectEntriesArgs& args) {
  return SelectEntriesCpu(args, pool_);
}
absl::Status CpuOps::KeepSinks(const KeepSinksArgs& args) { return KeepSinksCpu(args, pool_); }
absl::Status CpuOps::CompressEntries(const CompressEntriesArgs& args) {
  return CompressEntriesCpu(args, pool_);
}
absl::Status CpuOps::ClusterEntries(const ClusterEntriesArgs& args) {
  return ClusterEntriesCpu(args, pool_);
}
absl::Status CpuOps::KeepClusters(const KeepClustersArgs& args) {
  return KeepClustersCpu(args, pool_);
}
absl::Status CpuOps::LoseEntries(const LoseEntriesArgs& args) {
  return LoseEntriesCpu(args, pool_);
}
absl::Status CpuOps::SummarizeEntries(const SummarizeEntriesArgs& args) {
  return SummarizeEntriesCpu(args, pool_);
}
absl::Status CpuOps::ListSummaries(const ListSummariesArgs& args) {
  return ListSummariesCpu(args, pool_);
}
absl::Status CpuOps::StreamAttention(const StreamAttentionArgs& args) {
  return StreamAttentionCpu(args, pool_);
}
absl::Status CpuOps::KeyWeights(const KeyWeightsArgs& args) { return KeyWeightsCpu(args, pool_); }
absl::Status CpuOps::PyramidEntries(const PyramidEntriesArgs& args) {
  return PyramidEntriesCpu(args, pool_);
}
absl::Status CpuOps::RazorEntries(const RazorEntriesArgs& args) {
  return RazorEntriesCpu(args, pool_);
}
absl::Status CpuOps::RepeatScores(const RepeatScoresArgs& args) {
  return RepeatScoresCpu(args, pool_);
}
absl::Status CpuOps::ChunkEntries(const ChunkEntriesArgs& args) {
  return ChunkEntriesCpu(args, pool_);
}
absl::Status CpuOps::ChunkQueries(const ChunkQueriesArgs& args) {
  return ChunkQueriesCpu(args, pool_);
}
absl::Status CpuOps::Sample(const SampleArgs& args) { return SampleCpu(args, pool_); }
absl::Status CpuOps::TokenLogprobs(const TokenLogprobsArgs& args) {
  return TokenLogprobsCpu(args, pool_);
}

absl::StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const OpsOptions& options) {
  constexpr int kMostThreads = 4096;
  RASQ_RETURN_IF_ERROR(CheckRange("OpsOptions", "threads", options.threads, 0, kMostThreads));
  DType element = CpuHasBfloat16() ? DType::kBfloat16 : DType::kFloat32;
  if (options.dtype == "float32") {
    element = DType::kFloat32;
  } else if (options.dtype == "bfloat16") {
    if (!CpuHasBfloat16()) {
      return absl::UnimplementedError(
          "OpsOptions: dtype=bfloat16: this processor has no bfloat16 products (AVX512-BF16)");
    }
  } else if (options.dtype != "auto") {
    return absl::InvalidArgumentError(absl::StrCat("OpsOptions: dtype=", options.dtype));
  }
  return std::make_unique<CpuOps>(options.threads, element);
}

}  // namespace rasq
