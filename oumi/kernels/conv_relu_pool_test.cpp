#include "oumi/kernels/conv_relu_pool.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/kernels/cpu/parallel.h"
#include "oumi/kernels/cpu/simd.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::expect_close;

Tensor reference(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return at::max_pool2d(at::relu(at::conv2d(x, weight, bias)), {2, 2});
}

struct Case {
  std::int64_t batch, channels, height, width, filters, size;
};

TEST(Kernels, ConvReluPoolMatchesTheComposition) {
  at::manual_seed(1);
  for (const Case& test : std::vector<Case>{{5, 1, 28, 28, 20, 5},
                                            {3, 20, 12, 12, 20, 5},
                                            {1, 3, 9, 14, 7, 2},
                                            {2, 2, 6, 5, 30, 3},
                                            {9, 4, 8, 8, 24, 1},
                                            {1, 1, 3, 3, 1, 2}}) {
    const std::string what = std::to_string(test.channels) + " channels, " + std::to_string(test.filters) + " filters";
    std::vector<Tensor> inputs{at::randn({test.batch, test.channels, test.height, test.width}),
                               at::randn({test.filters, test.channels, test.size, test.size}), at::randn({test.filters})};
    std::vector<Tensor> wide;
    for (Tensor& input : inputs) {
      input.requires_grad_(true);
      wide.push_back(input.detach().to(at::kDouble).requires_grad_(true));
    }
    const Tensor out = conv_relu_pool(inputs[0], inputs[1], inputs[2]), expected = reference(wide[0], wide[1], wide[2]);
    const double terms = std::sqrt(static_cast<double>(test.channels * test.size * test.size));
    expect_close(out, expected, {1e-6, 2e-6 * terms}, what);
    const Tensor projection = at::randn(out.sizes());
    const auto gradients = oumi::testing::projected_gradients({out}, {projection}, inputs),
               right = oumi::testing::projected_gradients({expected}, {projection}, wide);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      expect_close(gradients[i], right[i], {1e-5, 1e-6 * right[i].abs().max().item<double>()},
                   what + " gradient " + std::to_string(i));
    }
    EXPECT_TRUE(conv_relu_pool(inputs[0].detach().contiguous(at::MemoryFormat::ChannelsLast), inputs[1], inputs[2]).equal(out))
        << what;
  }
}

// On one thread and where oneDNN runs its direct convolution; there a run repeats one of PyTorch's bit for bit.
TEST(Kernels, ConvReluPoolAddsInTheOrderOfLibTorch) {
  // oneDNN goes by the processor, ours by LibTorch's ATEN_CPU_CAPABILITY.
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  if (std::string_view(cpu::simd().name) != (wide ? "avx512" : "avx2"))
    GTEST_SKIP() << "compared where both use the same instructions";
  at::manual_seed(4);
  const int threads = at::get_num_threads();
  for (const Case& test : std::vector<Case>{{16, 1, 28, 28, 20, 5}, {16, 20, 12, 12, 20, 5}, {3, 20, 12, 12, 20, 5}}) {
    std::vector<Tensor> inputs{at::randn({test.batch, test.channels, test.height, test.width}),
                               at::randn({test.filters, test.channels, test.size, test.size}), at::randn({test.filters})};
    for (Tensor& input : inputs) input.requires_grad_(true);
    at::set_num_threads(1);
    const Tensor expected = reference(inputs[0], inputs[1], inputs[2]);
    const Tensor projection = at::randn(expected.sizes());
    const auto right = oumi::testing::projected_gradients({expected}, {projection}, inputs);
    at::set_num_threads(threads);
    const Tensor out = conv_relu_pool(inputs[0], inputs[1], inputs[2]);
    EXPECT_TRUE(out.equal(expected)) << "forward, " << test.channels << " channels";
    const auto gradients = oumi::testing::projected_gradients({out}, {projection}, inputs);
    for (const std::size_t i : test.channels == 1 ? std::vector<std::size_t>{1, 2} : std::vector<std::size_t>{0, 1, 2}) {
      EXPECT_TRUE(gradients[i].equal(right[i]))
          << "gradient " << i << ", " << test.channels << " channels: " << (gradients[i] - right[i]).abs().max().item<double>();
    }
  }
}

TEST(Kernels, WorkIsSharedAmongThreads) {
#ifdef __clang__
  GTEST_SKIP() << "built without OpenMP";
#endif
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  cpu::parallel_for(0, 2, 1, [&](std::int64_t, std::int64_t) {
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  at::set_num_threads(threads);
  EXPECT_EQ(seen.size(), 2U);
}

TEST(Kernels, ConvReluPoolGradientsMatchCentralDifferences) {
  at::manual_seed(2);
  const auto make = [](at::IntArrayRef shape) { return at::randn(shape, at::kDouble).requires_grad_(true); };
  oumi::testing::gradcheck([](const auto& in) { return std::vector<Tensor>{conv_relu_pool(in[0], in[1], in[2])}; },
                           {make({2, 2, 6, 6}), make({3, 2, 3, 3}), make({3})}, {1e-5, 1e-7}, 1e-6);
}

TEST(Kernels, ConvReluPoolSendsTiesToTheFirstAndLetsNaNThrough) {
  // All sums of a window are equal, so that the gradient belongs to its first pixel.
  const Tensor x = at::ones({1, 1, 5, 5}).requires_grad_(true), weight = at::ones({1, 1, 2, 2}), bias = at::ones({1});
  const auto ours = torch::autograd::grad({conv_relu_pool(x, weight, bias).sum()}, {x}),
             theirs = torch::autograd::grad({reference(x, weight, bias).sum()}, {x});
  EXPECT_TRUE(ours[0].equal(theirs[0]));
  Tensor broken = at::ones({1, 1, 5, 5});
  broken[0][0][0][1] = std::numeric_limits<float>::quiet_NaN();
  const Tensor out = conv_relu_pool(broken, weight, bias);
  EXPECT_TRUE(std::isnan(out[0][0][0][0].item<double>()));
  EXPECT_EQ(out[0][0][1][1].item<double>(), 5);
}

TEST(Kernels, ConvReluPoolNamesWhatDoesNotFit) {
  try {
    conv_relu_pool(at::ones({1, 2, 5, 5}), at::ones({3, 1, 2, 2}), at::ones({3}));
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("got [1, 2, 5, 5], [3, 1, 2, 2], [3]"));
  }
}

}  // namespace
}  // namespace oumi::kernels
