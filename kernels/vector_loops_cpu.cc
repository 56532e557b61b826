#include "kernels/vector_loops_cpu.h"

// SSE4 differs little from the baseline here, and AVX3_DL from AVX3: three versions are enough.
#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_loops_cpu.cc"
#include <hwy/foreach_target.h>
// Above: compiles this file once an instruction set.
#include <hwy/highway.h>

#include <cstring>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace rasq {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using D16 = hn::Rebind<uint16_t, D>;
constexpr int64_t kLanes = HWY_MAX_BYTES / sizeof(float);  // of every target here, exactly

HWY_INLINE V LoadFloats(const float* p) { return hn::LoadU(D(), p); }

HWY_INLINE V LoadFloats(const bfloat16* p) {
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::LoadU(D16(), reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

HWY_INLINE V LoadFloats(const int8_t* p) {
  const hn::Rebind<int32_t, D> d32;
  return hn::ConvertTo(D(), hn::PromoteTo(d32, hn::LoadU(hn::Rebind<int8_t, D>(), p)));
}

HWY_INLINE void StoreFloats(V v, float* p) { hn::StoreU(v, D(), p); }

// Rounds to nearest even; a NaN becomes the least number.
HWY_INLINE void StoreFloats(V v, int8_t* p) {
  const hn::Rebind<int8_t, D> d8;
  v = hn::Min(hn::Max(v, hn::Set(D(), -127.0f)), hn::Set(D(), 127.0f));
  hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(v)), d8, p);
}

// Rounds to nearest even, as ToBfloat16 does; NaNs are kept apart, since rounding may carry one
// with a full mantissa into another value.
HWY_INLINE void StoreFloats(V v, bfloat16* p) {
  const hn::Rebind<uint32_t, D> d32;
  const hn::Rebind<int32_t, D> di32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fff))));
  const auto quiet_nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d32, 0x40));
  const auto is_nan = hn::RebindMask(d32, hn::IsNaN(v));
  const auto half = hn::IfThenElse(is_nan, quiet_nan, rounded);
  hn::StoreU(hn::DemoteTo(D16(), hn::BitCast(di32, half)), D16(), reinterpret_cast<uint16_t*>(p));
}

// The first n of a vector, the others zero.
template <typename T>
HWY_INLINE V LoadSome(const T* p, int64_t n) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, n * sizeof(T));
  return LoadFloats(buffer);
}

template <typename T>
HWY_INLINE void StoreSome(V v, T* p, int64_t n) {
  T buffer[kLanes];
  StoreFloats(v, buffer);
  std::memcpy(p, buffer, n * sizeof(T));
}

// y[i] = f(x[i])
template <typename X, typename Y, typename F>
HWY_INLINE void Map(const X* x, Y* y, int64_t n, const F& f) {
  const int64_t step = hn::Lanes(D());
  int64_t i = 0;
  for (; i + step <= n; i += step) StoreFloats(f(LoadFloats(x + i)), y + i);
  if (i < n) StoreSome(f(LoadSome(x + i, n - i)), y + i, n - i);
}

// y[i] = f(a[i], b[i])
template <typename Y, typename F>
HWY_INLINE void Map(const float* a, const float* b, Y* y, int64_t n, const F& f) {
  const int64_t step = hn::Lanes(D());
  int64_t i = 0;
  for (; i + step <= n; i += step) StoreFloats(f(LoadFloats(a + i), LoadFloats(b + i)), y + i);
  if (i < n) StoreSome(f(LoadSome(a + i, n - i), LoadSome(b + i, n - i)), y + i, n - i);
}

HWY_INLINE float Sum(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }

// exp(x) by 2^n exp(r), |r| <= ln(2)/2, and the Taylor series of exp(r) to degree 7, whose next
// term is below 6e-9: with the roundings, the relative error is below 3e-7. Below -87.3, where
// floats run out, 0; above 88.3, exp(88.3).
HWY_INLINE V Exp(V x) {
  const D d;
  const hn::Rebind<int32_t, D> di;
  const auto underflow = hn::Lt(x, hn::Set(d, -87.3f));
  x = hn::Min(hn::Max(x, hn::Set(d, -87.3f)), hn::Set(d, 88.3f));
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // ln(2) in two parts, the first of few enough bits for n times it to be exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(underflow, hn::Mul(p, hn::BitCast(d, exponent)));
}

