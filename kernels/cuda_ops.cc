#include "kernels/cuda_ops.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/random_cuda.h"

namespace rasq {
namespace {

constexpr int kLeastCapability = 90;

// A call's own failure, as of an allocation, must not be taken for that of the next launch.
absl::Status ClearedStatus(cudaError_t error, absl::string_view what) {
  if (error != cudaSuccess) cudaGetLastError();
  return CudaStatus(error, what);
}

class DeviceBuffer : public Buffer {
 public:
  DeviceBuffer(int device_index, std::byte* data, int64_t bytes, std::atomic<int64_t>& total)
      : Buffer(data, bytes), device_index_(device_index), total_(total) {
    total_.fetch_add(bytes);
  }
  ~DeviceBuffer() override {
    total_.fetch_sub(bytes());
    cudaSetDevice(device_index_);
    cudaFree(data());  // waits for the work that may use it
  }

 private:
  const int device_index_;
  std::atomic<int64_t>& total_;
};

class PinnedBuffer : public Buffer {
 public:
  PinnedBuffer(int device_index, std::byte* data, int64_t bytes)
      : Buffer(data, bytes), device_index_(device_index) {}
  ~PinnedBuffer() override {
    cudaSetDevice(device_index_);
    cudaFreeHost(data());
  }

 private:
  const int device_index_;
};

class CudaRecording : public Recording {
 public:
  CudaRecording(int device_index, cudaGraphExec_t graph)
      : device_index_(device_index), graph_(graph) {}
  ~CudaRecording() override {
    cudaSetDevice(device_index_);
    cudaGraphExecDestroy(graph_);
  }
  cudaGraphExec_t graph() const { return graph_; }

 private:
  const int device_index_;
  const cudaGraphExec_t graph_;
};

absl::Status CheckCopy(absl::string_view op, const void* to, const void* from, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "bytes", bytes, 0));
  if (bytes == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull(op, "to", to));
  return CheckNotNull(op, "from", from);
}

absl::Status CheckScale(absl::string_view op, float scale) {
  if (std::isfinite(scale) && scale >= 0) return absl::OkStatus();
  return BadArgument(op, "scale", scale);
}

bool IsPinned(const void* host) {
  cudaPointerAttributes attributes = {};
  if (cudaPointerGetAttributes(&attributes, host) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeHost;
}

absl::Status CheckDevice(int device_index) {
  const std::string where = absl::StrCat("CudaOps: device=cuda:", device_index);
  int num_devices = 0;
  RASQ_RETURN_IF_ERROR(ClearedStatus(cudaGetDeviceCount(&num_devices), where));
  if (device_index < 0 || device_index >= num_devices) {
    return absl::UnavailableError(absl::StrCat(where, " of ", num_devices));
  }
  int major = 0, minor = 0;
  RASQ_RETURN_IF_ERROR(ClearedStatus(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_index), where));
  RASQ_RETURN_IF_ERROR(ClearedStatus(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_index), where));
  if (major * 10 + minor < kLeastCapability) {
    return absl::UnavailableError(
        absl::StrCat(where, ": compute capability ", major, ".", minor, ", needed: 9.0"));
  }
  return absl::OkStatus();
}

}  // namespace

CudaOps::CudaOps(int device_index, Stream stream, std::unique_ptr<CudaGemm> gemm,
                 std::unique_ptr<WeightUpload> upload)
    : device_index_(device_index),
      stream_(stream),
      gemm_(std::move(gemm)),
      upload_(std::move(upload)) {}

CudaOps::~CudaOps() {
  cudaSetDevice(device_index_);
  cudaStreamSynchronize(stream_);
  gemm_.reset();
  upload_.reset();
  cudaStreamDestroy(stream_);
}

absl::StatusOr<std::unique_ptr<CudaOps>> CudaOps::Create(int device_index,
                                                         const OpsOptions& options) {
  if (options.dtype != "auto" && options.dtype != "bfloat16") {
    return absl::UnimplementedError(
        absl::StrCat("OpsOptions: dtype=", options.dtype, ": the CUDA backend serves bfloat16"));
  }
  RASQ_RETURN_IF_ERROR(CheckDevice(device_index));
  RASQ_RETURN_IF_ERROR(ClearedStatus(cudaSetDevice(device_index), "CudaOps"));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<CudaGemm> gemm, CudaGemm::Create(options.batch_invariant));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<WeightUpload> upload, WeightUpload::Create());
  cudaStream_t stream = nullptr;
  RASQ_RETURN_IF_ERROR(
      ClearedStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "CudaOps"));
  return std::unique_ptr<CudaOps>(
      new CudaOps(device_index, stream, std::move(gemm), std::move(upload)));
}

absl::Status CudaOps::Use() const { return ClearedStatus(cudaSetDevice(device_index_), "CudaOps"); }

std::string CudaOps::device() const { return absl::StrCat("cuda:", device_index_); }

