// Products of float32 blocks on raw memory: operands packed into strips, sums kept in registers. Compiled for AVX2 where there
// is x86: to be called only where has_blocks() (matmul_float32.h).
#pragma once

#include <cstdint>

#include "oumi/kernels/cpu/simd.h"

namespace oumi::kernels::cpu {

// Rows and columns of the sums that are kept in registers: a strip of the left operand and one of the right.
constexpr std::int64_t kStripRows = 6, kStripColumns = 16;

// Rows of a left operand, or columns of a right one, where they lie; strides in elements, one of them 1.
template <class T>
struct Lines {
  const T* data;
  std::int64_t line_stride, inner_stride;
};

// `count` lines of `inner` values each as strips of kStripRows (kStripColumns) lines: [strip][inner][line of the strip], the
// last strip filled up with zeros. bfloat16 is widened. `to` begins at a multiple of 32 bytes; pack_rows may write 8 floats
// beyond its end.
void pack_rows(Lines<float> from, std::int64_t count, std::int64_t inner, float* to);
void pack_rows(Lines<BFloat16> from, std::int64_t count, std::int64_t inner, float* to);
void pack_columns(Lines<float> from, std::int64_t count, std::int64_t inner, float* to);
void pack_columns(Lines<BFloat16> from, std::int64_t count, std::int64_t inner, float* to);

// out [rows, columns] (+)= left right, of strips.
struct StripProduct {
  std::int64_t rows, columns, inner;
  const float *left, *right;
  std::int64_t right_stride;  // from one strip of columns to the next
  float* out;
  std::int64_t out_stride;
  bool add;
};
void multiply_strips(const StripProduct& product);

// The same with a left operand where it lies, whose rows (or, transposed, columns) are packed `left_stride` apart: for one that
// is in cache and used too little to be worth packing. Nothing outside it is read.
struct PlainStripProduct : StripProduct {
  std::int64_t left_stride;
  bool left_transposed;
};
void multiply_plain(const PlainStripProduct& product);

}  // namespace oumi::kernels::cpu
