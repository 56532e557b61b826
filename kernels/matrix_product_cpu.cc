#include "kernels/matrix_product_cpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "kernels/base/mutex.h"
#include "kernels/elements_cpu.h"

namespace rasq {
namespace {

using dnnl::memory;

// A 64-row product decides the layout of packed weights.
constexpr int64_t kPackRows = 64;

memory::data_type OneDnnType(DType type) {
  return type == DType::kBfloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

const dnnl::engine& CpuEngine() {
  LimitInstructionSet();
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Held where products are described, since descriptions are shared inside oneDNN: its own lock is
// one that ThreadSanitizer cannot see.
Mutex& DescriptionMutex() {
  static Mutex mu;
  return mu;
}

dnnl::matmul::primitive_desc Describe(const ProductShape& s, const memory::desc& w) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const memory::desc x({s.rows, s.inner}, OneDnnType(s.type), memory::format_tag::ab);
  const memory::desc y({s.rows, s.columns}, memory::data_type::f32, memory::format_tag::ab);
  return dnnl::matmul::primitive_desc({x, w, y}, attributes, CpuEngine());
}

memory::desc WeightDesc(const ProductShape& s) {
  const auto desc = [&s](memory::format_tag tag) {
    return memory::desc({s.inner, s.columns}, OneDnnType(s.type), tag);
  };
  switch (s.layout) {
    case WeightLayout::kInnerOuter:
      return desc(memory::format_tag::ab);
    case WeightLayout::kOuterInner:
      return desc(memory::format_tag::ba);
    case WeightLayout::kPacked:
      break;
  }
  ProductShape shape = s;
  shape.rows = kPackRows;
  shape.accumulate = false;
  return Describe(shape, desc(memory::format_tag::any)).weights_desc();
}

ProductShape PackedShape(DType type, int64_t rows, int64_t columns, int64_t inner) {
  return {.type = type,
          .rows = rows,
          .columns = columns,
          .inner = inner,
          .layout = WeightLayout::kPacked};
}

// A primitive with its arguments, made once and then pointed at new data.
class Product {
 public:
  explicit Product(const ProductShape& shape) : Product(Describe(shape, WeightDesc(shape))) {}

  void Run(dnnl::stream& stream, std::vector<std::byte>& scratch, const void* x, const void* w,
           float* y) {
    if (scratch.size() < scratch_bytes_) scratch.resize(scratch_bytes_);
    x_.set_data_handle(const_cast<void*>(x));
    w_.set_data_handle(const_cast<void*>(w));
    y_.set_data_handle(y);
    scratch_.set_data_handle(scratch.data());
    primitive_.execute(stream, arguments_);
  }

 private:
  explicit Product(const dnnl::matmul::primitive_desc& desc)
      : primitive_(desc),
        x_(desc.src_desc(), CpuEngine(), nullptr),
        w_(desc.weights_desc(), CpuEngine(), nullptr),
        y_(desc.dst_desc(), CpuEngine(), nullptr),
        scratch_(desc.scratchpad_desc(), CpuEngine(), nullptr),
        scratch_bytes_(desc.scratchpad_desc().get_size()),
        arguments_{{DNNL_ARG_SRC, x_},
                   {DNNL_ARG_WEIGHTS, w_},
                   {DNNL_ARG_DST, y_},
                   {DNNL_ARG_SCRATCHPAD, scratch_}} {}

  dnnl::matmul primitive_;
  memory x_, w_, y_, scratch_;
  size_t scratch_bytes_;
  std::unordered_map<int, memory> arguments_;
};

struct HashShape {
  size_t operator()(const ProductShape& s) const {
    size_t hash = static_cast<size_t>(s.type) * 8 + static_cast<size_t>(s.layout) * 2 +
                  (s.accumulate ? 1 : 0);
    for (const int64_t value : {s.rows, s.columns, s.inner}) {
      hash = (hash ^ static_cast<size_t>(value)) * 0x9e3779b97f4a7c15;
      hash ^= hash >> 29;
    }
    return hash;
  }
};

// What one thread keeps.
struct ThreadProducts {
  dnnl::stream stream{CpuEngine()};
  std::vector<std::byte> scratch;
  std::unordered_map<ProductShape, Product, HashShape> products;
};

// A weight packed for the trial.
class PackedTrial {
 public:
  PackedTrial(DType type, int64_t columns, int64_t inner, const float* weight)
      : bytes_(PackedWeightBytes(type, columns, inner)),
        data_(static_cast<std::byte*>(std::aligned_alloc(64, (bytes_ + 63) / 64 * 64))) {
    PackWeight(type, columns, inner, weight, data_.get());
  }
  int64_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  const int64_t bytes_;
  const std::unique_ptr<std::byte, Free> data_;
};

// Pseudo-random numbers in [-1, 1), of full mantissas: sums in another order differ.
std::vector<float> TrialNumbers(int64_t n) {
  std::vector<float> x(n);
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return x;
}

PackedTraits Try(DType type, int64_t columns, int64_t inner, int64_t panel_columns) {
  const std::vector<float> weight = TrialNumbers(columns * inner);
  const std::vector<float> x = TrialNumbers(kPackRows * inner);
  std::vector<std::byte> x_bytes(x.size() * SizeOf(type));
  StoreElements(type, x.data(), x_bytes.data(), kPackRows * inner);
  const PackedTrial whole(type, columns, inner, weight.data());
  std::vector<float> want(kPackRows * columns), got(want.size());
  RunProduct(PackedShape(type, kPackRows, columns, inner), x_bytes.data(), whole.data(),
             want.data());

  PackedTraits traits{.any_row_count = true, .panels_are_slices = true};
  int64_t offset = 0;
  for (int64_t begin = 0; begin < columns; begin += panel_columns) {
    const int64_t width = std::min(panel_columns, columns - begin);
    const PackedTrial panel(type, width, inner, weight.data() + begin * inner);
    if (offset + panel.bytes() > whole.bytes() ||
        std::memcmp(panel.data(), whole.data() + offset, panel.bytes()) != 0) {
      traits.panels_are_slices = false;
    }
    offset += panel.bytes();
    for (int64_t rows = kPackRows; rows >= 1; rows /= 2) {
      for (int64_t row = 0; row < kPackRows; row += rows) {
        RunProduct(PackedShape(type, rows, width, inner),
                   x_bytes.data() + row * inner * SizeOf(type), panel.data(),
                   got.data() + row * width);
      }
      // Rows of the panel against its columns of the whole, or against its own 64 rows.
      bool same = true;
      for (int64_t row = 0; row < kPackRows; ++row) {
        same = same && std::memcmp(got.data() + row * width, want.data() + row * columns + begin,
                                   width * sizeof(float)) == 0;
      }
      if (rows == kPackRows && !same) {
        traits.panels_are_slices = false;
        for (int64_t row = 0; row < kPackRows; ++row) {
          std::copy_n(got.data() + row * width, width, want.data() + row * columns + begin);
        }
      } else if (!same) {
        traits.any_row_count = false;
      }
    }
  }
  if (offset != whole.bytes() || panel_columns * inner * SizeOf(type) % 64 != 0) {
    traits.panels_are_slices = false;  // something lies between or behind them
  }
  // The whole, in fewer rows, against what is known to be its panels' result.
  for (int64_t rows = 1; rows < kPackRows && traits.panels_are_slices; rows *= 2) {
    for (int64_t row = 0; row < kPackRows; row += rows) {
      RunProduct(PackedShape(type, rows, columns, inner),
                 x_bytes.data() + row * inner * SizeOf(type), whole.data(),
                 got.data() + row * columns);
    }
    if (std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) != 0) {
      traits.panels_are_slices = false;
    }
  }
  return traits;
}

}  // namespace

void RunProduct(const ProductShape& shape, const void* x, const void* w, float* y) noexcept {
  thread_local ThreadProducts mine;
  auto found = mine.products.find(shape);
  if (found == mine.products.end()) {
    if (mine.products.size() >= kMaxProducts) mine.products.clear();
    MutexLock lock(DescriptionMutex());
    found = mine.products.emplace(shape, Product(shape)).first;
  }
  found->second.Run(mine.stream, mine.scratch, x, w, y);
}

void LimitInstructionSet() {
  static const bool done = [] {
    if (std::getenv("ONEDNN_MAX_CPU_ISA") == nullptr) {
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
    }
    return true;
  }();
  static_cast<void>(done);
}

int64_t PackedWeightBytes(DType type, int64_t columns, int64_t inner) noexcept {
  MutexLock lock(DescriptionMutex());
  return static_cast<int64_t>(WeightDesc(PackedShape(type, kPackRows, columns, inner)).get_size());
}

void PackWeight(DType type, int64_t columns, int64_t inner, const float* weight,
                void* packed) noexcept {
  MutexLock lock(DescriptionMutex());
  const memory::desc plain({inner, columns}, memory::data_type::f32, memory::format_tag::ba);
  memory from(plain, CpuEngine(), const_cast<float*>(weight));
  memory to(WeightDesc(PackedShape(type, kPackRows, columns, inner)), CpuEngine(), packed);
  dnnl::stream stream(CpuEngine());
  dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

PackedTraits TryPacked(DType type, int64_t columns, int64_t inner, int64_t panel_columns) {
  static Mutex mu;
  static std::map<std::tuple<DType, int64_t, int64_t, int64_t>, PackedTraits> known;
  MutexLock lock(mu);
  const std::tuple key(type, columns, inner, panel_columns);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  return known.emplace(key, Try(type, columns, inner, panel_columns)).first->second;
}

}  // namespace rasq
