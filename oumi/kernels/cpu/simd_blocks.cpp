// CMakeLists.txt gives this file its instruction set. No templates of other headers here: their code would be compiled for it
// too, and the linker might keep that copy for everyone.
#include "oumi/kernels/cpu/simd_blocks.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define OUMI_AVX2_BLOCKS
#endif

namespace oumi::kernels::cpu {

#ifdef OUMI_AVX2_BLOCKS

namespace {

constexpr std::int64_t kLanes = 8;  // floats of a vector
// Lines that lie across a matrix are met once a row of it: so many rows ahead are fetched.
constexpr std::int64_t kFetchedAhead = 8;

constexpr std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

__m256 vector_of(const float* from) { return _mm256_loadu_ps(from); }
__m256 vector_of(const BFloat16* from) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

float value_of(float value) { return value; }
float value_of(BFloat16 value) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(value.bits) << 16); }

// Six values, and not one beyond them.
void copy_six(const float* from, float* to) {
  _mm_storeu_ps(to, _mm_loadu_ps(from));
  _mm_storel_pi(reinterpret_cast<__m64*>(to + 4), _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(from + 4)));
}
void copy_six(const BFloat16* from, float* to) {
  for (int i = 0; i < 6; ++i) to[i] = value_of(from[i]);
}

// Four values of a line.
__m128 quad_of(const float* from) { return _mm_loadu_ps(from); }
__m128 quad_of(const BFloat16* from) {
  const __m128i bits = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  return _mm_castsi128_ps(_mm_slli_epi32(bits, 16));
}

// Four values of kLines lines (up to eight, with zeros for the rest) become four vectors with a value of each line.
template <std::int64_t kLines, class T>
[[gnu::always_inline]] inline void transpose_quads(const T* from, std::int64_t line_stride, float* to, std::int64_t stride) {
  __m256 line[4];
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < 4; ++i) {
    const __m128 above = quad_of(from + i * line_stride);
    const __m128 below = 4 + i < kLines ? quad_of(from + (4 + i) * line_stride) : _mm_setzero_ps();
    line[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(above), below, 1);
  }
  const __m256 low_pair = _mm256_unpacklo_ps(line[0], line[1]), high_pair = _mm256_unpackhi_ps(line[0], line[1]);
  const __m256 low_other = _mm256_unpacklo_ps(line[2], line[3]), high_other = _mm256_unpackhi_ps(line[2], line[3]);
  _mm256_storeu_ps(to, _mm256_shuffle_ps(low_pair, low_other, 0x44));
  _mm256_storeu_ps(to + stride, _mm256_shuffle_ps(low_pair, low_other, 0xee));
  _mm256_storeu_ps(to + 2 * stride, _mm256_shuffle_ps(high_pair, high_other, 0x44));
  _mm256_storeu_ps(to + 3 * stride, _mm256_shuffle_ps(high_pair, high_other, 0xee));
}

// What whole vectors leave over.
template <std::int64_t kWidth, class T>
void pack_rest(Lines<T> from, std::int64_t lines, std::int64_t first, std::int64_t inner, float* to) {
  for (std::int64_t k = first; k < inner; ++k) {
    for (std::int64_t i = 0; i < kWidth; ++i) {
      to[k * kWidth + i] = i < lines ? value_of(from.data[i * from.line_stride + k * from.inner_stride]) : 0;
    }
  }
}

// Lines side by side: a row of the matrix holds one value of each.
template <std::int64_t kWidth, class T>
void pack_across(Lines<T> from, std::int64_t count, std::int64_t inner, float* to) {
  const std::int64_t whole = count / kWidth * kWidth;
  constexpr std::int64_t kCacheLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t k = 0; k < inner; ++k) {
    const T* row = from.data + k * from.inner_stride;
    if (k + kFetchedAhead < inner) {
      const T* ahead = row + kFetchedAhead * from.inner_stride;
      for (std::int64_t i = 0; i < whole; i += kCacheLine) _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
    }
    for (std::int64_t i = 0; i < whole; i += kWidth) {
      float* strip = to + i * inner + k * kWidth;
      if constexpr (kWidth == 6) {
        // Eight are written where the next row's six come after and cover the last two.
        if (k + 1 < inner && i + kLanes <= count) {
          _mm256_storeu_ps(strip, vector_of(row + i));
        } else {
          copy_six(row + i, strip);
        }
      } else {
        for (std::int64_t lane = 0; lane < kWidth; lane += kLanes) _mm256_store_ps(strip + lane, vector_of(row + i + lane));
      }
    }
  }
  if (whole < count) {
    pack_rest<kWidth>(Lines<T>{from.data + whole * from.line_stride, from.line_stride, from.inner_stride}, count - whole, 0,
                      inner, to + whole * inner);
  }
}