template <typename X, typename Y>
void ConvertImpl(const X* from, Y* to, int64_t n) {
  Map(from, to, n, [](V x) { return x; });
}
void ToFloats(const bfloat16* from, float* to, int64_t n) { ConvertImpl(from, to, n); }
void ToHalves(const float* from, bfloat16* to, int64_t n) { ConvertImpl(from, to, n); }

// Four sums, so that additions need not wait for each other.
float DotImpl(const float* a, const float* b, int64_t n) {
  const int64_t step = hn::Lanes(D());
  V sum[4] = {hn::Zero(D()), hn::Zero(D()), hn::Zero(D()), hn::Zero(D())};
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    for (int64_t j = 0; j < 4; ++j) {
      sum[j] = hn::MulAdd(LoadFloats(a + i + j * step), LoadFloats(b + i + j * step), sum[j]);
    }
  }
  for (; i + step <= n; i += step) {
    sum[0] = hn::MulAdd(LoadFloats(a + i), LoadFloats(b + i), sum[0]);
  }
  if (i < n) sum[0] = hn::MulAdd(LoadSome(a + i, n - i), LoadSome(b + i, n - i), sum[0]);
  return Sum(hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])));
}

void AddImpl(const float* a, const float* b, float* sum, int64_t n) {
  Map(a, b, sum, n, [](V x, V y) { return hn::Add(x, y); });
}

void MaxIntoImpl(const float* x, float* y, int64_t n) {
  Map(x, y, y, n, [](V a, V b) { return hn::Max(a, b); });
}

template <typename Y>
void ScaleImpl(const float* x, float scale, Y* y, int64_t n) {
  const V s = hn::Set(D(), scale);
  Map(x, y, n, [s](V a) { return hn::Mul(a, s); });
}
void ScaleToFloats(const float* x, float s, float* y, int64_t n) { ScaleImpl(x, s, y, n); }
void ScaleToHalves(const float* x, float s, bfloat16* y, int64_t n) { ScaleImpl(x, s, y, n); }

float MaxAbsImpl(const float* x, int64_t n) {
  const int64_t step = hn::Lanes(D());
  V most = hn::Zero(D());
  int64_t i = 0;
  for (; i + step <= n; i += step) most = hn::Max(most, hn::Abs(LoadFloats(x + i)));
  if (i < n) most = hn::Max(most, hn::Abs(LoadSome(x + i, n - i)));
  return hn::GetLane(hn::MaxOfLanes(D(), most));
}

void QuantizeImpl(const float* x, float inverse, int8_t* q, int64_t n) {
  ScaleImpl(x, inverse, q, n);
}

template <typename Y>
void DequantizeImpl(const int8_t* q, float scale, Y* y, int64_t n) {
  const V s = hn::Set(D(), scale);
  Map(q, y, n, [s](V a) { return hn::Mul(a, s); });
}
void DequantizeToFloats(const int8_t* q, float s, float* y, int64_t n) {
  DequantizeImpl(q, s, y, n);
}
void DequantizeToHalves(const int8_t* q, float s, bfloat16* y, int64_t n) {
  DequantizeImpl(q, s, y, n);
}

template <typename Y>
void WeighImpl(const float* x, float scale, const float* weight, Y* y, int64_t n) {
  const V s = hn::Set(D(), scale);
  Map(x, weight, y, n, [s](V a, V w) { return hn::Mul(hn::Mul(a, s), w); });
}
void WeighToFloats(const float* x, float s, const float* w, float* y, int64_t n) {
  WeighImpl(x, s, w, y, n);
}
void WeighToHalves(const float* x, float s, const float* w, bfloat16* y, int64_t n) {
  WeighImpl(x, s, w, y, n);
}

