// Against bitsandbytes' CPU kernels: tests/golden/adapters.py.
#include "oumi/kernels/blockwise.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi::kernels {
namespace {

// A safetensors file read by hand: the reader lives above this folder.
TensorDict read_golden() {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  const std::string bytes =
      read_text_file(cat(source == nullptr ? "." : source, "/tests/golden/adapters/blockwise.safetensors"));
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  TensorDict tensors;
  const Json index = Json::parse(bytes.substr(8, header));
  for (const auto& [name, entry] : index.items()) {
    if (name == "__metadata__") continue;
    const auto dtype = entry["dtype"] == "F32" ? at::kFloat : entry["dtype"] == "BF16" ? at::kBFloat16 : at::kByte;
    char* data = const_cast<char*>(bytes.data()) + 8 + header + entry["data_offsets"][0].get<std::size_t>();
    tensors.set(name,
                at::from_blob(data, entry["shape"].get<std::vector<std::int64_t>>(), at::TensorOptions().dtype(dtype)).clone());
  }
  return tensors;
}

const TensorDict& golden() {
  static const TensorDict tensors = read_golden();
  return tensors;
}

Tensor tensor_of(const std::array<float, 256>& values) {
  return at::from_blob(const_cast<float*>(values.data()), {256}, at::kFloat).clone();
}

Tensor dense(const FourBitBlocks& blocks, FourBitType type, const Tensor& like) {
  Tensor out = at::empty_like(like);
  dequantize_4bit_into(out, blocks, type, 0);
  return out;
}

TEST(Blockwise, FourBitCodesScalesAndValuesEqualBitsandbytes) {
  for (const auto& [name, type] : {std::pair{"nf4", FourBitType::kNf4}, std::pair{"fp4", FourBitType::kFp4}}) {
    const Tensor& weight = golden().at("weight");
    const FourBitBlocks blocks = quantize_4bit(weight, type);
    EXPECT_TRUE(at::equal(blocks.codes, golden().at(cat(name, ".codes")))) << name;
    EXPECT_TRUE(at::equal(blocks.absmax, golden().at(cat(name, ".absmax")))) << name;
    EXPECT_TRUE(at::equal(dense(blocks, type, weight), golden().at(cat(name, ".dense")))) << name;
    const Tensor half = weight.to(at::kBFloat16);
    const FourBitBlocks half_blocks = quantize_4bit(half, type);
    EXPECT_TRUE(at::equal(half_blocks.codes, golden().at(cat(name, ".bf16.codes")))) << name;
    EXPECT_TRUE(at::equal(dense(half_blocks, type, half), golden().at(cat(name, ".bf16.dense")))) << name;
  }
}

TEST(Blockwise, NestedScalesEqualBitsandbytes) {
  const Tensor weight = golden().at("nested.weight").to(at::kFloat);
  FourBitBlocks blocks = quantize_4bit(weight, FourBitType::kNf4);
  const float offset = golden().at("nested.offset").item<float>();
  EXPECT_NEAR(blocks.absmax.mean().item<float>(), offset, 1e-6 * std::abs(offset));
  const EightBitMap& map = dynamic_map(DynamicMap::kSigned);
  const EightBitBlocks scales = quantize_8bit(blocks.absmax - offset, map);
  // Its 8-bit kernel and its 4-bit one (ours too) find the nearest value in two ways, which differ in the middle between two.
  const Tensor apart = (scales.codes.to(at::kInt) - golden().at("nested.absmax_codes").to(at::kInt)).abs();
  EXPECT_LE(apart.max().item<int>(), 1);
  EXPECT_LE(apart.sum().item<int>(), 2);
  EXPECT_TRUE(at::equal(scales.absmax, golden().at("nested.absmax")));
  // With its codes, its values.
  blocks.absmax = dequantize_8bit({golden().at("nested.absmax_codes"), scales.absmax}, map) + offset;
  EXPECT_TRUE(at::equal(dense(blocks, FourBitType::kNf4, weight).to(at::kBFloat16), golden().at("nested.dense")));
}

TEST(Blockwise, DynamicMapsEqualBitsandbytes) {
  EXPECT_TRUE(at::equal(tensor_of(dynamic_map(DynamicMap::kSigned).values()), golden().at("map.signed")));
  EXPECT_TRUE(at::equal(tensor_of(dynamic_map(DynamicMap::kUnsigned).values()), golden().at("map.unsigned")));
}

TEST(Blockwise, NearestCodeIsTheNearestOfAll) {
  at::manual_seed(1);
  for (const DynamicMap kind : {DynamicMap::kSigned, DynamicMap::kUnsigned}) {
    const EightBitMap& map = dynamic_map(kind);
    const Tensor numbers = at::randn({20000}) * at::randn({20000}).pow(7);
    const auto* x = numbers.const_data_ptr<float>();
    for (std::int64_t i = 0; i < numbers.numel(); ++i) {
      float best = INFINITY;
      for (const float value : map.values()) best = std::min(best, std::abs(value - x[i]));
      ASSERT_LE(std::abs(map[map.nearest(x[i])] - x[i]), best * (1 + 1e-6F)) << x[i];
    }
    for (int code = 0; code < 256; ++code) EXPECT_EQ(map.nearest(map[static_cast<std::uint8_t>(code)]), code);
  }
}

TEST(Blockwise, PartsOfATensorAreDequantisedAlone) {
  const Tensor weight = at::randn({10, 64});
  const FourBitBlocks blocks = quantize_4bit(weight, FourBitType::kNf4);
  const Tensor whole = dense(blocks, FourBitType::kNf4, weight);
  Tensor part = at::empty({3, 64});
  dequantize_4bit_into(part, blocks, FourBitType::kNf4, 4 * 64);
  EXPECT_TRUE(at::equal(part, whole.narrow(0, 4, 3)));
}

}  // namespace
}  // namespace oumi::kernels
