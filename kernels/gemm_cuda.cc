#include "kernels/gemm_cuda.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/gemm_small_cuda.h"

namespace rasq {
namespace {

constexpr size_t kWorkspaceBytes = 64 << 20;

// Vectors of the library's kernels are of 16 bytes: more alignment makes no difference to them.
constexpr uintptr_t kMostAlignment = 16;

absl::Status CublasStatus(cublasStatus_t status, absl::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", cublasLtGetStatusString(status));
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

struct Destroy {
  void operator()(cublasLtMatmulDescOpaque_t* p) const { cublasLtMatmulDescDestroy(p); }
  void operator()(cublasLtMatrixLayoutOpaque_t* p) const { cublasLtMatrixLayoutDestroy(p); }
  void operator()(cublasLtMatmulPreferenceOpaque_t* p) const { cublasLtMatmulPreferenceDestroy(p); }
};
using Product = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy>;

using Algorithm = std::optional<cublasLtMatmulAlgo_t>;  // none: the library has none

// The last row count of the range that `rows` is in; for the open range, one that is typical of it.
int64_t RangeEnd(int64_t rows, bool batch_invariant) {
  constexpr int64_t kMany = 4096;
  if (batch_invariant) return kMany;
  for (const int64_t end : {16, 64, 256}) {
    if (rows <= end) return end;
  }
  return kMany;
}

// All that an algorithm may depend on.
struct PlanKey {
  int64_t out, in, x_stride, y_stride, range_end;
  uint32_t w_alignment, x_alignment, y_alignment;
  bool accumulate;
  auto operator<=>(const PlanKey&) const = default;
};

uint32_t AlignmentOf(const void* pointer) {
  return 1u << std::countr_zero(reinterpret_cast<uintptr_t>(pointer) | kMostAlignment);
}

// The library's matrices are column-major, so that it sees W [in, out] to be transposed, x [in,
// rows] and y [out, rows]. Numbers of rows are set a call.
struct Plan {
  Product product;
  Layout w, x, y;
  Algorithm algorithm;                    // of the range
  std::map<int64_t, Algorithm> for_rows;  // the range's, but where it refuses the real row count
};

absl::Status SetRows(const Plan& plan, int64_t rows) {
  const auto columns = static_cast<uint64_t>(rows);
  for (const Layout* layout : {&plan.x, &plan.y}) {
    RASQ_RETURN_IF_ERROR(
        CublasStatus(cublasLtMatrixLayoutSetAttribute(layout->get(), CUBLASLT_MATRIX_LAYOUT_COLS,
                                                      &columns, sizeof(columns)),
                     "Gemm layout"));
  }
  return absl::OkStatus();
}

absl::Status MakeLayout(cudaDataType type, int64_t rows, int64_t columns, int64_t stride,
                        Layout& layout) {
  cublasLtMatrixLayout_t made = nullptr;
  RASQ_RETURN_IF_ERROR(
      CublasStatus(cublasLtMatrixLayoutCreate(&made, type, rows, columns, stride), "Gemm layout"));
  layout.reset(made);
  return absl::OkStatus();
}

class LibraryGemm : public CudaGemm {
 public:
  LibraryGemm(cublasLtHandle_t handle, void* workspace, bool batch_invariant)
      : handle_(handle), workspace_(workspace), batch_invariant_(batch_invariant) {}
  ~LibraryGemm() override {
    cudaFree(workspace_);
    cublasLtDestroy(handle_);
  }

  absl::Status Run(const GemmArgs& args, Stream stream) override;

 private:
  absl::StatusOr<Plan*> PlanFor(const PlanKey& key);
  // For the row count that the plan's layouts are set to.
  absl::StatusOr<Algorithm> Ask(const PlanKey& key, const Plan& plan) const;
  bool Serves(const cublasLtMatmulAlgo_t& algorithm, const Plan& plan) const;

  const cublasLtHandle_t handle_;
  void* const workspace_;
  const bool batch_invariant_;
  std::map<PlanKey, Plan> plans_;
};

absl::StatusOr<Algorithm> LibraryGemm::Ask(const PlanKey& key, const Plan& plan) const {
  cublasLtMatmulPreference_t made = nullptr;
  RASQ_RETURN_IF_ERROR(CublasStatus(cublasLtMatmulPreferenceCreate(&made), "Gemm preference"));
  const Preference preference(made);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return CublasStatus(
        cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "Gemm preference");
  };
  RASQ_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}));
  RASQ_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.w_alignment));
  RASQ_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.x_alignment));
  RASQ_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.y_alignment));
  RASQ_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y_alignment));
  constexpr int kCandidates = 4;  // best first; some may turn out not to run here
  cublasLtMatmulHeuristicResult_t results[kCandidates] = {};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan.product.get(), plan.w.get(), plan.x.get(), plan.y.get(), plan.y.get(),
      preference.get(), kCandidates, results, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    return Algorithm();
  }
  RASQ_RETURN_IF_ERROR(CublasStatus(status, "Gemm heuristic"));
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS && Serves(results[i].algo, plan)) {
      return Algorithm(results[i].algo);
    }
  }
  return Algorithm();
}

