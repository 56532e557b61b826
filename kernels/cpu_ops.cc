#include "kernels/cpu_ops.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/matrix_cpu.h"

namespace rasq {
namespace {

constexpr int64_t kAlignment = 256;

// More cannot be held: the system would hand the addresses out and end the process at their use.
int64_t PhysicalBytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

class CpuBuffer : public Buffer {
 public:
  CpuBuffer(std::byte* data, int64_t bytes, std::atomic<int64_t>& total)
      : Buffer(data, bytes), total_(total) {
    total_.fetch_add(bytes);
  }
  ~CpuBuffer() override {
    total_.fetch_sub(bytes());
    std::free(data());
  }

 private:
  std::atomic<int64_t>& total_;
};

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
  RASQ_RETURN_IF_ERROR(CheckRange("Allocate", "bytes", bytes, 0, INT64_MAX - kAlignment));
  std::byte* data = nullptr;
  if (bytes <= PhysicalBytes()) {
    const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::max(rounded, kAlignment)));
  }
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("Allocate: bytes=", bytes));
  }
  std::memset(data, 0, bytes);
  return std::make_unique<CpuBuffer>(data, bytes, allocated_bytes_);
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
absl::Status CpuOps::SelectEntries(const SelectEntriesArgs& args) {
  return SelectEntriesCpu(args, pool_);
}
absl::Status CpuOps::KeepSinks(const KeepSinksArgs& args) { return KeepSinksCpu(args, pool_); }
absl::Status CpuOps::CompressEntries(const CompressEntriesArgs& args) {
  return CompressEntriesCpu(args, pool_);
}
absl::Status CpuOps::StreamAttention(const StreamAttentionArgs& args) {
  return StreamAttentionCpu(args, pool_);
}
absl::Status CpuOps::Sample(const SampleArgs& args) { return SampleCpu(args, pool_); }

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
