#include "train/attention_parts.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#ifdef RASQ_TRAIN_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "train/cuda/attention_parts.h"
#endif

namespace rasq::train {

Windows MakeWindows(int64_t streams, int64_t segments, int64_t segment, int64_t window,
                    const torch::Device& device) {
  const auto options = torch::TensorOptions(device).dtype(torch::kInt64);
  const Tensor before = torch::arange(streams * segments, options) % segments * segment;
  const Tensor ends = before.clamp_max(window).cumsum(0);
  int64_t rows = 0;
  for (int64_t i = 0; i < segments; ++i) rows += std::min(window, i * segment);
  return {.segment = segment,
          .window = window,
          .rows = streams * rows,
          .ends = torch::constant_pad_nd(ends, {1, 0}).to(torch::kInt32)};
}

#ifdef RASQ_TRAIN_CUDA
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

__nv_bfloat16* Elements(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr
                             : reinterpret_cast<__nv_bfloat16*>(tensor.data_ptr<at::BFloat16>());
}

struct Sizes {
  Sizes(const Tensor& query, const Tensor& key, int64_t segment_tokens)
      : streams(key.size(0)),
        segments(key.size(1) / segment_tokens),
        segment(segment_tokens),
        kv_heads(key.size(2)),
        group(query.size(2) / key.size(2)),
        head_dim(key.size(3)),
        width(query.size(3)) {}

  int64_t all_segments() const { return streams * segments; }
  int64_t heads() const { return kv_heads * group; }
  int64_t rows() const { return segment * group; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }

  int64_t streams, segments, segment, kv_heads, group, head_dim, width;
};

// [streams, tokens, heads, width] by segments: [all segments, segment, heads, width].
Tensor BySegment(const Tensor& x, const Sizes& sizes) {
  return x.view({sizes.all_segments(), sizes.segment, x.size(2), x.size(3)});
}

// A group's heads become rows of their kv head: [all segments, rows, kv_heads, width], zeros behind
// the vectors.
Tensor GroupRows(const Tensor& x, const Sizes& sizes) {
  const Tensor rows =
      x.reshape({sizes.all_segments(), sizes.segment, sizes.kv_heads, sizes.group, x.size(-1)})
          .permute({0, 1, 3, 2, 4});
  return torch::constant_pad_nd(rows, {0, sizes.width - x.size(-1)})
      .reshape({sizes.all_segments(), sizes.rows(), sizes.kv_heads, sizes.width});
}

// One part's softmax.
struct Part {
  Tensor out, lse, random_state, unused;
};

struct Lengths {
  int64_t rows, keys;
  bool causal = false;
  Tensor row_ends, key_ends;  // of segments of lengths of their own
};

Part Attend(const Tensor& query, const Tensor& key, const Tensor& value, const Lengths& lengths,
            double scale) {
  const auto ends = [](const Tensor& tensor) {
    return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
  };
  auto [out, lse, random_state, unused, mask] = at::_flash_attention_forward(
      query, key, value, ends(lengths.row_ends), ends(lengths.key_ends), lengths.rows, lengths.keys,
      /*dropout_p=*/0, lengths.causal, /*return_debug_mask=*/false, scale);
  return {out.contiguous(), lse.contiguous(), random_state, unused};
}

// The gradients of query, key and value through one part, if `part` has the output and lse of all.
std::tuple<Tensor, Tensor, Tensor> Backward(const Tensor& gradient, const Tensor& query,
                                            const Tensor& key, const Tensor& value,
                                            const Part& part, const Lengths& lengths,
                                            double scale) {
  return at::_flash_attention_backward(gradient, query, key, value, part.out, part.lse,
                                       lengths.row_ends, lengths.key_ends, lengths.rows,
                                       lengths.keys, /*dropout_p=*/0, lengths.causal,
                                       part.random_state, part.unused, scale);
}

// What forward and backward share.
class Layer {
 public:
  Layer(const Sizes& sizes, const Windows& windows)
      : sizes_(sizes),
        windows_(windows),
        row_ends_(torch::arange(sizes.all_segments() + 1, windows.ends.options()) *
                  static_cast<int32_t>(sizes.rows())) {}

