// Queries, keys and values of a layer: projected, normed and rotated.
#pragma once

#include <cstdint>

#include "train/torch.h"

namespace rasq::train {

struct HeadShape {
  int64_t heads, kv_heads, head_dim;
  double epsilon;  // of the norms
};

// Angles' cosines and sines, float [tokens, head_dim / 2], in the half-split pairs of the Llama
// family. Positions are any integers; angles are computed in double.
struct Angles {
  Tensor cos, sin;
};
Angles AnglesAt(const Tensor& position, const Tensor& inv_freq);

// x [..., heads, head_dim] by angles [..., head_dim / 2], which hold for all heads.
Tensor Rotate(const Tensor& x, const Angles& angles);

struct Heads {
  Tensor query;      // [streams, tokens, heads, head_dim + bias dims], rotated; then the bias
  Tensor key;        // [streams, tokens, kv_heads, head_dim], rotated
  Tensor plain_key;  // the same, not rotated
  Tensor value;      // [streams, tokens, kv_heads, head_dim]
};

// qkv: [streams, tokens, heads + 2 kv_heads, head_dim]. Norms: [head_dim], or undefined for none.
// query_bias: [heads, bias dims], put behind every query; undefined for none. On CUDA in bfloat16
// one kernel (cuda/norm_rotate.h) where head_dim is 64 or 128.
Heads NormAndRotate(const Tensor& qkv, const Tensor& query_norm, const Tensor& key_norm,
                    const Angles& angles, const Tensor& query_bias, const HeadShape& shape);

// x [..., width] / root mean square * weight [width].
Tensor RmsNorm(const Tensor& x, const Tensor& weight, double epsilon);

}  // namespace rasq::train
