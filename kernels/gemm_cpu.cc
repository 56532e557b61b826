#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check_args.h"
#include "kernels/base/status.h"
#include "kernels/gemm.h"
#include "kernels/matrix_cpu.h"
#include "kernels/matrix_product_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// 256 columns: with 64 rows of x, the panel of a 1024-wide product and its x stay in a 1 MiB cache.
constexpr int64_t kPanelColumns = 256;
constexpr int64_t kTileRows = 64;
// Where a product's bits depend on its row count, every product is of this many rows.
constexpr int64_t kFixedRows = 16;
constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Columns [begin, begin + columns) of the weight: one panel, or the whole.
struct Columns {
  int64_t begin;
  int64_t columns;
  const std::byte* packed;
};

Columns PanelOf(const CpuMatrix& w, int64_t panel) {
  const int64_t begin = panel * w.panel_columns();
  return {begin, std::min(w.panel_columns(), w.out() - begin), w.panel(panel)};
}

// Rows [begin, end) of y, at most kTileRows, in some of its columns.
void RunTile(const GemmArgs& a, const CpuMatrix& w, const Columns& c, int64_t begin, int64_t end) {
  thread_local std::vector<std::byte> x_copy;
  thread_local std::vector<float> y_copy;
  const bool fixed = !w.traits().any_row_count;
  const int64_t row_bytes = w.in() * SizeOf(w.element());
  const bool y_dense = !a.accumulate && !fixed && c.columns == a.y_stride;
  int64_t rows = fixed ? kFixedRows : kTileRows;
  for (int64_t row = begin; row < end; row += rows) {
    while (!fixed && rows > end - row) rows /= 2;
    const int64_t present = std::min(rows, end - row);
    const auto* x = static_cast<const std::byte*>(a.x) + row * a.x_stride * SizeOf(w.element());
    if (a.x_stride != w.in() || present < rows) {
      x_copy.assign(rows * row_bytes, std::byte{0});
      for (int64_t i = 0; i < present; ++i) {
        std::memcpy(x_copy.data() + i * row_bytes, x + i * a.x_stride * SizeOf(w.element()),
                    row_bytes);
      }
      x = x_copy.data();
    }
    const ProductShape shape{.type = w.element(),
                             .rows = rows,
                             .columns = c.columns,
                             .inner = w.in(),
                             .layout = WeightLayout::kPacked};
    float* y = a.y + row * a.y_stride + c.begin;
    if (y_dense) {
      RunProduct(shape, x, c.packed, y);
      continue;
    }
    y_copy.resize(std::max<size_t>(y_copy.size(), rows * c.columns));
    RunProduct(shape, x, c.packed, y_copy.data());
    for (int64_t i = 0; i < present; ++i) {
      const float* from = y_copy.data() + i * c.columns;
      if (a.accumulate) {
        Add(y + i * a.y_stride, from, y + i * a.y_stride, c.columns);
      } else {
        std::copy_n(from, c.columns, y + i * a.y_stride);
      }
    }
  }
}

}  // namespace

absl::Status ValidateGemm(const GemmArgs& a) {
  RASQ_RETURN_IF_ERROR(CheckNotNull("Gemm", "w", a.w));
  RASQ_RETURN_IF_ERROR(CheckRange("Gemm", "rows", a.rows, 0));
  RASQ_RETURN_IF_ERROR(CheckRange("Gemm", "x_stride", a.x_stride, a.w->in()));
  RASQ_RETURN_IF_ERROR(CheckRange("Gemm", "y_stride", a.y_stride, a.w->out()));
  if (a.rows == 0) return absl::OkStatus();
  RASQ_RETURN_IF_ERROR(CheckNotNull("Gemm", "x", a.x));
  return CheckNotNull("Gemm", "y", a.y);
}

bool CpuHasBfloat16() {
  LimitInstructionSet();
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  static const bool has =
      (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kNeeded) == kNeeded;
  return has;
}

absl::StatusOr<std::unique_ptr<Matrix>> PackMatrixCpu(const float* weight, int64_t out, int64_t in,
                                                      DType element) {
  RASQ_RETURN_IF_ERROR(CheckNotNull("PackMatrix", "weight", weight));
  RASQ_RETURN_IF_ERROR(CheckRange("PackMatrix", "out", out, 1, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("PackMatrix", "in", in, 1, INT32_MAX));
  if (element == DType::kBfloat16 && !CpuHasBfloat16()) {
    return absl::UnimplementedError(
        "PackMatrix: element=bfloat16: this processor has no bfloat16 products (AVX512-BF16)");
  }
  // Panels of equal width, but for what rounding to oneDNN's blocks of 64 columns leaves.
  const int64_t num_panels = (out + kPanelColumns - 1) / kPanelColumns;
  const int64_t columns = std::min(out, RoundUp((out + num_panels - 1) / num_panels, 64));
  const int64_t panel_bytes = RoundUp(PackedWeightBytes(element, columns, in), kAlignment);
  const int64_t total_bytes = (out + columns - 1) / columns * panel_bytes;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, total_bytes));
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("PackMatrix: bytes=", total_bytes));
  }
  std::unique_ptr<CpuMatrix> matrix;
  // In a task, since the trial must run as the products later do: on one thread.
  ThreadPool(/*num_threads=*/1).ParallelFor(1, [&](int64_t /*task*/, int /*thread*/) {
    // What holds for two panels and a rest holds for more: a trial of the whole of a large weight
    // would take as long as loading it.
    const int64_t trial = num_panels <= 3 ? out : 2 * columns + out % columns;
    matrix = std::make_unique<CpuMatrix>(out, in, element, columns, panel_bytes,
                                         TryPacked(element, trial, in, columns), total_bytes, data);
    for (int64_t i = 0; i < matrix->num_panels(); ++i) {
      const Columns panel = PanelOf(*matrix, i);
      PackWeight(element, panel.columns, in, weight + panel.begin * in, data + i * panel_bytes);
    }
  });
  return matrix;
}

absl::Status GemmCpu(const GemmArgs& a, ThreadPool& pool) {
  RASQ_RETURN_IF_ERROR(ValidateGemm(a));
  const auto* w = dynamic_cast<const CpuMatrix*>(a.w);
  if (w == nullptr) return absl::InvalidArgumentError("Gemm: w is of another backend");
  const int64_t num_tiles = (a.rows + kTileRows - 1) / kTileRows;
  const bool whole = w->traits().panels_are_slices &&
                     (num_tiles % pool.num_threads() == 0 || num_tiles >= 4 * pool.num_threads());
  const int64_t num_columns = whole ? 1 : w->num_panels();
  // Tiles of one panel follow each other, so that it is read from memory once.
  pool.ParallelFor(num_tiles * num_columns, [&](int64_t task, int /*thread*/) {
    const int64_t begin = task % num_tiles * kTileRows;
    const Columns columns =
        whole ? Columns{0, w->out(), w->panel(0)} : PanelOf(*w, task / num_tiles);
    RunTile(a, *w, columns, begin, std::min(a.rows, begin + kTileRows));
  });
  return absl::OkStatus();
}

}  // namespace rasq
