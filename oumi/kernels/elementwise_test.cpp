#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>

#include "oumi/base/error.h"
#include "oumi/kernels/gated_activation.h"
#include "oumi/kernels/norm.h"
#include "oumi/kernels/rotary.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::expect_close;
using oumi::testing::gradcheck;
using oumi::testing::Tolerance;
using oumi::testing::tolerance;

Tensor random(at::IntArrayRef shape, at::ScalarType type = at::kDouble, bool requires_grad = true) {
  return at::randn(shape, at::kDouble).to(type).set_requires_grad(requires_grad);
}

Tensor wide(const Tensor& tensor) { return tensor.detach().to(at::kDouble).requires_grad_(tensor.requires_grad()); }

// Formulas in float64, written apart from the operations.
Tensor reference_rms_norm(const Tensor& x, const Tensor& weight, double eps, bool unit_offset) {
  const Tensor mean = (x * x).sum(-1, true) / static_cast<double>(x.size(-1));
  return x / (mean + eps).sqrt() * (unit_offset ? weight + 1 : weight);
}

Tensor reference_swiglu(const Tensor& gate, const Tensor& up) { return gate / (1 + (-gate).exp()) * up; }

Tensor reference_geglu(const Tensor& gate, const Tensor& up) {
  return 0.5 * gate * (1 + ((gate + 0.044715 * gate * gate * gate) * std::sqrt(2 / M_PI)).tanh()) * up;
}

Tensor reference_rotary(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const std::int64_t half = cos.size(-1);
  const Tensor c = cos.to(at::kDouble).unsqueeze(-2), s = sin.to(at::kDouble).unsqueeze(-2);
  const Tensor a = x.slice(-1, 0, half), b = x.slice(-1, half, 2 * half);
  return at::cat({a * c - b * s, b * c + a * s, x.slice(-1, 2 * half)}, -1);
}

// Forward and gradients of `function` in `inputs`' types against `reference` in float64.
template <class Function, class Reference>
void compare(Function&& function, Reference&& reference, const std::vector<Tensor>& inputs, Tolerance bound,
             const std::string& what) {
  std::vector<Tensor> wide_inputs;
  for (const Tensor& input : inputs) wide_inputs.push_back(wide(input));
  const std::vector<Tensor> actual = function(inputs), expected = reference(wide_inputs);
  std::vector<Tensor> projections;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    expect_close(actual[i], expected[i], bound, what + " output " + std::to_string(i));
    projections.push_back(at::randn(actual[i].sizes()));
  }
  std::vector<Tensor> leaves, wide_leaves;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    leaves.push_back(inputs[i]);
    wide_leaves.push_back(wide_inputs[i]);
  }
  const auto got = oumi::testing::projected_gradients(actual, projections, leaves);
  const auto right = oumi::testing::projected_gradients(expected, projections, wide_leaves);
  for (std::size_t i = 0; i < got.size(); ++i) {
    // A weight's gradient is a sum over rows: its rounding grows with the terms' size, which the reference's norm bounds.
    if (right[i].numel() == 0) continue;
    const double scale = std::max(1.0, right[i].abs().max().item<double>());
    expect_close(got[i], right[i], {bound.relative, bound.absolute * 4 * scale}, what + " gradient " + std::to_string(i));
  }
}

std::string cat_shape(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? " [" : ", ") + std::to_string(size);
  return text + "]";
}

class Types : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(7); }
};
INSTANTIATE_TEST_SUITE_P(Kernels, Types, ::testing::Values(at::kFloat, at::kBFloat16, at::kDouble),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST_P(Types, RmsNormMatchesTheFormula) {
  for (const bool offset : {false, true}) {
    for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 5, 64}, {7, 37}, {1}, {129, 576}, {2, 0, 8}}) {
      const RmsNormOptions options{.eps = 1e-5, .unit_offset = offset};
      compare([&](const auto& in) { return std::vector<Tensor>{rms_norm(in[0], in[1], options)}; },
              [&](const auto& in) { return std::vector<Tensor>{reference_rms_norm(in[0], in[1], 1e-5, offset)}; },
              {random(shape, GetParam()), random({shape.back()}, GetParam())}, tolerance(GetParam()), cat_shape(shape));
    }
  }
}

TEST_P(Types, AddRmsNormMatchesTheFormula) {
  const RmsNormOptions options{.eps = 1e-5};
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 5, 64}, {7, 37}, {129, 576}}) {
    compare(
        [&](const auto& in) {
          auto [normed, sum] = add_rms_norm(in[0], in[1], in[2], options);
          return std::vector<Tensor>{normed, sum};
        },
        [&](const auto& in) {
          const Tensor sum = in[0] + in[1];
          return std::vector<Tensor>{reference_rms_norm(sum, in[2], 1e-5, false), sum};
        },
        {random(shape, GetParam()), random(shape, GetParam()), random({shape.back()}, GetParam())}, tolerance(GetParam()),
        cat_shape(shape));
  }
}

TEST_P(Types, GatedActivationsMatchTheFormulas) {
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 5, 64}, {37}, {1}, {0, 4}, {33, 1000}}) {
    const std::vector<Tensor> inputs{random(shape, GetParam()), random(shape, GetParam())};
    compare([](const auto& in) { return std::vector<Tensor>{swiglu(in[0], in[1])}; },
            [](const auto& in) { return std::vector<Tensor>{reference_swiglu(in[0], in[1])}; }, inputs, tolerance(GetParam()),
            "swiglu" + cat_shape(shape));
    compare([](const auto& in) { return std::vector<Tensor>{geglu(in[0], in[1])}; },
            [](const auto& in) { return std::vector<Tensor>{reference_geglu(in[0], in[1])}; }, inputs, tolerance(GetParam()),
            "geglu" + cat_shape(shape));
  }
}

