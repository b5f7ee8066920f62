#include "oumi/kernels/linear_cross_entropy.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::expect_close;

// The definition in float64, of all logits at once.
Tensor reference(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels,
                 const LinearCrossEntropyOptions& options) {
  Tensor logits = hidden.matmul(weight.t());
  if (bias.defined()) logits = logits + bias;
  if (options.soft_cap > 0) logits = (logits / options.soft_cap).tanh() * options.soft_cap;
  const Tensor kept = labels.ne(options.ignore_index);
  const Tensor log_p =
      logits - (logits - logits.amax(1, true).detach()).exp().sum(1, true).log() - logits.amax(1, true).detach();
  const Tensor nll = -log_p.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
  const Tensor loss = ((1 - options.label_smoothing) * nll - options.label_smoothing * log_p.mean(1)) * kept;
  return options.reduction == LossReduction::kSum ? loss.sum() : loss.sum() / kept.sum();
}

Tensor random_labels(std::int64_t rows, std::int64_t vocabulary, std::int64_t ignored_every) {
  Tensor labels = at::randint(0, vocabulary, {rows}, at::kLong);
  for (std::int64_t i = 0; ignored_every > 0 && i < rows; i += ignored_every) labels[i] = -100;
  return labels;
}

struct Case {
  std::int64_t rows, hidden, vocabulary, ignored_every;
  bool bias;
  LinearCrossEntropyOptions options;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list{
      {5, 8, 11, 0, false, {}},
      {40, 16, 301, 3, false, {}},
      {40, 16, 301, 3, true, {.reduction = LossReduction::kSum}},
      {600, 24, 77, 2, false, {.label_smoothing = 0.1}},
      {1100, 32, 1030, 7, true, {.label_smoothing = 0.2, .soft_cap = 3.0}},
      {33, 12, 64, 1, false, {.reduction = LossReduction::kSum}},  // every label ignored
      {1, 1, 1, 0, false, {}},
      {150, 96, 200, 4, false, {}},                                 // all rows at once, large enough for products by tiles
      {700, 64, 130, 6, true, {.reduction = LossReduction::kSum}},  // the same in chunks
  };
  return list;
}

