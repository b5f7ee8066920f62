// CMakeLists.txt gives this file its instruction set. No templates of other headers here: their code would be compiled for it
// too, and the linker might keep that copy for everyone.
#include "oumi/kernels/cpu/simd_tiles.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define OUMI_AVX512_TILES
#endif

namespace oumi::kernels::cpu {
namespace {

Pair pair_of(BFloat16 low, BFloat16 high) { return static_cast<Pair>(high.bits) << 16 | low.bits; }

constexpr std::int64_t kLanes = 16;  // 32-bit values of a vector

#ifdef OUMI_AVX512_TILES

// Sixteen vectors of sixteen 32-bit values, rows for columns.
void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Lanes of 128 bits: even ones with even, odd ones with odd, twice.
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

__m512i widened(const BFloat16* from) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

__m512i pairs_of(const BFloat16* low, const BFloat16* high) {
  return _mm512_or_si512(widened(low), _mm512_slli_epi32(widened(high), 16));
}

// Whole blocks of 16 pairs of rows by 16 columns of a matrix whose columns lie packed.
void pack_block_of_columns(StridedMatrix from, Pair* to, std::int64_t stride) {
  __m512i block[kLanes];
  for (std::int64_t i = 0; i < kLanes; ++i) block[i] = _mm512_loadu_si512(from.data + i * from.column_stride);
  transpose(block);
  for (std::int64_t i = 0; i < kLanes; ++i) _mm512_storeu_si512(to + i * stride, block[i]);
}

// 16 rows by 32 columns of a matrix whose columns lie packed, as rows.
void transpose_block(StridedMatrix from, BFloat16* to, std::int64_t stride) {
  __m512i block[kLanes];
  for (std::int64_t i = 0; i < kLanes; ++i) {
    const BFloat16* low = from.data + 2 * i * from.column_stride;
    block[i] = pairs_of(low, low + from.column_stride);
  }
  transpose(block);
  for (std::int64_t i = 0; i < kLanes; ++i) _mm512_storeu_si512(to + i * stride, block[i]);
}

#endif

BFloat16 at_or_zero(StridedMatrix from, std::int64_t row, std::int64_t column, std::int64_t rows, std::int64_t columns) {
  return row < rows && column < columns ? *from.at(row, column).data : BFloat16{0};
}

}  // namespace

void pack_right(StridedMatrix from, std::int64_t rows, std::int64_t columns, std::int64_t filled_rows,
                std::int64_t filled_columns, Pair* to, std::int64_t stride) {
  // Blocks of 16 pairs of rows by 16 columns; vectors where a block is whole.
  for (std::int64_t row = 0; row < filled_rows; row += 2 * kLanes) {
    for (std::int64_t column = 0; column < filled_columns; column += kLanes) {
      Pair* block = to + row / 2 * stride + column;
#ifdef OUMI_AVX512_TILES
      if (row + 2 * kLanes <= rows && column + kLanes <= columns) {
        if (from.is_row_major()) {
          const BFloat16* low = from.at(row, column).data;
          for (std::int64_t i = 0; i < kLanes; ++i, low += 2 * from.row_stride)
            _mm512_storeu_si512(block + i * stride, pairs_of(low, low + from.row_stride));
        } else {
          pack_block_of_columns(from.at(row, column), block, stride);
        }
        continue;
      }
#endif
      for (std::int64_t i = 0; i < kLanes && row + 2 * i < filled_rows; ++i) {
        for (std::int64_t j = 0; j < kLanes && column + j < filled_columns; ++j) {
          block[i * stride + j] = pair_of(at_or_zero(from, row + 2 * i, column + j, rows, columns),
                                          at_or_zero(from, row + 2 * i + 1, column + j, rows, columns));
        }
      }
    }
  }
}

void pack_left(StridedMatrix from, std::int64_t rows, std::int64_t columns, std::int64_t filled_rows,
               std::int64_t filled_columns, BFloat16* to, std::int64_t stride) {
  for (std::int64_t row = 0; row < filled_rows; row += kLanes) {
    for (std::int64_t column = 0; column < filled_columns; column += 2 * kLanes) {
      BFloat16* block = to + row * stride + column;
#ifdef OUMI_AVX512_TILES
      if (row + kLanes <= rows && column + 2 * kLanes <= columns && !from.is_row_major()) {
        transpose_block(from.at(row, column), block, stride);
        continue;
      }
#endif
      for (std::int64_t i = 0; i < kLanes && row + i < filled_rows; ++i) {
        for (std::int64_t j = 0; j < 2 * kLanes && column + j < filled_columns; ++j)
          block[i * stride + j] = at_or_zero(from, row + i, column + j, rows, columns);
      }
    }
  }
}

void store_rounded(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns, const BFloat16* bias,
                   BFloat16* to, std::int64_t to_stride) {
  for (std::int64_t row = 0; row < rows; ++row, from += from_stride, to += to_stride) {
    std::int64_t i = 0;
#ifdef OUMI_AVX512_TILES
    for (; i < columns; i += kLanes) {
      const auto mask = static_cast<__mmask16>(columns - i >= kLanes ? 0xffff : (1 << (columns - i)) - 1);
      __m512 value = _mm512_maskz_loadu_ps(mask, from + i);
      if (bias != nullptr) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, bias + i));
        value = _mm512_add_ps(value, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
      }
      _mm256_mask_storeu_epi16(to + i, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
    }
#endif
    for (; i < columns; ++i) {
      const float shift = bias != nullptr ? __builtin_bit_cast(float, static_cast<std::uint32_t>(bias[i].bits) << 16) : 0.0f;
      const auto bits = __builtin_bit_cast(std::uint32_t, from[i] + shift);
      const bool nan = (bits & 0x7fffffff) > 0x7f800000;
      to[i].bits = static_cast<std::uint16_t>((nan ? bits | 0x00400000 : bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }
}

void store_added(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t columns, float* to,
                 std::int64_t to_stride) {
  for (std::int64_t row = 0; row < rows; ++row, from += from_stride, to += to_stride) {
    for (std::int64_t i = 0; i < columns; ++i) to[i] += from[i];
  }
}

}  // namespace oumi::kernels::cpu
