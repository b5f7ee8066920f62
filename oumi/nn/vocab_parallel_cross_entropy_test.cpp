// The loss over a spread vocabulary is the plain one's: value and gradients, at vocabularies that the ranks don't divide.
#include "oumi/nn/vocab_parallel_cross_entropy.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include "oumi/distributed/testing.h"

namespace oumi::nn {
namespace {

struct Setting {
  std::int64_t ranks, vocabulary, rows;
  double smoothing, soft_cap;
  bool bias, mean;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.ranks << " ranks, " << setting.vocabulary << " ids"; }

class VocabParallelLoss : public ::testing::TestWithParam<Setting> {};

TEST_P(VocabParallelLoss, EqualsThePlainOne) {
  const Setting& setting = GetParam();
  at::manual_seed(1);
  const auto draw = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).set_requires_grad(true); };
  const Tensor hidden = draw({setting.rows, 6}), weight = draw({setting.vocabulary, 6});
  const Tensor bias = setting.bias ? draw({setting.vocabulary}) : Tensor();
  Tensor labels = at::randint(setting.vocabulary, {setting.rows}, at::kLong);
  labels.slice(0, 1, c10::nullopt, 3).fill_(-100);

  Tensor logits = at::linear(hidden, weight, bias);
  if (setting.soft_cap > 0) logits = at::tanh(logits / setting.soft_cap) * setting.soft_cap;
  const Tensor expected = at::cross_entropy_loss(logits, labels, {}, setting.mean ? at::Reduction::Mean : at::Reduction::Sum,
                                                 -100, setting.smoothing);
  (expected * 3).backward();

  std::vector<Tensor> of_hidden(static_cast<std::size_t>(setting.ranks)), of_weight = of_hidden, of_bias = of_hidden;
  const TensorSplit split{.dim = 0, .pieces = {setting.vocabulary}};
  const auto errors = testing::run_ranks(setting.ranks, testing::kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    const TensorParallelPtr parallel = TensorParallel::create(group);
    const auto own = [&](const Tensor& whole) {
      return split.slice(whole.detach(), group->rank(), setting.ranks).clone().set_requires_grad(true);
    };
    const Tensor own_hidden = hidden.detach().clone().set_requires_grad(true), own_weight = own(weight),
                 own_bias = setting.bias ? own(bias) : Tensor();
    const Tensor loss = vocab_parallel_cross_entropy(
        own_hidden, own_weight, setting.bias ? std::optional<Tensor>(own_bias) : std::nullopt, labels, setting.vocabulary,
        *parallel,
        {.label_smoothing = setting.smoothing,
         .soft_cap = setting.soft_cap,
         .reduction = setting.mean ? kernels::LossReduction::kMean : kernels::LossReduction::kSum});
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-10 * std::abs(expected.item<double>()));
    (loss * 3).backward();
    const auto rank = static_cast<std::size_t>(group->rank());
    of_hidden[rank] = own_hidden.grad();
    of_weight[rank] = own_weight.grad();
    if (setting.bias) of_bias[rank] = own_bias.grad();
  });
  EXPECT_THAT(errors, ::testing::Each(""));
  EXPECT_TRUE(at::allclose(at::stack(of_hidden).sum(0), hidden.grad(), 1e-9, 1e-12));
  EXPECT_TRUE(at::allclose(split.join(of_weight), weight.grad(), 1e-9, 1e-12));
  if (setting.bias) {
    EXPECT_TRUE(at::allclose(split.join(of_bias), bias.grad(), 1e-9, 1e-12));
  }
}

INSTANTIATE_TEST_SUITE_P(All, VocabParallelLoss,
                         ::testing::Values(Setting{2, 10, 8, 0, 0, false, false}, Setting{2, 11, 8, 0.1, 0, true, true},
                                           Setting{3, 11, 9, 0.2, 3, false, true}, Setting{2, 7, 1100, 0.1, 2, true, false}));

TEST(VocabParallelLoss, NamesALabelOutside) {
  const auto errors = testing::run_ranks(2, testing::kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const TensorParallelPtr parallel = TensorParallel::create(group);
    vocab_parallel_cross_entropy(at::ones({2, 3}), at::ones({5, 3}), std::nullopt, at::full({2}, 10, at::kLong), 10, *parallel);
  });
  EXPECT_THAT(errors.front(), ::testing::HasSubstr("expected labels in [0, 10) or -100, got 10"));
}

// Follows the default generator, and differs between ranks.
TEST(TensorParallelDropout, IsEachRanksOwnInside) {
  at::manual_seed(3);
  const Tensor state = at::globalContext().defaultGenerator(at::kCPU).get_state();
  std::vector<Tensor> inside;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    std::vector<Tensor> drawn(2);
    const auto errors = testing::run_ranks(2, testing::kQuick, [&](std::shared_ptr<ProcessGroup> group) {
      if (group->rank() != rank) return;
      const TensorParallelPtr parallel = TensorParallel::create(group);
      for (Tensor& mask : drawn) {
        at::Generator(at::globalContext().defaultGenerator(at::kCPU)).set_state(state);
        mask = parallel->dropout_inside(at::ones({64}), 0.5, true);
      }
    });
    EXPECT_THAT(errors, ::testing::Each(""));
    EXPECT_TRUE(at::equal(drawn[0], drawn[1]));  // a replay draws the same
    EXPECT_NEAR(drawn[0].mean().item<double>(), 1, 0.5);
    inside.push_back(drawn[0]);
  }
  EXPECT_FALSE(at::equal(inside[0], inside[1]));
}

}  // namespace
}  // namespace oumi::nn