class LinearCrossEntropyTypes : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Kernels, LinearCrossEntropyTypes, ::testing::Values(at::kFloat, at::kBFloat16, at::kDouble),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST_P(LinearCrossEntropyTypes, MatchesTheDefinition) {
  at::manual_seed(1);
  const auto type = GetParam();
  for (std::size_t i = 0; i < cases().size(); ++i) {
    const Case& test = cases()[i];
    const std::string what = "case " + std::to_string(i);
    std::vector<Tensor> inputs{at::randn({test.rows, test.hidden}), at::randn({test.vocabulary, test.hidden}) * 0.3};
    if (test.bias) inputs.push_back(at::randn({test.vocabulary}));
    std::vector<Tensor> wide;
    for (Tensor& input : inputs) {
      input = input.to(type).requires_grad_(true);
      wide.push_back(input.detach().to(at::kDouble).requires_grad_(true));
    }
    const Tensor labels = random_labels(test.rows, test.vocabulary, test.ignored_every);
    const Tensor loss = linear_cross_entropy(inputs[0], inputs[1], test.bias ? inputs[2] : Tensor(), labels, test.options);
    const Tensor expected = reference(wide[0], wide[1], test.bias ? wide[2] : Tensor(), labels, test.options);
    EXPECT_EQ(loss.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
    const double relative = type == at::kBFloat16 ? 5e-3 : type == at::kFloat ? 2e-6 : 1e-12;
    expect_close(loss, expected, {relative, 1e-9}, what);
    // Upstream gradients other than one.
    const auto gradients = torch::autograd::grad({loss * 3}, inputs), right = torch::autograd::grad({expected * 3}, wide);
    for (std::size_t j = 0; j < gradients.size(); ++j) {
      EXPECT_EQ(gradients[j].scalar_type(), type);
      const double scale = right[j].abs().max().item<double>();
      const double absolute = type == at::kBFloat16 ? 2e-2 : type == at::kFloat ? 3e-6 : 1e-12;
      expect_close(gradients[j], right[j], {oumi::testing::tolerance(type).relative, absolute * scale + 1e-12},
                   what + " gradient " + std::to_string(j));
    }
  }
}

TEST(Kernels, LinearCrossEntropyGradientsMatchCentralDifferences) {
  at::manual_seed(2);
  for (const auto& options :
       {LinearCrossEntropyOptions{},
        LinearCrossEntropyOptions{.label_smoothing = 0.3, .soft_cap = 1.0, .reduction = LossReduction::kSum}}) {
    const Tensor labels = random_labels(6, 5, 3);
    const auto make = [](at::IntArrayRef shape) { return at::randn(shape, at::kDouble).requires_grad_(true); };
    oumi::testing::gradcheck(
        [&](const auto& in) { return std::vector<Tensor>{linear_cross_entropy(in[0], in[1], in[2], labels, options)}; },
        {make({6, 4}), make({5, 4}), make({5})});
  }
}

TEST(Kernels, LinearCrossEntropyComputesOnlyTheGradientsAskedFor) {
  at::manual_seed(3);
  const Tensor hidden = at::randn({9, 4}).requires_grad_(true), weight = at::randn({7, 4}), labels = random_labels(9, 7, 0);
  const Tensor loss = linear_cross_entropy(hidden, weight, {}, labels);
  loss.backward();
  EXPECT_TRUE(hidden.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
  const c10::AutoGradMode no_grad(false);
  EXPECT_TRUE(linear_cross_entropy(hidden, weight, {}, labels).equal(loss.detach()));
}

TEST(Kernels, LinearCrossEntropyOfNothing) {
  const Tensor hidden = at::randn({3, 4}).requires_grad_(true), weight = at::randn({7, 4}).requires_grad_(true),
               labels = at::full({3}, -100, at::kLong);
  EXPECT_TRUE(std::isnan(linear_cross_entropy(hidden, weight, {}, labels).item<double>()));
  const Tensor sum = linear_cross_entropy(hidden, weight, {}, labels, {.reduction = LossReduction::kSum});
  EXPECT_EQ(sum.item<double>(), 0);
  sum.backward();
  EXPECT_EQ(hidden.grad().abs().sum().item<double>(), 0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0);
}

TEST(Kernels, LinearCrossEntropyUnderAutocastKeepsTheWeightsGradientInFloat32) {
  at::manual_seed(4);
  const Tensor hidden = at::randn({40, 16}).requires_grad_(true), weight = at::randn({50, 16}).requires_grad_(true),
               labels = random_labels(40, 50, 5);
  const auto run = [&](bool autocast) {
    at::autocast::set_autocast_enabled(at::kCPU, autocast);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    const Tensor loss = linear_cross_entropy(hidden, weight, {}, labels);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    auto results = torch::autograd::grad({loss}, {hidden, weight});
    results.push_back(loss);
    return results;
  };
  const auto low = run(true), high = run(false);
  for (std::size_t i = 0; i < low.size(); ++i) {
    EXPECT_EQ(low[i].scalar_type(), at::kFloat);
    expect_close(low[i], high[i], {2e-2, 2e-2 * high[i].abs().max().item<double>()}, std::to_string(i));
  }
}

std::string error_of(const Tensor& hidden, const Tensor& weight, const Tensor& labels) {
  try {
    linear_cross_entropy(hidden, weight, {}, labels);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Kernels, LinearCrossEntropyNamesWhatDoesNotFit) {
  using ::testing::HasSubstr;
  const Tensor hidden = at::randn({3, 4}), weight = at::randn({7, 4});
  EXPECT_THAT(error_of(hidden, at::randn({7, 5}), random_labels(3, 7, 0)), HasSubstr("got [3, 4] and [7, 5]"));
  EXPECT_THAT(error_of(hidden, weight, at::full({3}, 7, at::kLong)), HasSubstr("labels in [0, 7) or -100, got 7"));
  EXPECT_THAT(error_of(hidden, weight, at::full({3}, -1, at::kLong)), HasSubstr("got -1"));
  EXPECT_THAT(error_of(hidden, weight, at::full({2}, 1, at::kLong)), HasSubstr("labels int64 [3]"));
}

}  // namespace
}  // namespace oumi::kernels