template <typename Y>
void SiluImpl(const float* gate, const float* up, Y* y, int64_t n) {
  const V one = hn::Set(D(), 1.0f);
  Map(gate, up, y, n,
      [one](V g, V u) { return hn::Mul(hn::Div(g, hn::Add(one, Exp(hn::Neg(g)))), u); });
}
void SiluToFloats(const float* g, const float* u, float* y, int64_t n) { SiluImpl(g, u, y, n); }
void SiluToHalves(const float* g, const float* u, bfloat16* y, int64_t n) { SiluImpl(g, u, y, n); }

template <typename Y>
void RotateImpl(const float* x, const float* rotation, bool back, Y* y, int64_t n) {
  const int64_t step = hn::Lanes(D());
  const int64_t half = n / 2;
  const V sign = hn::Set(D(), back ? -1.0f : 1.0f);
  int64_t i = 0;
  for (; i + step <= half; i += step) {
    const V a = LoadFloats(x + i);
    const V b = LoadFloats(x + half + i);
    const V c = LoadFloats(rotation + i);
    const V s = hn::Mul(LoadFloats(rotation + half + i), sign);
    StoreFloats(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + i);
    StoreFloats(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + i);
  }
  if (i < half) {
    const int64_t rest = half - i;
    const V a = LoadSome(x + i, rest);
    const V b = LoadSome(x + half + i, rest);
    const V c = LoadSome(rotation + i, rest);
    const V s = hn::Mul(LoadSome(rotation + half + i, rest), sign);
    StoreSome(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + i, rest);
    StoreSome(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + i, rest);
  }
}
void RotateToFloats(const float* x, const float* r, bool back, float* y, int64_t n) {
  RotateImpl(x, r, back, y, n);
}
void RotateToHalves(const float* x, const float* r, bool back, bfloat16* y, int64_t n) {
  RotateImpl(x, r, back, y, n);
}

template <typename T>
HWY_INLINE void DotRowsImpl(const T* rows, int64_t stride, int64_t num_rows, const float* x,
                            int64_t n, float* y) {
  const int64_t step = hn::Lanes(D());
  for (int64_t r = 0; r < num_rows; ++r) {
    const T* row = rows + r * stride;
    V even = hn::Zero(D());
    V odd = hn::Zero(D());
    int64_t i = 0;
    for (; i + 2 * step <= n; i += 2 * step) {
      even = hn::MulAdd(LoadFloats(row + i), LoadFloats(x + i), even);
      odd = hn::MulAdd(LoadFloats(row + i + step), LoadFloats(x + i + step), odd);
    }
    for (; i + step <= n; i += step) {
      even = hn::MulAdd(LoadFloats(row + i), LoadFloats(x + i), even);
    }
    if (i < n) odd = hn::MulAdd(LoadSome(row + i, n - i), LoadSome(x + i, n - i), odd);
    y[r] = Sum(hn::Add(even, odd));
  }
}
void DotRowsOfFloats(const float* rows, int64_t stride, int64_t num_rows, const float* x, int64_t n,
                     float* y) {
  DotRowsImpl(rows, stride, num_rows, x, n, y);
}
void DotRowsOfHalves(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* x,
                     int64_t n, float* y) {
  DotRowsImpl(rows, stride, num_rows, x, n, y);
}