TEST_P(Types, RotaryMatchesTheFormula) {
  const auto angles = GetParam() == at::kDouble ? at::kDouble : at::kFloat;
  for (const std::int64_t rotated : {64, 32, 6}) {
    for (const bool per_row : {false, true}) {
      const Tensor angle = per_row ? at::randn({2, 9, rotated / 2}, angles) : at::randn({9, rotated / 2}, angles);
      const Tensor cos = angle.cos(), sin = angle.sin();
      compare(
          [&](const auto& in) {
            auto [q, k] = apply_rotary(in[0], in[1], cos, sin);
            return std::vector<Tensor>{q, k};
          },
          [&](const auto& in) {
            return std::vector<Tensor>{reference_rotary(in[0], cos, sin), reference_rotary(in[1], cos, sin)};
          },
          {random({2, 9, 6, 64}, GetParam()), random({2, 9, 2, 64}, GetParam())}, tolerance(GetParam()), "rotary");
    }
  }
}

TEST_P(Types, NonContiguousInputsGiveTheSameResult) {
  const auto type = GetParam();
  const Tensor x = random({5, 48, 3}, type, false).transpose(1, 2), weight = random({48}, type, false),
               up = random({48, 3, 5}, type, false).permute({2, 1, 0});
  expect_close(rms_norm(x, weight, {}), rms_norm(x.contiguous(), weight, {}), tolerance(type));
  expect_close(swiglu(x, up), swiglu(x.contiguous(), up.contiguous()), tolerance(type));
  const Tensor q = random({2, 4, 9, 64}, type, false).transpose(1, 2), k = random({2, 2, 9, 64}, type, false).transpose(1, 2);
  const Tensor angle = at::randn({9, 32}, type == at::kDouble ? at::kDouble : at::kFloat);
  const auto strided = apply_rotary(q, k, angle.cos(), angle.sin());
  const auto packed = apply_rotary(q.contiguous(), k.contiguous(), angle.cos(), angle.sin());
  expect_close(strided.first, packed.first, tolerance(type));
  expect_close(strided.second, packed.second, tolerance(type));
}

TEST(Kernels, GradientsMatchCentralDifferences) {
  at::manual_seed(3);
  for (const bool offset : {false, true}) {
    gradcheck([&](const auto& in) { return std::vector<Tensor>{rms_norm(in[0], in[1], {.eps = 1e-3, .unit_offset = offset})}; },
              {random({4, 7}), random({7})});
  }
  gradcheck(
      [](const auto& in) {
        auto [normed, sum] = add_rms_norm(in[0], in[1], in[2], {.eps = 1e-3});
        return std::vector<Tensor>{normed, sum};
      },
      {random({4, 7}), random({4, 7}), random({7})});
  gradcheck([](const auto& in) { return std::vector<Tensor>{swiglu(in[0], in[1])}; }, {random({5, 6}), random({5, 6})});
  gradcheck([](const auto& in) { return std::vector<Tensor>{geglu(in[0], in[1])}; }, {random({5, 6}), random({5, 6})});
  const Tensor angle = at::randn({3, 4}, at::kDouble);
  gradcheck(
      [&](const auto& in) {
        auto [q, k] = apply_rotary(in[0], in[1], angle.cos(), angle.sin());
        return std::vector<Tensor>{q, k};
      },
      {random({2, 3, 2, 10}), random({2, 3, 1, 10})});
}

TEST(Kernels, MixedTypesPromoteAsInTransformers) {
  const Tensor x = random({3, 16}, at::kBFloat16, false), weight = random({16}, at::kFloat, false);
  EXPECT_EQ(rms_norm(x, weight, {}).scalar_type(), at::kFloat);
  EXPECT_EQ(rms_norm(x, weight, {.unit_offset = true}).scalar_type(), at::kBFloat16);
  EXPECT_EQ(rms_norm(x.to(at::kFloat), weight.to(at::kBFloat16), {}).scalar_type(), at::kFloat);
}

template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Kernels, WrongShapesAreNamed) {
  using ::testing::HasSubstr;
  const Tensor x = at::randn({2, 3, 4, 8}), angle = at::randn({3, 4});
  EXPECT_THAT(error_of([&] { rms_norm(x, at::randn({7}), {}); }),
              HasSubstr("rms_norm: expected x [*, hidden] and weight [hidden], got [2, 3, 4, 8] and [7]"));
  EXPECT_THAT(error_of([&] { add_rms_norm(x, at::randn({2, 3, 4, 1}), at::randn({8}), {}); }), HasSubstr("residual"));
  EXPECT_THAT(error_of([&] { swiglu(x, at::randn({2})); }), HasSubstr("swiglu"));
  EXPECT_THAT(error_of([&] { geglu(x, x.to(at::kDouble)); }), HasSubstr("one floating-point dtype"));
  EXPECT_THAT(error_of([&] { apply_rotary(x, x, at::randn({3, 5}), at::randn({3, 5})); }), HasSubstr("cos and sin"));
  EXPECT_THAT(error_of([&] { apply_rotary(x, at::randn({2, 3, 4, 6}), angle, angle); }), HasSubstr("kv_heads"));
}

}  // namespace
}  // namespace oumi::kernels
