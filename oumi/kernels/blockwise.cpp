#include "oumi/kernels/blockwise.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/kernels/cpu/parallel.h"

namespace oumi::kernels {
namespace {

constexpr std::int64_t kBlocksPerTask = 64;

// FP4's 16 values, sign and three bits, over the largest.
constexpr std::array<float, 16> kFp4 = {0.0F,       0.0625F / 12, 8.0F / 12,  1.0F,          4.0F / 12,  6.0F / 12,
                                        2.0F / 12,  3.0F / 12,    -0.0F,      -0.0625F / 12, -8.0F / 12, -1.0F,
                                        -4.0F / 12, -6.0F / 12,   -2.0F / 12, -3.0F / 12};

// The quantiles of N(0, 1) that QLoRA's appendix lists.
constexpr std::array<float, 16> kNf4 = {-1.0F,
                                        -0.6961928009986877F,
                                        -0.5250730514526367F,
                                        -0.39491748809814453F,
                                        -0.28444138169288635F,
                                        -0.18477343022823334F,
                                        -0.09105003625154495F,
                                        0.0F,
                                        0.07958029955625534F,
                                        0.16093020141124725F,
                                        0.24611230194568634F,
                                        0.33791524171829224F,
                                        0.44070982933044434F,
                                        0.5626170039176941F,
                                        0.7229568362236023F,
                                        1.0F};

// A table in ascending order: the middles between neighbours, and where each value stood.
struct SortedTable {
  std::array<float, 15> middles{};
  std::array<std::uint8_t, 16> code{};
};

SortedTable sort_table(const std::array<float, 16>& table) {
  SortedTable sorted;
  for (std::uint8_t i = 0; i < 16; ++i) sorted.code[i] = i;
  std::stable_sort(sorted.code.begin(), sorted.code.end(), [&](std::uint8_t a, std::uint8_t b) { return table[a] < table[b]; });
  for (std::size_t i = 0; i < 15; ++i) sorted.middles[i] = (table[sorted.code[i]] + table[sorted.code[i + 1]]) / 2;
  return sorted;
}

std::uint8_t nearest_of_16(const SortedTable& table, float x) {
  return table
      .code[static_cast<std::size_t>(std::lower_bound(table.middles.begin(), table.middles.end(), x) - table.middles.begin())];
}

float largest(const float* values, std::int64_t count) {
  float most = 0;
  for (std::int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(values[i]));
  return most;
}

Tensor flat_floats(const Tensor& values) {
  if (!values.is_cpu() || !values.is_floating_point())
    throw UserError("quantisation", cat("expected floating-point numbers on the CPU, got ", values.toString()));
  return values.detach().to(at::kFloat).contiguous().view(-1);
}

std::array<float, 256> make_dynamic_map(bool with_sign) {
  // Seven decades, each with twice the fractions of the one below, in the precision of the published construction: float32,
  // fractions from the ends inwards with fused products, as torch.linspace.
  std::array<float, 256> map{};
  std::size_t size = 0;
  constexpr int kDecades = 7;
  for (int i = 0; i < kDecades; ++i) {
    const int items = (1 << (with_sign ? i : i + 1)) + 1;
    const auto decade = static_cast<float>(std::pow(10.0, i - (kDecades - 1)));
    const float step = (1.0F - 0.1F) / static_cast<float>(items - 1);
    const auto boundary = [&](int k) {
      return k < items / 2 ? std::fma(step, static_cast<float>(k), 0.1F)
                           : std::fma(-step, static_cast<float>(items - 1 - k), 1.0F);
    };
    for (int k = 0; k + 1 < items; ++k) {
      const float value = decade * ((boundary(k) + boundary(k + 1)) / 2.0F);
      map[size++] = value;
      if (with_sign) map[size++] = -value;
    }
  }
  map[size++] = 0;
  map[size++] = 1;
  std::sort(map.begin(), map.end());
  return map;
}

template <class Out>
void dequantize(Out* out, const std::uint8_t* codes, const float* absmax, const std::array<float, 16>& table,
                std::int64_t count) {
  const std::int64_t blocks = (count + kFourBitBlock - 1) / kFourBitBlock;
  cpu::parallel_for(0, blocks, kBlocksPerTask, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kFourBitBlock, size = std::min(kFourBitBlock, count - begin);
      // The block's 16 possible values: a look-up for an element, instead of one and a product.
      std::array<Out, 16> values;
      for (std::size_t i = 0; i < 16; ++i) values[i] = static_cast<Out>(table[i] * absmax[block]);
      const std::uint8_t* pairs = codes + begin / 2;
      for (std::int64_t i = 0; i + 1 < size; i += 2) {
        out[begin + i] = values[pairs[i / 2] >> 4];
        out[begin + i + 1] = values[pairs[i / 2] & 15];
      }
      if (size % 2 == 1) out[begin + size - 1] = values[pairs[size / 2] >> 4];
    }
  });
}

}  // namespace

const std::array<float, 16>& four_bit_table(FourBitType type) { return type == FourBitType::kNf4 ? kNf4 : kFp4; }

