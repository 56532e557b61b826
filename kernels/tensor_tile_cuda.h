// Tiles of bfloat16 in shared memory, and the warp-wide products of them (mma.sync m16n8k16,
// float32 accumulation). Private to the CUDA backend.
//
// A tile is [rows, kWidth] with rows of 16-byte pieces, whose order within a row depends on the
// row: so the eight rows that one ldmatrix reads lie in different banks.
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

namespace rasq {

inline constexpr int kPieceElements = 8;  // of 16 bytes

// Elements from the tile's start to a piece of a row.
template <int kWidth>
__device__ inline int TileOffset(int row, int piece) {
  constexpr int kPieces = kWidth / kPieceElements;
  constexpr int kMask = kPieces >= 8 ? 7 : kPieces - 1;
  constexpr int kRowsPerLine = kPieces >= 8 ? 1 : 8 / kPieces;  // of 128 bytes
  return row * kWidth + (piece ^ ((row / kRowsPerLine) & kMask)) * kPieceElements;
}

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Starts a copy of 16 bytes from global to shared memory; zeroes if `from` is null.
__device__ inline void CopyPieceAsync(void* to, const void* from) {
  const int bytes = from == nullptr ? 0 : 16;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
// The same of 8 and of 4 bytes, none of them null.
__device__ inline void CopyHalfPieceAsync(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(SharedAddress(to)), "l"(from)
               : "memory");
}
__device__ inline void CopyWordAsync(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(SharedAddress(to)), "l"(from)
               : "memory");
}
// The same of 4 bytes; zeroes if `is_there` is false.
__device__ inline void CopyWordIfAsync(void* to, const void* from, bool is_there) {
  const int bytes = is_there ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending groups of this thread's copies are under way.
template <int kPending>
__device__ inline void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline void LoadMatrices(uint32_t (&r)[4], const __nv_bfloat16* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(at)));
}
__device__ inline void LoadMatricesTransposed(uint32_t (&r)[4], const __nv_bfloat16* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(at)));
}

// The left factor: 16 rows from `row`, 16 columns from `column`, of a row-major tile.
template <int kWidth>
__device__ inline void LoadLeft(uint32_t (&a)[4], const __nv_bfloat16* tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  LoadMatrices(a, tile + TileOffset<kWidth>(row + lane % 16, column / kPieceElements + lane / 16));
}

// Two right factors [16 inner, 8 outer] from a tile [outer, inner], outer rows `row` and `row + 8`:
// (b[0], b[1]) and (b[2], b[3]).
template <int kWidth>
__device__ inline void LoadRightRows(uint32_t (&b)[4], const __nv_bfloat16* tile, int row,
                                     int column) {
  const int lane = threadIdx.x % 32;
  LoadMatrices(b, tile + TileOffset<kWidth>(row + lane % 8 + lane / 16 * 8,
                                            column / kPieceElements + lane / 8 % 2));
}

// Two right factors from a tile [inner, outer]: inner rows from `row`, outer columns `column` and
// `column + 8`.
template <int kWidth>
__device__ inline void LoadRightColumns(uint32_t (&b)[4], const __nv_bfloat16* tile, int row,
                                        int column) {
  const int lane = threadIdx.x % 32;
  LoadMatricesTransposed(b, tile + TileOffset<kWidth>(row + lane % 8 + lane / 8 % 2 * 8,
                                                      column / kPieceElements + lane / 16));
}

// The left factor [16 outer, 16 inner] from a tile [inner, outer]: inner rows from `row`, outer
// columns from `column`.
template <int kWidth>
__device__ inline void LoadLeftTransposed(uint32_t (&a)[4], const __nv_bfloat16* tile, int row,
                                          int column) {
  const int lane = threadIdx.x % 32;
  LoadMatricesTransposed(a, tile + TileOffset<kWidth>(row + lane % 8 + lane / 16 * 8,
                                                      column / kPieceElements + lane / 8 % 2));
}

// Two right factors [16 inner, 8 outer] from rows 0 to 7 of a tile [outer, inner]: inner columns
// `column` in (b[0], b[1]), and the next 16 in (b[2], b[3]).
template <int kWidth>
__device__ inline void LoadRightRow(uint32_t (&b)[4], const __nv_bfloat16* tile, int column) {
  const int lane = threadIdx.x % 32;
  LoadMatrices(b, tile + TileOffset<kWidth>(lane % 8, column / kPieceElements + lane / 8));
}

// c += a * b. A lane holds c of row lane / 4 (c[0], c[1]) and lane / 4 + 8 (c[2], c[3]), columns
// lane % 4 * 2 and the next.
__device__ inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t PackPair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// A product's result as the left factor of the next: columns 16 k .. of c become a[k].
template <int kTiles>
__device__ inline void AsLeft(const float (&c)[kTiles][4], int k, uint32_t (&a)[4]) {
  a[0] = PackPair(c[2 * k][0], c[2 * k][1]);
  a[1] = PackPair(c[2 * k][2], c[2 * k][3]);
  a[2] = PackPair(c[2 * k + 1][0], c[2 * k + 1][1]);
  a[3] = PackPair(c[2 * k + 1][2], c[2 * k + 1][3]);
}

// A product's result [16, 8] as the right factor [16 inner, 8 outer] of the next.
__device__ inline void AsRight(const float (&c)[4], uint32_t (&b)[2]) {
  const uint32_t low = PackPair(c[0], c[1]), high = PackPair(c[2], c[3]);
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(b[0]) : "r"(low));
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(b[1]) : "r"(high));
}

// 2^x; x may be -infinity.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace rasq
