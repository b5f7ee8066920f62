// Every optimizer against PyTorch's (Transformers' for Adafactor) over 20 steps, in every memory layout.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sparse_coo_tensor.h>

#include "oumi/optim/test_support.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::HasSubstr;

// Ours is one kernel where PyTorch's loop is several: an ulp a step or so.
double tolerance(at::ScalarType dtype) {
  if (dtype == at::kDouble) return 1e-13;
  return dtype == at::kFloat ? 2e-6 : 0.01;
}

void check_run(const Json& info, Layout layout, Layout gradient_layout) {
  TrainingRun run(golden_steps(), info, layout, gradient_layout);
  const auto optimizer = run.make();
  const std::string what = cat(info.at("label").get<std::string>(), " ", info.at("dtype").get<std::string>());
  run.train(*optimizer, 0, 1);
  for (std::size_t i = 0; i < run.parameters.size(); ++i) {
    expect_close(run.parameters[i], info.at("after").at("1")[i], tolerance(run.dtype), cat(what, " p", i, " after 1 step"));
  }
  run.train(*optimizer, 1, 20);
  for (std::size_t i = 0; i < run.parameters.size(); ++i) {
    expect_close(run.parameters[i], info.at("after").at("20")[i], tolerance(run.dtype), cat(what, " p", i, " after 20 steps"));
  }
}

TEST(Optimizers, EqualPyTorchs) {
  for (const Json& info : golden_steps().at("cases")) check_run(info, Layout::kContiguous, Layout::kContiguous);
}

