// Rearranging bfloat16 matrices into tiles for products, and storing sums, on raw memory. Compiled for AVX-512 where there is
// x86: to be called only where has_tile_products() (matmul_bfloat16.h).
#pragma once

#include <cstdint>

#include "oumi/kernels/cpu/simd.h"

namespace oumi::kernels::cpu {

// Two rows of a right operand: element i holds column i of row 2 n in its low half and of row 2 n + 1 in its high one.
using Pair = std::uint32_t;

// A matrix where it lies; strides in elements, one of them 1.
struct StridedMatrix {
  const BFloat16* data;
  std::int64_t row_stride, column_stride;

  StridedMatrix at(std::int64_t row, std::int64_t column) const {
    return {data + row * row_stride + column * column_stride, row_stride, column_stride};
  }
  bool is_row_major() const { return column_stride == 1; }
};

// from [rows, columns] as rows of pairs, `stride` pairs apart; filled up with zeros to `filled_rows` (even) by
// `filled_columns`. Without rows that lie packed, `rows` has to be even.
void pack_right(StridedMatrix from, std::int64_t rows, std::int64_t columns, std::int64_t filled_rows,
                std::int64_t filled_columns, Pair* to, std::int64_t stride);

// from [rows, columns] as rows, `stride` elements apart; filled up with zeros to `filled_rows` by `filled_columns`.
void pack_left(StridedMatrix from, std::int64_t rows, std::int64_t columns, std::int64_t filled_rows,
               std::int64_t filled_columns, BFloat16* to, std::int64_t stride);

// to = from + bias, rounded to the nearest, ties to even; `bias` [columns] may be null. Subnormal values become zero.
void store_rounded(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns, const BFloat16* bias,
                   BFloat16* to, std::int64_t to_stride);

// to += from.
void store_added(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns, float* to,
                 std::int64_t to_stride);

}  // namespace oumi::kernels::cpu