  Lengths own() const { return {.rows = sizes_.segment, .keys = sizes_.segment, .causal = true}; }
  Lengths memory(const Tensor& key) const { return {.rows = sizes_.rows(), .keys = key.size(2)}; }
  Lengths window() const {
    return {.rows = sizes_.rows(),
            .keys = windows_.window,
            .row_ends = row_ends_,
            .key_ends = windows_.ends};
  }
  Tensor Plain(const Tensor& x) const { return x.narrow(-1, 0, sizes_.head_dim); }
  // Rows of all segments one after another, without biases.
  Tensor Flat(const Tensor& rows) const { return Plain(rows).flatten(0, 1); }
  Tensor Pad(const Tensor& value) const {
    return torch::constant_pad_nd(value.flatten(0, 1), {0, sizes_.width - sizes_.head_dim});
  }

  cuda::WindowShape window_shape() const {
    return {.streams = sizes_.streams,
            .segments = sizes_.segments,
            .segment = static_cast<int32_t>(sizes_.segment),
            .window = static_cast<int32_t>(windows_.window),
            .width = static_cast<int32_t>(sizes_.kv_heads * sizes_.head_dim),
            .ends = windows_.ends.data_ptr<int32_t>()};
  }
  Tensor Gather(const Tensor& x) const {
    Tensor windows = torch::empty({windows_.rows, sizes_.kv_heads, sizes_.head_dim}, x.options());
    C10_CUDA_CHECK(cuda::GatherWindows(window_shape(), Elements(x), Elements(windows),
                                       c10::cuda::getCurrentCUDAStream()));
    return windows;
  }
  void Add(const Tensor& windows, const Tensor& gradient) const {
    C10_CUDA_CHECK(cuda::AddWindows(window_shape(), Elements(windows), Elements(gradient),
                                    c10::cuda::getCurrentCUDAStream()));
  }
  Tensor Merge(const Part& own, const Part& memory, const Part& window) const {
    const auto lse = [](const Part& part) {
      return part.lse.defined() ? part.lse.data_ptr<float>() : nullptr;
    };
    const auto vectors = [](const Part& part) {
      return part.out.defined() ? Elements(part.out) : nullptr;
    };
    Tensor out = torch::empty_like(own.out);
    C10_CUDA_CHECK(cuda::MergeParts({.segments = sizes_.all_segments(),
                                     .segment = static_cast<int32_t>(sizes_.segment),
                                     .kv_heads = static_cast<int32_t>(sizes_.kv_heads),
                                     .group = static_cast<int32_t>(sizes_.group),
                                     .head_dim = static_cast<int32_t>(sizes_.head_dim),
                                     .memory_width = static_cast<int32_t>(sizes_.width)},
                                    {.own = vectors(own),
                                     .memory = vectors(memory),
                                     .window = vectors(window),
                                     .own_lse = lse(own),
                                     .memory_lse = lse(memory),
                                     .window_lse = lse(window)},
                                    Elements(out), c10::cuda::getCurrentCUDAStream()));
    return out;
  }