// Each line's values lie packed. Six lines are stored as eight: what is beyond is written again by what comes next, or lies
// in the eight floats to spare. The lines of the next strip are fetched meanwhile: a strip's are too short for the processor to
// see where they lead.
template <std::int64_t kWidth, class T>
void pack_along(Lines<T> from, std::int64_t count, std::int64_t inner, float* to) {
  constexpr std::int64_t kCacheLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t line = 0; line < count; line += kWidth) {
    const Lines<T> lines{from.data + line * from.line_stride, from.line_stride, from.inner_stride};
    float* strip = to + line * inner;
    std::int64_t k = 0;
    if (line + kWidth <= count) {
      const std::int64_t ahead = line + 2 * kWidth <= count ? kWidth * lines.line_stride : 0;
      for (; k + 4 <= inner; k += 4) {
        if (k % kCacheLine == 0) {
          for (std::int64_t i = 0; i < kWidth; ++i)
            _mm_prefetch(reinterpret_cast<const char*>(lines.data + ahead + i * lines.line_stride + k), _MM_HINT_T0);
        }
        for (std::int64_t first = 0; first < kWidth; first += kLanes) {
          transpose_quads<least(kLanes, kWidth)>(lines.data + first * lines.line_stride + k, lines.line_stride,
                                                 strip + k * kWidth + first, kWidth);
        }
      }
    }
    pack_rest<kWidth>(lines, least(kWidth, count - line), k, inner, strip);
  }
}

template <std::int64_t kWidth, class T>
void pack(Lines<T> from, std::int64_t count, std::int64_t inner, float* to) {
  if (from.line_stride == 1) return pack_across<kWidth>(from, count, inner, to);
  pack_along<kWidth>(from, count, inner, to);
}

// How a left operand's rows lie. `row(i)` is the operand from there on; `value` is that of one of the six rows from there.
struct PackedStrips {
  const float* data;
  std::int64_t inner;
  PackedStrips row(std::int64_t i) const { return {data + i * inner, inner}; }
  const float* value(std::int64_t i, std::int64_t k) const { return data + k * kStripRows + i; }
};
struct PlainRows {
  const float* data;
  std::int64_t stride;
  PlainRows row(std::int64_t i) const { return {data + i * stride, stride}; }
  const float* value(std::int64_t i, std::int64_t k) const { return data + i * stride + k; }
};
struct PlainColumns {
  const float* data;
  std::int64_t stride;
  PlainColumns row(std::int64_t i) const { return {data + i, stride}; }
  const float* value(std::int64_t i, std::int64_t k) const { return data + k * stride + i; }
};

// out [kRows, 16] (+)= left right. For six rows: twelve vectors of sums, two of the right strip and one that holds a value of
// the left one.
template <std::int64_t kRows, class Left>
[[gnu::always_inline]] inline void multiply_strip(std::int64_t inner, Left left, const float* right, float* out,
                                                  std::int64_t stride, bool add) {
  __m256 sums[kRows][2];
#pragma GCC unroll 6
  for (std::int64_t row = 0; row < kRows; ++row) {
    sums[row][0] = sums[row][1] = _mm256_setzero_ps();
    _mm_prefetch(reinterpret_cast<const char*>(out + row * stride), _MM_HINT_T0);
  }
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < inner; ++k) {
    const __m256 first = _mm256_load_ps(right + k * kStripColumns), second = _mm256_load_ps(right + k * kStripColumns + kLanes);
#pragma GCC unroll 6
    for (std::int64_t row = 0; row < kRows; ++row) {
      const __m256 value = _mm256_broadcast_ss(left.value(row, k));
      sums[row][0] = _mm256_fmadd_ps(value, first, sums[row][0]);
      sums[row][1] = _mm256_fmadd_ps(value, second, sums[row][1]);
    }
  }