// Four vectors of y at a time stay in registers over all rows.
template <typename T>
HWY_INLINE void AddRowsImpl(const T* rows, int64_t stride, int64_t num_rows, const float* weight,
                            int64_t n, float* y) {
  const int64_t step = hn::Lanes(D());
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    V a = LoadFloats(y + i);
    V b = LoadFloats(y + i + step);
    V c = LoadFloats(y + i + 2 * step);
    V d = LoadFloats(y + i + 3 * step);
    for (int64_t r = 0; r < num_rows; ++r) {
      const T* row = rows + r * stride + i;
      const V w = hn::Set(D(), weight[r]);
      a = hn::MulAdd(w, LoadFloats(row), a);
      b = hn::MulAdd(w, LoadFloats(row + step), b);
      c = hn::MulAdd(w, LoadFloats(row + 2 * step), c);
      d = hn::MulAdd(w, LoadFloats(row + 3 * step), d);
    }
    StoreFloats(a, y + i);
    StoreFloats(b, y + i + step);
    StoreFloats(c, y + i + 2 * step);
    StoreFloats(d, y + i + 3 * step);
  }
  for (; i < n; i += step) {
    const int64_t some = HWY_MIN(step, n - i);
    V a = LoadSome(y + i, some);
    for (int64_t r = 0; r < num_rows; ++r) {
      a = hn::MulAdd(hn::Set(D(), weight[r]), LoadSome(rows + r * stride + i, some), a);
    }
    StoreSome(a, y + i, some);
  }
}
void AddRowsOfFloats(const float* rows, int64_t stride, int64_t num_rows, const float* weight,
                     int64_t n, float* y) {
  AddRowsImpl(rows, stride, num_rows, weight, n, y);
}
void AddRowsOfHalves(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* weight,
                     int64_t n, float* y) {
  AddRowsImpl(rows, stride, num_rows, weight, n, y);
}

float MaxLogitImpl(const float* x, float scale, const float* bias, int64_t n) {
  const int64_t step = hn::Lanes(D());
  const V s = hn::Set(D(), scale);
  const V lowest = hn::Set(D(), -std::numeric_limits<float>::infinity());
  V best = lowest;
  int64_t i = 0;
  if (bias == nullptr) {
    for (; i + step <= n; i += step) best = hn::Max(best, hn::Mul(LoadFloats(x + i), s));
  } else {
    for (; i + step <= n; i += step) {
      best = hn::Max(best, hn::MulAdd(LoadFloats(x + i), s, LoadFloats(bias + i)));
    }
  }
  if (i < n) {
    const V b = bias == nullptr ? hn::Zero(D()) : LoadSome(bias + i, n - i);
    const V logit = hn::MulAdd(LoadSome(x + i, n - i), s, b);
    best = hn::Max(best, hn::IfThenElse(hn::FirstN(D(), n - i), logit, lowest));
  }
  return hn::GetLane(hn::MaxOfLanes(D(), best));
}