 private:
  const Sizes& sizes_;
  const Windows& windows_;
  const Tensor row_ends_;
};

class Parts : public torch::autograd::Function<Parts> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& query, const Tensor& key,
                        const Tensor& value, const Tensor& memory_key, const Tensor& memory_value,
                        const Windows& windows) {
    const c10::cuda::CUDAGuard guard(query.device());
    const Sizes sizes(query, key, windows.segment);
    const Layer layer(sizes, windows);
    const double scale = sizes.scale();
    const Tensor rows = GroupRows(query, sizes);
    const Part own = Attend(layer.Plain(BySegment(query, sizes)), BySegment(key, sizes),
                            BySegment(value, sizes), layer.own(), scale);
    Part of_memory, of_window;
    Tensor padded, window_key, window_value;
    if (memory_key.size(2) > 0) {
      padded = layer.Pad(memory_value);
      of_memory = Attend(rows, memory_key.flatten(0, 1), padded, layer.memory(memory_key), scale);
    }
    if (windows.rows > 0) {
      window_key = layer.Gather(key);
      window_value = layer.Gather(value);
      of_window = Attend(layer.Flat(rows), window_key, window_value, layer.window(), scale);
    }
    const Tensor out = layer.Merge(own, of_memory, of_window);
    context->save_for_backward({query, key, value, memory_key, padded, window_key, window_value,
                                rows, out, own.lse, of_memory.lse, of_window.lse, own.random_state,
                                own.unused, windows.ends});
    context->saved_data["windows"] =
        std::vector<int64_t>{windows.segment, windows.window, windows.rows};
    return out.view({query.size(0), query.size(1), sizes.heads(), sizes.head_dim});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &query = saved[0], &key = saved[1], &value = saved[2], &memory_key = saved[3];
    const Tensor &padded = saved[4], &window_key = saved[5], &window_value = saved[6];
    const Tensor &rows = saved[7], &out = saved[8];
    const c10::cuda::CUDAGuard guard(query.device());
    const std::vector<int64_t> numbers = context->saved_data["windows"].toIntVector();
    const Windows windows{
        .segment = numbers[0], .window = numbers[1], .rows = numbers[2], .ends = saved[14]};
    const Sizes sizes(query, key, windows.segment);
    const Layer layer(sizes, windows);
    const double scale = sizes.scale();
    const auto part = [&](const Tensor& of_all, const Tensor& lse) {
      return Part{.out = of_all, .lse = lse, .random_state = saved[12], .unused = saved[13]};
    };
    const Tensor gradient = BySegment(gradients[0].contiguous(), sizes);
    const Tensor gradient_rows = GroupRows(gradient, sizes), out_rows = GroupRows(out, sizes);

    auto [own_query, key_gradient, value_gradient] =
        Backward(gradient, layer.Plain(BySegment(query, sizes)), BySegment(key, sizes),
                 BySegment(value, sizes), part(out, saved[9]), layer.own(), scale);
    Tensor rows_gradient = torch::zeros_like(rows), memory_key_gradient, memory_value_gradient;
    if (padded.defined()) {
      std::tie(rows_gradient, memory_key_gradient, memory_value_gradient) =
          Backward(gradient_rows, rows, memory_key.flatten(0, 1), padded, part(out_rows, saved[10]),
                   layer.memory(memory_key), scale);
      memory_key_gradient = memory_key_gradient.view(memory_key.sizes());
      memory_value_gradient =
          layer.Plain(memory_value_gradient)
              .view({sizes.streams, sizes.segments, memory_key.size(2), sizes.kv_heads, -1});
    }
    key_gradient = key_gradient.contiguous();
    value_gradient = value_gradient.contiguous();
    if (window_key.defined()) {
      const auto [of_rows, of_keys, of_values] =
          Backward(layer.Flat(gradient_rows), layer.Flat(rows), window_key, window_value,
                   part(layer.Flat(out_rows), saved[11]), layer.window(), scale);
      layer.Plain(rows_gradient).add_(of_rows.view(layer.Plain(rows_gradient).sizes()));
      layer.Add(of_keys.contiguous(), key_gradient);
      layer.Add(of_values.contiguous(), value_gradient);
    }
    Tensor query_gradient =
        rows_gradient
            .view({sizes.all_segments(), sizes.segment, sizes.group, sizes.kv_heads, sizes.width})
            .permute({0, 1, 3, 2, 4})
            .reshape({sizes.all_segments(), sizes.segment, sizes.heads(), sizes.width});
    layer.Plain(query_gradient).add_(own_query);
    return {query_gradient.view(query.sizes()),
            key_gradient.view(key.sizes()),
            value_gradient.view(value.sizes()),
            memory_key_gradient,
            memory_value_gradient,
            Tensor()};
  }
};

}  // namespace

bool CanAttendInParts(const Tensor& query) {
  return query.is_cuda() && query.scalar_type() == torch::kBFloat16;
}

Tensor AttendInParts(const SegmentKeys& keys, const Windows& windows) {
  return Parts::apply(keys.query.contiguous(), keys.key.contiguous(), keys.value.contiguous(),
                      keys.memory_key.contiguous(), keys.memory_value, windows);
}

#else

bool CanAttendInParts(const Tensor&) { return false; }

Tensor AttendInParts(const SegmentKeys&, const Windows&) {
  TORCH_CHECK(false, "built without CUDA");
}

#endif

}  // namespace rasq::train
