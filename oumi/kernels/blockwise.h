// Blockwise quantisation by table: each block of elements is scaled by its largest magnitude, and each element becomes the
// index of a table's nearest value. Formats, tables and rounding are bitsandbytes': NF4 and FP4 (QLoRA, Dettmers et al. 2023,
// arXiv:2305.14314) and the dynamic 8-bit maps (Dettmers et al. 2021, arXiv:2110.02861). On the CPU; not differentiable.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// The 16 values of a 4-bit code by index.
enum class FourBitType { kNf4, kFp4 };
const std::array<float, 16>& four_bit_table(FourBitType type);

// An 8-bit map: 256 values in ascending order, and the search for the nearest.
class EightBitMap {
 public:
  explicit EightBitMap(const std::array<float, 256>& values);
  const std::array<float, 256>& values() const noexcept { return values_; }
  float operator[](std::uint8_t code) const { return values_[code]; }

  // The code of the value nearest to x; of two equally near ones, the lower.
  std::uint8_t nearest(float x) const {
    std::uint8_t code = first_[std::bit_cast<std::uint32_t>(x) >> 16];
    while (code < 255 && x > middles_[code]) ++code;
    return code;
  }

 private:
  std::array<float, 256> values_;
  std::array<float, 255> middles_;
  std::vector<std::uint8_t> first_;  // by a number's upper 16 bits, the code of the least number that has them
};

// The dynamic maps: signed (-0.99 to 1) and unsigned (0 to 1).
enum class DynamicMap { kSigned, kUnsigned };
const EightBitMap& dynamic_map(DynamicMap kind);

constexpr std::int64_t kFourBitBlock = 64;
constexpr std::int64_t kEightBitBlock = 256;

struct FourBitBlocks {
  Tensor codes;   // uint8 [(n + 1) / 2]: two elements a byte, the first in the high half
  Tensor absmax;  // float32 [ceil(n / 64)]
};
// `values`: floating point, any shape, read in C order.
FourBitBlocks quantize_4bit(const Tensor& values, FourBitType type);

// Elements [begin, begin + out.numel()) of a quantised tensor into `out`, contiguous float32 or bfloat16; `begin` is a multiple
// of the block. Products are rounded once, from float32.
void dequantize_4bit_into(Tensor& out, const FourBitBlocks& blocks, FourBitType type, std::int64_t begin);

struct EightBitBlocks {
  Tensor codes;   // uint8, the shape of the values
  Tensor absmax;  // float32 [ceil(n / 256)]
};
EightBitBlocks quantize_8bit(const Tensor& values, const EightBitMap& map);
Tensor dequantize_8bit(const EightBitBlocks& blocks, const EightBitMap& map);  // float32

}  // namespace oumi::kernels