TEST(Optimizers, EqualPyTorchsInAnyMemoryLayout) {
  for (const Json& info : golden_steps().at("cases")) {
    for (const Layout layout : {Layout::kContiguous, Layout::kTransposed, Layout::kGaps}) {
      for (const Layout gradient : {Layout::kContiguous, Layout::kTransposed, Layout::kGaps}) {
        SCOPED_TRACE(cat("layout ", static_cast<int>(layout), " gradient ", static_cast<int>(gradient)));
        check_run(info, layout, gradient);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Optimizers, AMatrixBeyondOneVectorAndThreadIsUpdatedWhole) {
  // One step of SGD has a closed form; 300,007 elements are split over threads and leave a vector's tail.
  const Tensor parameter = at::ones({300007}).requires_grad_(true);
  parameter.mutable_grad() = at::ones({300007});
  OptimizerOptions options{.name = "sgd", .learning_rate = 0.25};
  make_optimizer(options, {{"all", {{"p", parameter}}, 0.0, {}}})->step();
  EXPECT_EQ(parameter.min().item<float>(), 0.75f);
  EXPECT_EQ(parameter.max().item<float>(), 0.75f);
}

TEST(Optimizers, ClosureRunsWithGradientsAndItsLossComesBack) {
  const Tensor parameter = at::ones({2}).requires_grad_(true);
  const auto optimizer = make_optimizer({.name = "sgd", .learning_rate = 0.5}, {{"all", {{"p", parameter}}, 0.0, {}}});
  const at::NoGradGuard outside;
  const Tensor loss = optimizer->step([&] {
    const Tensor value = parameter.sum();
    value.backward();
    return value;
  });
  EXPECT_EQ(loss.item<float>(), 2.0f);
  EXPECT_EQ(parameter[0].item<float>(), 0.5f);
}

TEST(Optimizers, GroupsHaveTheirOwnLearningRate) {
  const Tensor a = at::ones({1}).requires_grad_(true);
  const Tensor b = at::ones({1}).requires_grad_(true);
  const auto optimizer =
      make_optimizer({.name = "SGD", .learning_rate = 0.5}, {{"a", {{"a", a}}, 0.0, {}}, {"b", {{"b", b}}, 0.0, 0.125}});
  EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(), 0.5);
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.125);
  EXPECT_EQ(optimizer->defaults().get_lr(), 0.5);
}

std::string refused(const OptimizerOptions& options) {
  const Tensor parameter = at::ones({1}).requires_grad_(true);
  return user_error([&] { make_optimizer(options, {{"all", {{"p", parameter}}, 0.0, {}}}); });
}

TEST(Optimizers, BadNamesAreRefused) {
  EXPECT_THAT(refused({.name = "adamw_troch"}),
              HasSubstr("[training.optimizer] unknown optimizer 'adamw_troch' (did you mean 'adamw_torch'?"));
  EXPECT_THAT(refused({.name = "adamw_troch"}), HasSubstr("rmsprop"));
  EXPECT_THAT(refused({.name = "GaLore_AdamW"}), HasSubstr("[training.optimizer] optimizer 'GaLore_AdamW' is not supported"));
  EXPECT_THAT(refused({.name = "lion_8bit"}), HasSubstr("is not supported"));
  EXPECT_THAT(refused({.name = ""}), HasSubstr("unknown optimizer ''"));
}

TEST(Optimizers, BadSettingsAreRefused) {
  EXPECT_THAT(refused({.learning_rate = -1}), HasSubstr("[training.learning_rate] expected a value from 0, got -1"));
  EXPECT_THAT(refused({.learning_rate = NAN}), HasSubstr("[training.learning_rate]"));
  EXPECT_THAT(refused({.adam_beta2 = 1.0}), HasSubstr("[training.adam_beta2] expected a value from 0 to below 1, got 1"));
  EXPECT_THAT(refused({.name = "sgd", .optim_args = "momentun=0.9"}),
              HasSubstr("[training.optim_args.momentun] unknown key (did you mean 'momentum'?)"));
  EXPECT_THAT(refused({.name = "adam", .optim_args = "beta1"}), HasSubstr("expected key=value,key=value, got 'beta1'"));
  EXPECT_THAT(refused({.name = "adam", .optim_args = "beta1=0.9,"}), HasSubstr("expected key=value"));
  EXPECT_THAT(refused({.name = "adam", .optim_args = "beta1=x"}), HasSubstr("expected float, got str \"x\""));
  EXPECT_THAT(refused({.name = "adam", .optim_args = "beta1=1.5"}),
              HasSubstr("[training.optim_args.beta1] expected a value from 0 to below 1, got 1.5"));
  EXPECT_THAT(refused({.name = "adam", .optim_args = "eps=1,eps=2"}), HasSubstr("got it twice"));
  EXPECT_THAT(refused({.name = "sgd", .optim_args = "nesterov=True"}), HasSubstr("got momentum 0"));
  EXPECT_THAT(refused({.name = "sgd", .optim_args = "weight_decay=0.1"}), HasSubstr("set training.weight_decay"));
  EXPECT_THAT(refused({.name = "adafactor", .optim_args = "warmup_init=True"}), HasSubstr("expected relative_step=True"));
  EXPECT_EQ(refused({.name = "adam", .optim_args = " beta1 = 0.5 , amsgrad=true "}), "no UserError");
}

TEST(Optimizers, SparseAndMismatchedGradientsAreRefused) {
  const Tensor parameter = at::ones({3}).requires_grad_(true);
  const auto optimizer = make_optimizer({.name = "adamw"}, {{"all", {{"p", parameter}}, 0.0, {}}});
  parameter.mutable_grad() = at::ones({3}).to_sparse();
  EXPECT_THAT(user_error([&] { optimizer->step(); }),
              HasSubstr("adamw needs dense real gradients: expected strided, got sparse"));
}

TEST(Optimizers, UsersCanRegisterTheirOwn) {
  register_optimizer("TestOnlyOptimizer", [](const OptimizerOptions& options, const std::vector<ParameterGroup>& groups) {
    OptimizerOptions plain = options;
    plain.name = "sgd";
    return make_optimizer(plain, groups);
  });
  EXPECT_EQ(refused({.name = "testonlyoptimizer"}), "no UserError");
  EXPECT_THAT(user_error([] { register_optimizer("ADAMW", nullptr); }), HasSubstr("already registered as 'adamw'"));
}

}  // namespace
}  // namespace oumi
