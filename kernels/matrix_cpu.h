// A weight packed for the CPU: panels of columns, each in oneDNN's own layout, so that a product of
// few rows still has work for every thread. Where the panels behind each other are also the layout
// of the whole, products of many rows take it whole. Private to kernels/.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/gemm.h"
#include "kernels/matrix_product_cpu.h"

namespace rasq {

class CpuMatrix : public Matrix {
 public:
  // `traits` of this shape. Owns data, which std::aligned_alloc made.
  CpuMatrix(int64_t out, int64_t in, DType element, int64_t panel_columns, int64_t panel_bytes,
            PackedTraits traits, int64_t total_bytes, std::byte* data)
      : Matrix(out, in, total_bytes),
        element_(element),
        panel_columns_(panel_columns),
        panel_bytes_(panel_bytes),
        traits_(traits),
        data_(data) {}
  ~CpuMatrix() override {
    if (total_ != nullptr) total_->fetch_sub(bytes());
  }

  DType element() const { return element_; }
  int64_t num_panels() const { return (out() + panel_columns_ - 1) / panel_columns_; }
  // Of all panels but the last, which may be narrower.
  int64_t panel_columns() const { return panel_columns_; }
  const std::byte* panel(int64_t index) const { return data_.get() + index * panel_bytes_; }
  const PackedTraits& traits() const { return traits_; }

  // Adds its bytes to `total` for as long as it lives. `total` must outlive it.
  void CountIn(std::atomic<int64_t>& total) {
    total_ = &total;
    total.fetch_add(bytes());
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };

  const DType element_;
  const int64_t panel_columns_;
  const int64_t panel_bytes_;
  const PackedTraits traits_;
  const std::unique_ptr<std::byte, Free> data_;
  std::atomic<int64_t>* total_ = nullptr;
};

}  // namespace rasq