int64_t CudaOps::free_bytes() const {
  size_t free = 0, total = 0;
  if (!Use().ok() || !ClearedStatus(cudaMemGetInfo(&free, &total), "free_bytes").ok()) return 0;
  return static_cast<int64_t>(free);
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaOps::Allocate(int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckRange("Allocate", "bytes", bytes, 0));
  RASQ_RETURN_IF_ERROR(Use());
  void* data = nullptr;
  const absl::string_view what = "Allocate";
  const cudaError_t error = cudaMalloc(&data, std::max<int64_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return absl::ResourceExhaustedError(absl::StrCat("Allocate: bytes=", bytes));
  }
  RASQ_RETURN_IF_ERROR(ClearedStatus(error, what));
  auto buffer = std::make_unique<DeviceBuffer>(device_index_, static_cast<std::byte*>(data), bytes,
                                               allocated_bytes_);
  RASQ_RETURN_IF_ERROR(ClearedStatus(cudaMemsetAsync(data, 0, bytes, stream_), what));
  RASQ_RETURN_IF_ERROR(ClearedStatus(cudaStreamSynchronize(stream_), what));
  return buffer;
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaOps::AllocateHost(int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckRange("AllocateHost", "bytes", bytes, 0));
  RASQ_RETURN_IF_ERROR(Use());
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, std::max<int64_t>(bytes, 1), cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return absl::ResourceExhaustedError(absl::StrCat("AllocateHost: bytes=", bytes));
  }
  RASQ_RETURN_IF_ERROR(ClearedStatus(error, "AllocateHost"));
  std::memset(data, 0, bytes);
  return std::make_unique<PinnedBuffer>(device_index_, static_cast<std::byte*>(data), bytes);
}

absl::Status CudaOps::CopyToDevice(void* device, const void* host, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy("CopyToDevice", device, host, bytes));
  if (bytes == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(Use());
  RASQ_RETURN_IF_ERROR(ClearedStatus(
      cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_), "CopyToDevice"));
  // Other memory may be changed by the caller now, so it must have been read.
  if (IsPinned(host)) return absl::OkStatus();
  return ClearedStatus(cudaStreamSynchronize(stream_), "CopyToDevice");
}

absl::Status CudaOps::CopyToHost(void* host, const void* device, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy("CopyToHost", host, device, bytes));
  RASQ_RETURN_IF_ERROR(Use());
  if (bytes > 0) {
    RASQ_RETURN_IF_ERROR(ClearedStatus(
        cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "CopyToHost"));
  }
  return ClearedStatus(cudaStreamSynchronize(stream_), "CopyToHost");
}

absl::Status CudaOps::CopyOnDevice(void* to, const void* from, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy("CopyOnDevice", to, from, bytes));
  if (bytes == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(Use());
  return ClearedStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_),
                       "CopyOnDevice");
}

absl::Status CudaOps::Zero(void* device, int64_t bytes) {
  RASQ_RETURN_IF_ERROR(CheckCopy("Zero", device, device, bytes));
  if (bytes == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(Use());
  return ClearedStatus(cudaMemsetAsync(device, 0, bytes, stream_), "Zero");
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaOps::AllocateMatrix(absl::string_view op, int64_t out,
                                                                int64_t in) {
  RASQ_RETURN_IF_ERROR(CheckRange(op, "out", out, 1, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange(op, "in", in, 1, INT32_MAX));
  return Allocate(out * in * SizeOf(element()));
}

absl::StatusOr<std::unique_ptr<Matrix>> CudaOps::PackMatrix(const float* weight, int64_t out,
                                                            int64_t in) {
  RASQ_RETURN_IF_ERROR(CheckNotNull("PackMatrix", "weight", weight));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> memory, AllocateMatrix("PackMatrix", out, in));
  RASQ_RETURN_IF_ERROR(upload_->Run(weight, out * in, memory->data(), stream_));
  return std::make_unique<CudaMatrix>(out, in, std::move(memory));
}

absl::StatusOr<std::unique_ptr<Matrix>> CudaOps::RandomMatrix(int64_t out, int64_t in, float scale,
                                                              uint64_t seed) {
  RASQ_RETURN_IF_ERROR(CheckScale("RandomMatrix", scale));
  RASQ_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> memory, AllocateMatrix("RandomMatrix", out, in));
  RASQ_RETURN_IF_ERROR(FillRandomCuda(memory->data(), out * in, scale, seed, stream_));
  return std::make_unique<CudaMatrix>(out, in, std::move(memory));
}

absl::Status CudaOps::FillRandom(void* device, int64_t count, float scale, uint64_t seed) {
  RASQ_RETURN_IF_ERROR(CheckRange("FillRandom", "count", count, 0));
  RASQ_RETURN_IF_ERROR(CheckScale("FillRandom", scale));
  if (count == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("FillRandom", "device", device));
  RASQ_RETURN_IF_ERROR(Use());
  return FillRandomCuda(device, count, scale, seed, stream_);
}

absl::Status CudaOps::BeginRecording() {
  RASQ_RETURN_IF_ERROR(Use());
  return ClearedStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                       "BeginRecording");
}