bool LibraryGemm::Serves(const cublasLtMatmulAlgo_t& algorithm, const Plan& plan) const {
  cublasLtMatmulHeuristicResult_t result = {};
  return cublasLtMatmulAlgoCheck(handle_, plan.product.get(), plan.w.get(), plan.x.get(),
                                 plan.y.get(), plan.y.get(), &algorithm,
                                 &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

absl::StatusOr<Plan*> LibraryGemm::PlanFor(const PlanKey& key) {
  if (const auto found = plans_.find(key); found != plans_.end()) return &found->second;
  Plan plan;
  cublasLtMatmulDesc_t made = nullptr;
  RASQ_RETURN_IF_ERROR(CublasStatus(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                                    "Gemm descriptor"));
  plan.product.reset(made);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  RASQ_RETURN_IF_ERROR(
      CublasStatus(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                  sizeof(transposed)),
                   "Gemm descriptor"));
  RASQ_RETURN_IF_ERROR(MakeLayout(CUDA_R_16BF, key.in, key.out, key.in, plan.w));
  RASQ_RETURN_IF_ERROR(MakeLayout(CUDA_R_16BF, key.in, key.range_end, key.x_stride, plan.x));
  RASQ_RETURN_IF_ERROR(MakeLayout(CUDA_R_32F, key.out, key.range_end, key.y_stride, plan.y));
  RASQ_ASSIGN_OR_RETURN(plan.algorithm, Ask(key, plan));
  return &plans_.emplace(key, std::move(plan)).first->second;
}

absl::Status LibraryGemm::Run(const GemmArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateGemm(a));
  const auto* w = dynamic_cast<const CudaMatrix*>(a.w);
  if (w == nullptr) return absl::InvalidArgumentError("Gemm: w is of another backend");
  if (a.rows == 0) return absl::OkStatus();
  const PlanKey key{.out = w->out(),
                    .in = w->in(),
                    .x_stride = a.x_stride,
                    .y_stride = a.y_stride,
                    .range_end = RangeEnd(a.rows, batch_invariant_),
                    .w_alignment = AlignmentOf(w->data()),
                    .x_alignment = AlignmentOf(a.x),
                    .y_alignment = AlignmentOf(a.y),
                    .accumulate = a.accumulate};
  RASQ_ASSIGN_OR_RETURN(Plan * plan, PlanFor(key));
  if (!plan->algorithm.has_value()) return GemmSmallCuda(a, w->data(), stream);
  RASQ_RETURN_IF_ERROR(SetRows(*plan, a.rows));
  auto found = plan->for_rows.find(a.rows);
  if (found == plan->for_rows.end()) {
    Algorithm algorithm = plan->algorithm;
    if (!Serves(*algorithm, *plan)) {
      RASQ_ASSIGN_OR_RETURN(algorithm, Ask(key, *plan));
    }
    found = plan->for_rows.emplace(a.rows, algorithm).first;
  }
  if (!found->second.has_value()) return GemmSmallCuda(a, w->data(), stream);
  const float alpha = 1, beta = a.accumulate ? 1 : 0;
  return CublasStatus(
      cublasLtMatmul(handle_, plan->product.get(), &alpha, w->data(), plan->w.get(), a.x,
                     plan->x.get(), &beta, a.y, plan->y.get(), a.y, plan->y.get(), &*found->second,
                     workspace_, kWorkspaceBytes, stream),
      "Gemm");
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaGemm>> CudaGemm::Create(bool batch_invariant) {
  void* workspace = nullptr;
  RASQ_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&workspace, kWorkspaceBytes), "Gemm workspace"));
  cublasLtHandle_t handle = nullptr;
  if (const cublasStatus_t status = cublasLtCreate(&handle); status != CUBLAS_STATUS_SUCCESS) {
    cudaFree(workspace);
    return CublasStatus(status, "Gemm library");
  }
  return std::make_unique<LibraryGemm>(handle, workspace, batch_invariant);
}

}  // namespace rasq