#pragma GCC unroll 6
  for (std::int64_t row = 0; row < kRows; ++row) {
    float* to = out + row * stride;
    if (add) {
      sums[row][0] = _mm256_add_ps(_mm256_loadu_ps(to), sums[row][0]);
      sums[row][1] = _mm256_add_ps(_mm256_loadu_ps(to + kLanes), sums[row][1]);
    }
    _mm256_storeu_ps(to, sums[row][0]);
    _mm256_storeu_ps(to + kLanes, sums[row][1]);
  }
}

// The last rows, fewer than a strip has.
template <class Left>
[[gnu::noinline]] void multiply_low_strip(std::int64_t rows, std::int64_t inner, Left left, const float* right, float* out,
                                          std::int64_t stride, bool add) {
  switch (rows) {
    case 1: return multiply_strip<1>(inner, left, right, out, stride, add);
    case 2: return multiply_strip<2>(inner, left, right, out, stride, add);
    case 3: return multiply_strip<3>(inner, left, right, out, stride, add);
    case 4: return multiply_strip<4>(inner, left, right, out, stride, add);
    default: return multiply_strip<5>(inner, left, right, out, stride, add);
  }
}

template <class Left>
void multiply_by_strips(const StripProduct& product, Left left) {
  // Not one more reference through which values would be read again in the loops.
  const auto [rows, columns, inner, unused, right, right_stride, out, out_stride, add] = product;
  const auto strip_of_rows = [inner](std::int64_t height, Left from, const float* right_strip, float* to, std::int64_t stride,
                                     bool adds) {
    if (height == kStripRows) return multiply_strip<kStripRows>(inner, from, right_strip, to, stride, adds);
    multiply_low_strip(height, inner, from, right_strip, to, stride, adds);
  };
  // A strip of columns stays in the first-level cache while all rows pass.
  for (std::int64_t column = 0; column < columns; column += kStripColumns) {
    const float* right_strip = right + column / kStripColumns * right_stride;
    const std::int64_t width = least(kStripColumns, columns - column);
    for (std::int64_t row = 0; row < rows; row += kStripRows) {
      const std::int64_t height = least(kStripRows, rows - row);
      float* to = out + row * out_stride + column;
      if (width == kStripColumns) {
        strip_of_rows(height, left.row(row), right_strip, to, out_stride, add);
        continue;
      }
      alignas(32) float sums[kStripRows * kStripColumns];
      strip_of_rows(height, left.row(row), right_strip, sums, kStripColumns, false);
      for (std::int64_t i = 0; i < height; ++i) {
        for (std::int64_t j = 0; j < width; ++j) {
          float& value = to[i * out_stride + j];
          const float sum = sums[i * kStripColumns + j];
          value = add ? value + sum : sum;
        }
      }
    }
  }
}

}  // namespace

void pack_rows(Lines<float> from, std::int64_t count, std::int64_t inner, float* to) {
  pack<kStripRows>(from, count, inner, to);
}
void pack_rows(Lines<BFloat16> from, std::int64_t count, std::int64_t inner, float* to) {
  pack<kStripRows>(from, count, inner, to);
}
void pack_columns(Lines<float> from, std::int64_t count, std::int64_t inner, float* to) {
  pack<kStripColumns>(from, count, inner, to);
}
void pack_columns(Lines<BFloat16> from, std::int64_t count, std::int64_t inner, float* to) {
  pack<kStripColumns>(from, count, inner, to);
}

void multiply_strips(const StripProduct& product) { multiply_by_strips(product, PackedStrips{product.left, product.inner}); }

void multiply_plain(const PlainStripProduct& product) {
  if (product.left_transposed) return multiply_by_strips(product, PlainColumns{product.left, product.left_stride});
  multiply_by_strips(product, PlainRows{product.left, product.left_stride});
}

#else

// Never called: has_blocks() is false there.
void pack_rows(Lines<float>, std::int64_t, std::int64_t, float*) {}
void pack_rows(Lines<BFloat16>, std::int64_t, std::int64_t, float*) {}
void pack_columns(Lines<float>, std::int64_t, std::int64_t, float*) {}
void pack_columns(Lines<BFloat16>, std::int64_t, std::int64_t, float*) {}
void multiply_strips(const StripProduct&) {}
void multiply_plain(const PlainStripProduct&) {}

#endif

}  // namespace oumi::kernels::cpu
