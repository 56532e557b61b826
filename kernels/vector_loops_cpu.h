// The inner loops of the CPU operations, in versions for several instruction sets of which the best
// is taken at run time (Highway). Private to kernels/. Pointers need no alignment; a result does
// not depend on what lies beyond the n elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rasq {

void Convert(const bfloat16* from, float* to, int64_t n);
void Convert(const float* from, bfloat16* to, int64_t n);

// The largest |x|; 0 if n is 0.
float MaxAbs(const float* x, int64_t n);
// q = x * inverse to the nearest integer, ties to even, within [-127, 127]; and back, y = q *
// scale.
void Quantize(const float* x, float inverse, int8_t* q, int64_t n);
void Dequantize(const int8_t* q, float scale, float* y, int64_t n);
void Dequantize(const int8_t* q, float scale, bfloat16* y, int64_t n);

float Dot(const float* a, const float* b, int64_t n);

void Add(const float* a, const float* b, float* sum, int64_t n);
// y = max(x, y)
void MaxInto(const float* x, float* y, int64_t n);

// y = x * scale; with weights, y = x * scale * weight.
void Scale(const float* x, float scale, float* y, int64_t n);
void Scale(const float* x, float scale, bfloat16* y, int64_t n);
void ScaleByWeight(const float* x, float scale, const float* weight, float* y, int64_t n);
void ScaleByWeight(const float* x, float scale, const float* weight, bfloat16* y, int64_t n);

// y = gate / (1 + exp(-gate)) * up
void SiluTimes(const float* gate, const float* up, float* y, int64_t n);
void SiluTimes(const float* gate, const float* up, bfloat16* y, int64_t n);

// Turns the pairs (x[i], x[i + n/2]) by the angles whose cosines and then sines are `rotation`, or
// back. n is even. y may be x.
void Rotate(const float* x, const float* rotation, float* y, int64_t n);
void Rotate(const float* x, const float* rotation, bfloat16* y, int64_t n);
void RotateBack(const float* x, const float* rotation, float* y, int64_t n);
void RotateBack(const float* x, const float* rotation, bfloat16* y, int64_t n);

// Rows of n elements, `stride` elements apart: y[i] = <row i, x> for each, and y += sum_i
// weight[i] * row i.
void DotRows(const float* rows, int64_t stride, int64_t num_rows, const float* x, int64_t n,
             float* y);
void DotRows(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* x, int64_t n,
             float* y);
void AddRows(const float* rows, int64_t stride, int64_t num_rows, const float* weight, int64_t n,
             float* y);
void AddRows(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* weight, int64_t n,
             float* y);

// Softmax in two passes, over logits x * scale + bias. A null bias is zero.
float MaxLogit(const float* x, float scale, const float* bias, int64_t n);
// y = exp(logit - shift); returns their sum before rounding to y's type. y may be x.
float ExpLogits(const float* x, float scale, const float* bias, float shift, float* y, int64_t n);
float ExpLogits(const float* x, float scale, const float* bias, float shift, bfloat16* y,
                int64_t n);

}  // namespace rasq