template <typename Y>
float ExpLogitsImpl(const float* x, float scale, const float* bias, float shift, Y* y, int64_t n) {
  const int64_t step = hn::Lanes(D());
  const V s = hn::Set(D(), scale);
  const V minus_shift = hn::Set(D(), -shift);
  V sum = hn::Zero(D());
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    const V b = bias == nullptr ? minus_shift : hn::Add(LoadFloats(bias + i), minus_shift);
    const V e = Exp(hn::MulAdd(LoadFloats(x + i), s, b));
    sum = hn::Add(sum, e);
    StoreFloats(e, y + i);
  }
  if (i < n) {
    const V b = bias == nullptr ? minus_shift : hn::Add(LoadSome(bias + i, n - i), minus_shift);
    const V e = Exp(hn::MulAdd(LoadSome(x + i, n - i), s, b));
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(D(), n - i), e));
    StoreSome(e, y + i, n - i);
  }
  return Sum(sum);
}
float ExpToFloats(const float* x, float scale, const float* bias, float shift, float* y,
                  int64_t n) {
  return ExpLogitsImpl(x, scale, bias, shift, y, n);
}
float ExpToHalves(const float* x, float scale, const float* bias, float shift, bfloat16* y,
                  int64_t n) {
  return ExpLogitsImpl(x, scale, bias, shift, y, n);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rasq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rasq {

HWY_EXPORT(ToFloats);
HWY_EXPORT(ToHalves);
HWY_EXPORT(DotImpl);
HWY_EXPORT(AddImpl);
HWY_EXPORT(DotRowsOfFloats);
HWY_EXPORT(DotRowsOfHalves);
HWY_EXPORT(AddRowsOfFloats);
HWY_EXPORT(AddRowsOfHalves);
HWY_EXPORT(MaxIntoImpl);
HWY_EXPORT(ScaleToFloats);
HWY_EXPORT(ScaleToHalves);
HWY_EXPORT(MaxAbsImpl);
HWY_EXPORT(QuantizeImpl);
HWY_EXPORT(DequantizeToFloats);
HWY_EXPORT(DequantizeToHalves);
HWY_EXPORT(WeighToFloats);
HWY_EXPORT(WeighToHalves);
HWY_EXPORT(SiluToFloats);
HWY_EXPORT(SiluToHalves);
HWY_EXPORT(RotateToFloats);
HWY_EXPORT(RotateToHalves);
HWY_EXPORT(MaxLogitImpl);
HWY_EXPORT(ExpToFloats);
HWY_EXPORT(ExpToHalves);

void Convert(const bfloat16* from, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToFloats)(from, to, n);
}
void Convert(const float* from, bfloat16* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToHalves)(from, to, n);
}
float MaxAbs(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxAbsImpl)(x, n); }
void Quantize(const float* x, float inverse, int8_t* q, int64_t n) {
  HWY_DYNAMIC_DISPATCH(QuantizeImpl)(x, inverse, q, n);
}
void Dequantize(const int8_t* q, float scale, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(DequantizeToFloats)(q, scale, y, n);
}
void Dequantize(const int8_t* q, float scale, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(DequantizeToHalves)(q, scale, y, n);
}
float Dot(const float* a, const float* b, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(DotImpl)(a, b, n);
}
void Add(const float* a, const float* b, float* sum, int64_t n) {
  HWY_DYNAMIC_DISPATCH(AddImpl)(a, b, sum, n);
}
void DotRows(const float* rows, int64_t stride, int64_t num_rows, const float* x, int64_t n,
             float* y) {
  HWY_DYNAMIC_DISPATCH(DotRowsOfFloats)(rows, stride, num_rows, x, n, y);
}
void DotRows(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* x, int64_t n,
             float* y) {
  HWY_DYNAMIC_DISPATCH(DotRowsOfHalves)(rows, stride, num_rows, x, n, y);
}
void AddRows(const float* rows, int64_t stride, int64_t num_rows, const float* weight, int64_t n,
             float* y) {
  HWY_DYNAMIC_DISPATCH(AddRowsOfFloats)(rows, stride, num_rows, weight, n, y);
}
void AddRows(const bfloat16* rows, int64_t stride, int64_t num_rows, const float* weight, int64_t n,
             float* y) {
  HWY_DYNAMIC_DISPATCH(AddRowsOfHalves)(rows, stride, num_rows, weight, n, y);
}
void MaxInto(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(MaxIntoImpl)(x, y, n); }
void Scale(const float* x, float scale, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ScaleToFloats)(x, scale, y, n);
}
void Scale(const float* x, float scale, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ScaleToHalves)(x, scale, y, n);
}
void ScaleByWeight(const float* x, float scale, const float* weight, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(WeighToFloats)(x, scale, weight, y, n);
}
void ScaleByWeight(const float* x, float scale, const float* weight, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(WeighToHalves)(x, scale, weight, y, n);
}
void SiluTimes(const float* gate, const float* up, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluToFloats)(gate, up, y, n);
}
void SiluTimes(const float* gate, const float* up, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluToHalves)(gate, up, y, n);
}
void Rotate(const float* x, const float* rotation, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateToFloats)(x, rotation, /*back=*/false, y, n);
}
void Rotate(const float* x, const float* rotation, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateToHalves)(x, rotation, /*back=*/false, y, n);
}
void RotateBack(const float* x, const float* rotation, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateToFloats)(x, rotation, /*back=*/true, y, n);
}
void RotateBack(const float* x, const float* rotation, bfloat16* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(RotateToHalves)(x, rotation, /*back=*/true, y, n);
}
float MaxLogit(const float* x, float scale, const float* bias, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(MaxLogitImpl)(x, scale, bias, n);
}
float ExpLogits(const float* x, float scale, const float* bias, float shift, float* y, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(ExpToFloats)(x, scale, bias, shift, y, n);
}
float ExpLogits(const float* x, float scale, const float* bias, float shift, bfloat16* y,
                int64_t n) {
  return HWY_DYNAMIC_DISPATCH(ExpToHalves)(x, scale, bias, shift, y, n);
}

}  // namespace rasq
#endif  // HWY_ONCE
