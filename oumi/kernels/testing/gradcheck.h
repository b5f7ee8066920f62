// What tests of differentiable operations share: closeness with the worst element named, the tolerance table, and gradients by
// central differences.
#pragma once

#include <ATen/ops/abs.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::testing {

// |actual - expected| <= absolute + relative * |expected|, element by element.
struct Tolerance {
  double relative, absolute;
};

// The table of docs/numerics.md, for one operation against a float64 reference.
inline Tolerance tolerance(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return {1e-9, 1e-12};
    case at::kFloat: return {1e-5, 2e-6};
    default: return {1.6e-2, 4e-3};
  }
}

// Fails the test and names the worst element with both values, unless every element is within the tolerance.
inline void expect_close(const Tensor& actual, const Tensor& expected, Tolerance tolerance, const std::string& what = "") {
  ASSERT_TRUE(actual.defined()) << what << ": undefined";
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  if (actual.numel() == 0) return;
  const Tensor a = actual.detach().to(at::kDouble).contiguous().view({-1}),
               b = expected.detach().to(at::kDouble).contiguous().view({-1});
  const Tensor excess = (a - b).abs() - (tolerance.absolute + tolerance.relative * b.abs());
  const Tensor bad = excess.gt(0).logical_or(a.isfinite().logical_not());
  if (!bad.any().item<bool>()) return;
  const auto worst = excess.nan_to_num(1e300).argmax().item<std::int64_t>();
  ADD_FAILURE() << what << ": element " << worst << " of shape " << actual.sizes() << ": got " << a[worst].item<double>()
                << ", expected " << b[worst].item<double>() << " within " << tolerance.relative << " relative and "
                << tolerance.absolute << " absolute; " << bad.sum().item<std::int64_t>() << " of " << a.numel()
                << " elements are off";
}

using TensorFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// Compares the gradients of a random projection of `function`'s outputs with central differences, for every element of each
// float64 input that requires a gradient. The step's error is of order step^2, rounding's of 1e-16 / step.
inline void gradcheck(const TensorFunction& function, const std::vector<Tensor>& inputs, Tolerance tolerance = {1e-5, 1e-7},
                      double step = 1e-5) {
  std::vector<Tensor> weights;
  const auto loss_of = [&](const std::vector<Tensor>& arguments) {
    const std::vector<Tensor> outputs = function(arguments);
    Tensor loss;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (weights.size() <= i) weights.push_back(at::randn_like(outputs[i].detach()));
      const Tensor part = (outputs[i] * weights[i]).sum();
      loss = loss.defined() ? loss + part : part;
    }
    return loss;
  };
  std::vector<Tensor> leaves, wanted;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach().clone().set_requires_grad(input.requires_grad()) : Tensor());
    if (input.defined() && input.requires_grad()) wanted.push_back(leaves.back());
  }
  const auto gradients = torch::autograd::grad({loss_of(leaves)}, wanted, {}, std::nullopt, false, /*allow_unused=*/true);
  const c10::AutoGradMode no_grad(false);
  for (std::size_t w = 0; w < wanted.size(); ++w) {
    ASSERT_EQ(wanted[w].scalar_type(), at::kDouble);
    ASSERT_TRUE(gradients[w].defined()) << "input " << w << " got no gradient";
    Tensor numeric = at::zeros_like(wanted[w]).contiguous();
    Tensor values = wanted[w].is_contiguous() ? wanted[w].view({-1}) : Tensor();
    ASSERT_TRUE(values.defined()) << "gradcheck takes contiguous inputs";
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      const double at = values[i].item<double>();
      values[i] = at + step;
      const double above = loss_of(leaves).item<double>();
      values[i] = at - step;
      const double below = loss_of(leaves).item<double>();
      values[i] = at;
      numeric.view({-1})[i] = (above - below) / (2 * step);
    }
    expect_close(gradients[w], numeric, tolerance, "gradient of input " + std::to_string(w));
  }
}

// Gradients of a random but repeatable projection of the outputs with respect to the inputs that require one.
inline std::vector<Tensor> projected_gradients(const std::vector<Tensor>& outputs, const std::vector<Tensor>& projections,
                                               const std::vector<Tensor>& inputs) {
  Tensor loss;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor part = (outputs[i].to(at::kDouble) * projections[i].to(at::kDouble)).sum();
    loss = loss.defined() ? loss + part : part;
  }
  return torch::autograd::grad({loss}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
}

}  // namespace oumi::testing