EightBitMap::EightBitMap(const std::array<float, 256>& values) : values_(values), first_(1 << 16) {
  for (std::size_t i = 0; i < 255; ++i) middles_[i] = (values[i] + values[i + 1]) / 2;
  for (std::uint32_t upper = 0; upper < (1U << 16); ++upper) {
    // Among negative numbers, larger bits are lesser numbers.
    const auto least = std::bit_cast<float>(upper << 16 | (upper >> 15 == 1 ? 0xFFFFU : 0U));
    first_[upper] =
        std::isnan(least)
            ? 255
            : static_cast<std::uint8_t>(std::lower_bound(middles_.begin(), middles_.end(), least) - middles_.begin());
  }
}

const EightBitMap& dynamic_map(DynamicMap kind) {
  static const EightBitMap with_sign(make_dynamic_map(true)), without_sign(make_dynamic_map(false));
  return kind == DynamicMap::kSigned ? with_sign : without_sign;
}

FourBitBlocks quantize_4bit(const Tensor& values, FourBitType type) {
  static const SortedTable nf4 = sort_table(kNf4), fp4 = sort_table(kFp4);
  const SortedTable& table = type == FourBitType::kNf4 ? nf4 : fp4;
  const Tensor flat = flat_floats(values);
  const std::int64_t size = flat.numel(), blocks = (size + kFourBitBlock - 1) / kFourBitBlock;
  FourBitBlocks result{at::empty({(size + 1) / 2}, at::kByte), at::empty({blocks}, at::kFloat)};
  const float* in = flat.const_data_ptr<float>();
  auto* codes = result.codes.mutable_data_ptr<std::uint8_t>();
  auto* absmax = result.absmax.mutable_data_ptr<float>();
  cpu::parallel_for(0, blocks, kBlocksPerTask, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kFourBitBlock, count = std::min(kFourBitBlock, size - begin);
      absmax[block] = largest(in + begin, count);
      const float scale = 1.0F / std::max(absmax[block], 1e-38F);
      const auto code = [&](std::int64_t i) -> unsigned {
        return nearest_of_16(table, i < count ? std::clamp(in[begin + i] * scale, -1.0F, 1.0F) : 0.0F);
      };
      for (std::int64_t i = 0; i < count; i += 2)
        codes[(begin + i) / 2] = static_cast<std::uint8_t>(code(i) << 4 | code(i + 1));
    }
  });
  return result;
}

void dequantize_4bit_into(Tensor& out, const FourBitBlocks& blocks, FourBitType type, std::int64_t begin) {
  const std::int64_t count = out.numel();
  if (begin % kFourBitBlock != 0 || !out.is_contiguous() || begin + count > blocks.codes.numel() * 2) {
    throw InternalError(cat("dequantize_4bit_into: ", count, " elements from ", begin, " of ", blocks.codes.numel() * 2));
  }
  const std::uint8_t* codes = blocks.codes.const_data_ptr<std::uint8_t>() + begin / 2;
  const float* absmax = blocks.absmax.const_data_ptr<float>() + begin / kFourBitBlock;
  if (out.scalar_type() == at::kFloat) {
    dequantize(out.mutable_data_ptr<float>(), codes, absmax, four_bit_table(type), count);
  } else if (out.scalar_type() == at::kBFloat16) {
    dequantize(out.mutable_data_ptr<at::BFloat16>(), codes, absmax, four_bit_table(type), count);
  } else {
    throw InternalError(cat("dequantize_4bit_into: expected float32 or bfloat16, got ", out.scalar_type()));
  }
}

EightBitBlocks quantize_8bit(const Tensor& values, const EightBitMap& map) {
  const Tensor flat = flat_floats(values);
  const std::int64_t size = flat.numel(), blocks = (size + kEightBitBlock - 1) / kEightBitBlock;
  EightBitBlocks result{at::empty(values.sizes(), at::kByte), at::empty({blocks}, at::kFloat)};
  const float* in = flat.const_data_ptr<float>();
  auto* codes = result.codes.mutable_data_ptr<std::uint8_t>();
  auto* absmax = result.absmax.mutable_data_ptr<float>();
  cpu::parallel_for(0, blocks, kBlocksPerTask, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kEightBitBlock, end = std::min(begin + kEightBitBlock, size);
      absmax[block] = largest(in + begin, end - begin);
      const float scale = 1.0F / std::max(absmax[block], 1e-38F);
      for (std::int64_t i = begin; i < end; ++i) codes[i] = map.nearest(std::clamp(in[i] * scale, -1.0F, 1.0F));
    }
  });
  return result;
}

Tensor dequantize_8bit(const EightBitBlocks& blocks, const EightBitMap& map) {
  Tensor result = at::empty(blocks.codes.sizes(), at::kFloat);
  auto* out = result.mutable_data_ptr<float>();
  const auto* codes = blocks.codes.const_data_ptr<std::uint8_t>();
  const auto* absmax = blocks.absmax.const_data_ptr<float>();
  for (std::int64_t i = 0; i < result.numel(); ++i) out[i] = map[codes[i]] * absmax[i / kEightBitBlock];
  return result;
}

}  // namespace oumi::kernels
