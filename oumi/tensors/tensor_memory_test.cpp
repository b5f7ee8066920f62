#include "oumi/tensors/tensor_memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <random>
#include <thread>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kMiB = 1 << 20;

Tensor bytes(std::int64_t size) { return at::empty({size}, at::kByte); }

// For all tests of this program; `old` had its memory before.
class Memory : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    EXPECT_EQ(tensor_memory_use().most_used, 0U);
    old = at::ones({4 * kMiB}, at::kByte);
    keep_tensor_memory();
    keep_tensor_memory();
  }
  static Tensor old;
};
Tensor Memory::old;

TEST_F(Memory, OlderTensorsKeepTheirs) {
  EXPECT_EQ(old.sum().item<std::int64_t>(), 4 * kMiB);
  old.reset();
  EXPECT_EQ(tensor_memory_use().used, 0U);
}

TEST_F(Memory, TheNextTensorOfTheSizeTakesIt) {
  const std::size_t used = tensor_memory_use().used;
  Tensor first = bytes(3 * kMiB + 5);
  const void* data = first.data_ptr();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0U);
  EXPECT_EQ(tensor_memory_use().used - used, 3 * kMiB + 4096);
  first.reset();
  EXPECT_GE(tensor_memory_use().kept, 3 * kMiB + 4096);
  EXPECT_NE(bytes(2 * kMiB).data_ptr(), data);  // a quarter and more would be lost
  EXPECT_NE(bytes(4 * kMiB).data_ptr(), data);
  EXPECT_EQ(bytes(3 * kMiB - 4096).data_ptr(), data);
  EXPECT_EQ(tensor_memory_use().used, used);
}

TEST_F(Memory, SmallTensorsStayInTheHeap) {
  const TensorMemoryUse before = tensor_memory_use();
  const Tensor none = at::empty({0}), small = bytes(100'000);
  EXPECT_EQ(tensor_memory_use().used, before.used);
}

TEST_F(Memory, WhatIsKeptHasABound) {
  for (int round = 0; round < 3; ++round) {
    for (std::int64_t size = 1; size < 60; ++size) {  // no two of a size
      const Tensor one = bytes(size * kMiB);
      const TensorMemoryUse use = tensor_memory_use();
      EXPECT_LE(use.used + use.kept, use.most_used + use.most_used / 8) << size;
    }
  }
  EXPECT_GE(tensor_memory_use().most_used, 59 * kMiB);
}

TEST_F(Memory, TensorsChangeSizeAndMove) {
  Tensor grown = at::ones({kMiB}, at::kByte);
  grown.resize_({3 * kMiB}).fill_(2);
  grown.resize_({2 * kMiB});
  EXPECT_EQ(grown.sum().item<std::int64_t>(), 4 * kMiB);
  const Tensor copy = grown.clone();
  grown = Tensor();
  EXPECT_EQ(copy.sum().item<std::int64_t>(), 4 * kMiB);
}

TEST_F(Memory, ThreadsShareIt) {
  const std::size_t used = tensor_memory_use().used;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t thread = 0; thread < wrong.size(); ++thread) {
    threads.emplace_back([thread, &wrong] {
      std::mt19937 draw(static_cast<unsigned>(thread));
      std::vector<Tensor> held(8);
      for (int i = 0; i < 300; ++i) {
        Tensor& slot = held[draw() % held.size()];
        const auto mark = static_cast<std::uint8_t>(draw());
        if (slot.defined() && slot[0].item<std::uint8_t>() != slot[-1].item<std::uint8_t>()) ++wrong[thread];
        slot = bytes(static_cast<std::int64_t>(300'000 + draw() % 500'000));
        slot[0] = mark;
        slot[-1] = mark;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
  EXPECT_EQ(tensor_memory_use().used, used);
}

TEST_F(Memory, TooMuchIsLibTorchsError) {
  try {
    bytes(std::int64_t{1} << 50);
    FAIL() << "expected an error";
  } catch (const std::exception& error) {
    EXPECT_TRUE(is_out_of_memory(error)) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("1125899906842624 bytes"));
  }
  EXPECT_EQ(bytes(kMiB).numel(), kMiB);
}

}  // namespace
}  // namespace oumi
