#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "oumi/optim/clip_grad.h"
#include "oumi/optim/ema.h"
#include "oumi/optim/test_support.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::HasSubstr;

Tensor with_gradient(const Tensor& gradient) {
  const Tensor parameter = at::zeros(gradient.sizes(), gradient.options()).requires_grad_(true);
  parameter.mutable_grad() = gradient;
  return parameter;
}

TEST(ClipGrad, EqualsPyTorch) {
  const Json all = golden("clip");
  for (const Json& entry : all.at("cases")) {
    const at::ScalarType dtype = dtype_named(entry.at("dtype"));
    const double tolerance = dtype == at::kDouble ? 1e-14 : dtype == at::kFloat ? 2e-7 : 8e-3;
    std::vector<Tensor> parameters = {at::zeros({2}).requires_grad_(true)};  // without a gradient
    for (std::size_t i = 0; i < all.at("shapes").size(); ++i) {
      parameters.push_back(
          with_gradient(tensor_of(all.at("values")[i], all.at("shapes")[i].get<std::vector<std::int64_t>>(), dtype, 1.0 / 64)));
    }
    const Tensor norm = clip_grad_norm(parameters, entry.at("max_norm"));
    EXPECT_EQ(norm.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    EXPECT_NEAR(norm.item<double>(), entry.at("norm").get<double>(), tolerance * entry.at("norm").get<double>());
    for (std::size_t i = 0; i < all.at("shapes").size(); ++i) {
      expect_close(parameters[i + 1].grad(), entry.at("clipped")[i], tolerance, cat(entry.at("dtype"), " gradient ", i));
    }
  }
}

TEST(ClipGrad, HalfPrecisionIsSummedInFloat) {
  // 600,000 ones: bfloat16 sums stop growing at 256, and a bfloat16 result would be 776.
  const std::vector<Tensor> parameters = {with_gradient(at::ones({600000}, at::kBFloat16))};
  EXPECT_NEAR(grad_norm(parameters).item<double>(), std::sqrt(600000.0), 1e-3);
}

TEST(ClipGrad, NoGradientsIsZero) {
  EXPECT_EQ(clip_grad_norm({}, 1.0).item<double>(), 0.0);
  EXPECT_EQ(clip_grad_norm({at::zeros({3}).requires_grad_(true)}, 1.0).item<double>(), 0.0);
}

TEST(ClipGrad, MaxNormZeroMeasuresOnly) {
  const std::vector<Tensor> parameters = {with_gradient(at::full({4}, 3.0))};
  EXPECT_EQ(clip_grad_norm(parameters, 0.0).item<double>(), 6.0);
  EXPECT_EQ(parameters[0].grad()[0].item<double>(), 3.0);
}

TEST(ClipGrad, InfiniteAndNanNormsAreReported) {
  const std::vector<Tensor> infinite = {with_gradient(at::full({2}, INFINITY)), with_gradient(at::ones({2}))};
  EXPECT_TRUE(std::isinf(clip_grad_norm(infinite, 1.0).item<double>()));
  EXPECT_EQ(infinite[1].grad()[0].item<double>(), 0.0) << "as PyTorch: scaled by 0";
  const std::vector<Tensor> nan = {with_gradient(at::full({2}, NAN)), with_gradient(at::ones({2}))};
  EXPECT_TRUE(std::isnan(clip_grad_norm(nan, 1.0).item<double>()));
  EXPECT_TRUE(std::isnan(nan[1].grad()[0].item<double>())) << "as PyTorch: NaN spreads";
}

TEST(ClipGrad, SameBitsEveryTime) {
  const Tensor gradient = at::ones({100003}).cumsum(0).sin();
  const std::vector<Tensor> parameters = {with_gradient(gradient), with_gradient(gradient.slice(0, 1, 5000))};
  const double first = grad_norm(parameters).item<double>();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(grad_norm(parameters).item<double>(), first);
}

TEST(Ema, FollowsItsFormulaAndSwaps) {
  const Tensor parameter = at::full({2, 2}, 1.0).requires_grad_(true);
  ExponentialMovingAverage average({{"p", parameter}}, 0.75);
  parameter.detach().fill_(5.0);
  average.update();  // 0.75 * 1 + 0.25 * 5
  parameter.detach().fill_(8.0);
  {
    const AveragedParameters scope(average);
    EXPECT_EQ(parameter[0][0].item<double>(), 2.0);
    EXPECT_TRUE(average.swapped_in());
    EXPECT_THROW(average.update(), InternalError);
    EXPECT_THROW(average.state_dict(), InternalError);
  }
  EXPECT_EQ(parameter[0][0].item<double>(), 8.0);
  EXPECT_EQ(average.state_dict().at("p")[1][1].item<double>(), 2.0);
  EXPECT_FALSE(average.state_dict().at("p").requires_grad());
}

TEST(Ema, StateIsRestoredStrictly) {
  const Tensor parameter = at::full({2}, 1.0).requires_grad_(true);
  ExponentialMovingAverage average({{"p", parameter}}, 0.5);
  average.load_state_dict({{"p", at::full({2}, 7.0)}});
  EXPECT_EQ(average.state_dict().at("p")[0].item<double>(), 7.0);
  EXPECT_THAT(user_error([&] { average.load_state_dict({}); }), HasSubstr("[moving average 'p'] expected a tensor, got none"));
  EXPECT_THAT(user_error([&] { average.load_state_dict({{"p", at::ones({3})}}); }),
              HasSubstr("expected [2] Float, got [3] Float"));
  EXPECT_THAT(user_error([&] { average.load_state_dict({{"p", at::ones({2})}, {"q", at::ones({2})}}); }),
              HasSubstr("[moving average 'q']"));
  EXPECT_EQ(average.state_dict().at("p")[0].item<double>(), 7.0) << "a refused state changes nothing";
  EXPECT_THAT(user_error([&] { ExponentialMovingAverage({}, 1.0); }),
              HasSubstr("[ema.decay] expected a value from 0 to below 1, got 1"));
}

}  // namespace
}  // namespace oumi