absl::StatusOr<std::unique_ptr<Recording>> CudaOps::EndRecording() {
  RASQ_RETURN_IF_ERROR(Use());
  cudaGraph_t graph = nullptr;
  RASQ_RETURN_IF_ERROR(ClearedStatus(cudaStreamEndCapture(stream_, &graph), "EndRecording"));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, /*flags=*/0);
  cudaGraphDestroy(graph);
  RASQ_RETURN_IF_ERROR(ClearedStatus(error, "EndRecording"));
  return std::make_unique<CudaRecording>(device_index_, executable);
}

absl::Status CudaOps::Replay(const Recording& recording) {
  const auto* recorded = dynamic_cast<const CudaRecording*>(&recording);
  if (recorded == nullptr) return absl::InvalidArgumentError("Replay: of another backend");
  RASQ_RETURN_IF_ERROR(Use());
  return ClearedStatus(cudaGraphLaunch(recorded->graph(), stream_), "Replay");
}

absl::Status CudaOps::Gemm(const GemmArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return gemm_->Run(args, stream_);
}
absl::Status CudaOps::Embed(const EmbedArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return EmbedCuda(args, stream_);
}
absl::Status CudaOps::RmsNorm(const RmsNormArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RmsNormCuda(args, stream_);
}
absl::Status CudaOps::Swiglu(const SwigluArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return SwigluCuda(args, stream_);
}
absl::Status CudaOps::RotationTable(const RotationTableArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RotationTableCuda(args, stream_);
}
absl::Status CudaOps::Rotary(const RotaryArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RotaryCuda(args, stream_);
}
absl::Status CudaOps::IndexTokens(const IndexTokensArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return IndexTokensCuda(args, stream_);
}
absl::Status CudaOps::StageRows(const StageRowsArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return StageRowsCuda(args, stream_);
}
absl::Status CudaOps::WriteRing(const WriteRingArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return WriteRingCuda(args, stream_);
}
absl::Status CudaOps::CommitRows(const CommitRowsArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return CommitRowsCuda(args, stream_);
}
absl::Status CudaOps::ReplaceEntries(const ReplaceEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return ReplaceEntriesCuda(args, stream_);
}
absl::Status CudaOps::RetrievalScores(const RetrievalScoresArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RetrievalScoresCuda(args, stream_);
}
absl::Status CudaOps::BudgetHead(const BudgetHeadArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return BudgetHeadCuda(args, stream_);
}
absl::Status CudaOps::SelectEntries(const SelectEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return SelectEntriesCuda(args, stream_);
}
absl::Status CudaOps::KeepSinks(const KeepSinksArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return KeepSinksCuda(args, stream_);
}
absl::Status CudaOps::CompressEntries(const CompressEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return CompressEntriesCuda(args, stream_);
}
absl::Status CudaOps::ClusterEntries(const ClusterEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return ClusterEntriesCuda(args, stream_);
}
absl::Status CudaOps::KeepClusters(const KeepClustersArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return KeepClustersCuda(args, stream_);
}
absl::Status CudaOps::LoseEntries(const LoseEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return LoseEntriesCuda(args, stream_);
}
absl::Status CudaOps::SummarizeEntries(const SummarizeEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return SummarizeEntriesCuda(args, stream_);
}
absl::Status CudaOps::ListSummaries(const ListSummariesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return ListSummariesCuda(args, stream_);
}
absl::Status CudaOps::StreamAttention(const StreamAttentionArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return StreamAttentionCuda(args, stream_);
}
absl::Status CudaOps::KeyWeights(const KeyWeightsArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return KeyWeightsCuda(args, stream_);
}
absl::Status CudaOps::PyramidEntries(const PyramidEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return PyramidEntriesCuda(args, stream_);
}
absl::Status CudaOps::RazorEntries(const RazorEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RazorEntriesCuda(args, stream_);
}
absl::Status CudaOps::RepeatScores(const RepeatScoresArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return RepeatScoresCuda(args, stream_);
}
absl::Status CudaOps::ChunkEntries(const ChunkEntriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return ChunkEntriesCuda(args, stream_);
}
absl::Status CudaOps::ChunkQueries(const ChunkQueriesArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return ChunkQueriesCuda(args, stream_);
}
absl::Status CudaOps::Sample(const SampleArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return SampleCuda(args, stream_);
}
absl::Status CudaOps::TokenLogprobs(const TokenLogprobsArgs& args) {
  RASQ_RETURN_IF_ERROR(Use());
  return TokenLogprobsCuda(args, stream_);
}

}  // namespace rasq

extern "C" rasq::Ops* rasq_open_ops(int version, int device_index, const rasq::OpsOptions& options,
                                    std::string& error) {
  if (version != rasq::kOpsVersion) {
    error = absl::StrCat("module of version ", rasq::kOpsVersion, ", not ", version);
    return nullptr;
  }
  absl::StatusOr<std::unique_ptr<rasq::CudaOps>> ops = rasq::CudaOps::Create(device_index, options);
  if (!ops.ok()) {
    error = std::string(ops.status().message());
    return nullptr;
  }
  return ops->release();
}
