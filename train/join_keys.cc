#include "train/join_keys.h"

#include <algorithm>
#include <vector>

namespace rasq::train {
namespace {

struct Sizes {
  int64_t segment, window, sinks, entries, bias_dims, dead_dim;
};

// A segment's window is the ends and wholes of the segments before it, and itself. Calls
// visit(back, from, to, rows) for each: it begins at row `from` of the segment `back` segments
// before, which comes to rows `to` on of the window.
template <typename Visit>
void VisitWindow(const Sizes& sizes, const Visit& visit) {
  const int64_t most = (sizes.window + sizes.segment - 1) / sizes.segment;
  const int64_t skipped = most * sizes.segment - sizes.window;
  int64_t to = 0;
  for (int64_t back = most; back >= 0; --back) {
    const int64_t from = back == most ? skipped : 0;
    visit(back, from, to, sizes.segment - from);
    to += sizes.segment - from;
  }
}

class Join : public torch::autograd::Function<Join> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& token,
                        const Tensor& sink, const Tensor& entry, const Tensor& entry_bias,
                        const Tensor& dead_sink, const Tensor& dead_window, int64_t segment,
                        int64_t window, int64_t bias_dims, int64_t dead_dim) {
    const Sizes sizes{.segment = segment,
                      .window = window,
                      .sinks = sink.size(2),
                      .entries = entry.size(2),
                      .bias_dims = bias_dims,
                      .dead_dim = dead_dim};
    const int64_t streams = token.size(0), segments = token.size(1) / segment;
    const int64_t kv_heads = token.size(2), head_dim = token.size(3);
    const int64_t first = sizes.sinks + sizes.entries;
    Tensor joined =
        torch::empty({streams, segments, first + window + segment, kv_heads, head_dim + bias_dims},
                     token.options());
    Tensor vectors = joined.narrow(4, 0, head_dim);
    vectors.narrow(2, 0, sizes.sinks).copy_(sink);
    vectors.narrow(2, sizes.sinks, sizes.entries).copy_(entry);
    const Tensor rows = token.view({streams, segments, segment, kv_heads, head_dim});
    VisitWindow(sizes, [&](int64_t back, int64_t from, int64_t to, int64_t count) {
      Tensor part = vectors.narrow(2, first + to, count);
      const int64_t none = std::min(back, segments);
      part.narrow(1, 0, none).zero_();
      part.narrow(1, none, segments - none)
          .copy_(rows.narrow(1, 0, segments - none).narrow(2, from, count));
    });
    Tensor bias = joined.narrow(4, head_dim, bias_dims);
    bias.zero_();
    if (entry_bias.numel() > 0) {
      bias.narrow(2, sizes.sinks, sizes.entries).copy_(entry_bias.unsqueeze(3));
    }
    if (dead_sink.numel() + dead_window.numel() > 0) {
      Tensor dead = bias.select(4, dead_dim);
      dead.narrow(2, 0, sizes.sinks).masked_fill_(dead_sink.unsqueeze(0).unsqueeze(3), kDead);
      dead.narrow(2, first, window + segment)
          .masked_fill_(dead_window.unsqueeze(0).unsqueeze(3), kDead);
    }
    context->saved_data["sizes"] =
        std::vector<int64_t>{segment, window, sizes.sinks, sizes.entries, bias_dims};
    context->saved_data["biased"] = entry_bias.numel() > 0;
    return joined;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const std::vector<int64_t> saved = context->saved_data["sizes"].toIntVector();
    const Sizes sizes{.segment = saved[0],
                      .window = saved[1],
                      .sinks = saved[2],
                      .entries = saved[3],
                      .bias_dims = saved[4],
                      .dead_dim = 0};
    const Tensor& joined = gradients[0];
    const int64_t head_dim = joined.size(4) - sizes.bias_dims, segments = joined.size(1);
    const int64_t first = sizes.sinks + sizes.entries;
    const Tensor vectors = joined.narrow(4, 0, head_dim);
    Tensor rows = torch::zeros({joined.size(0), segments, sizes.segment, joined.size(3), head_dim},
                               joined.options());
    VisitWindow(sizes, [&](int64_t back, int64_t from, int64_t to, int64_t count) {
      const int64_t some = segments - std::min(back, segments);
      rows.narrow(1, 0, some)
          .narrow(2, from, count)
          .add_(vectors.narrow(2, first + to, count).narrow(1, segments - some, some));
    });
    Tensor bias;
    if (context->saved_data["biased"].toBool()) {
      bias =
          joined.narrow(4, head_dim, sizes.bias_dims).narrow(2, sizes.sinks, sizes.entries).sum(3);
    }
    return {rows.flatten(1, 2),
            vectors.narrow(2, 0, sizes.sinks),
            vectors.narrow(2, sizes.sinks, sizes.entries),
            bias,
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

Tensor JoinKeys(const JoinedParts& parts, const RetrievalShape& shape, int64_t bias_dims,
                int64_t dead_dim) {
  const auto or_nothing = [&](const Tensor& tensor) {
    return tensor.defined() ? tensor : torch::empty({0}, parts.token.options());
  };
  return Join::apply(parts.token, parts.sink, parts.entry, or_nothing(parts.entry_bias),
                     or_nothing(parts.dead_sink), or_nothing(parts.dead_window), shape.segment,
                     shape.window, bias_dims, dead_dim);
}

}  // namespace rasq::train
