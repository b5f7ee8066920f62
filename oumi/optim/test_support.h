// Shared by the tests of this folder.
#pragma once

#include <ATen/ops/empty_strided.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/optim/optimizer.h"

namespace oumi::testing {

inline Json golden(const std::string& name) {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return read_json_file(cat(source == nullptr ? "." : source, "/tests/golden/optim_", name, ".json"));
}

// What a UserError thrown by `action` says: "[component] message (hint)".
inline std::string user_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return cat("[", error.component(), "] ", error.message(), " (", error.hint(), ")");
  }
  return "no UserError";
}

inline at::ScalarType dtype_named(const std::string& name) {
  if (name == "float64") return at::kDouble;
  if (name == "bfloat16") return at::kBFloat16;
  EXPECT_EQ(name, "float32");
  return at::kFloat;
}

inline Tensor tensor_of(const Json& values, const std::vector<std::int64_t>& shape, at::ScalarType dtype, double scale = 1.0) {
  std::vector<double> numbers;
  for (const Json& value : values) numbers.push_back(value.get<double>() * scale);
  return at::tensor(numbers, at::kDouble).reshape(shape).to(dtype);
}

// Memory layouts that a parameter or gradient can have.
enum class Layout { kContiguous, kTransposed, kGaps };

inline Tensor laid_out(const Tensor& values, Layout layout) {
  if (layout == Layout::kContiguous || values.dim() == 0) return values.clone();
  std::vector<std::int64_t> strides(static_cast<std::size_t>(values.dim()));
  std::int64_t stride = layout == Layout::kGaps ? 3 : 1;  // kGaps: every third element, last dimension outermost
  for (std::size_t dim = 0; dim < strides.size(); ++dim) {
    strides[dim] = stride;
    stride *= std::max<std::int64_t>(1, values.size(static_cast<std::int64_t>(dim)));
  }
  return at::empty_strided(values.sizes(), strides, values.options()).copy_(values);
}

inline std::vector<double> numbers_of(const Tensor& tensor) {
  const Tensor flat = tensor.detach().to(at::kDouble).contiguous().view(-1);
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// |actual - expected| <= tolerance * max(1, |expected|), or the worst element in the message.
inline void expect_close(const Tensor& actual, const Json& expected, double tolerance, const std::string& what) {
  const std::vector<double> values = numbers_of(actual);
  ASSERT_EQ(values.size(), expected.size()) << what;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto wanted = expected[i].get<double>();
    ASSERT_NEAR(values[i], wanted, tolerance * std::max(1.0, std::abs(wanted))) << what << " element " << i;
  }
}

// A run of optim_steps.json: parameters p0 ... p6 with its gradients and learning rates.
struct TrainingRun {
  explicit TrainingRun(const Json& golden_steps, const Json& golden_case, Layout layout = Layout::kContiguous,
                       Layout gradient_layout = Layout::kContiguous)
      : golden(golden_steps), info(golden_case), gradients_as(gradient_layout), dtype(dtype_named(info.at("dtype"))) {
    for (std::size_t i = 0; i < golden.at("shapes").size(); ++i) {
      const Tensor values = tensor_of(golden.at("start")[i], shape(i), dtype, 1.0 / 64);
      parameters.push_back(laid_out(values, layout).requires_grad_(true));
    }
    for (const Json& entry : golden.at("groups")) {
      ParameterGroup& group = groups.emplace_back();
      group.weight_decay = entry[1].get<double>();
      group.learning_rate = info.at("rate").get<double>() * entry[2].get<double>();
      for (const Json& index : entry[0]) {
        const auto i = index.get<std::size_t>();
        group.parameters.emplace_back(cat("p", i), parameters[i]);
      }
    }
  }

  OptimizerOptions options() const {
    OptimizerOptions options;
    options.name = info.at("name");
    options.optim_args = info.at("arguments");
    options.learning_rate = info.at("rate");
    return options;
  }

  std::unique_ptr<torch::optim::Optimizer> make() const { return make_optimizer(options(), groups); }

  void set_values(const Json& values) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].copy_(tensor_of(values[i], shape(i), dtype));
  }

  void train(torch::optim::Optimizer& optimizer, int begin, int end) {
    for (int step = begin; step < end; ++step) {
      for (std::size_t group = 0; group < groups.size(); ++group) {
        const double factor = golden.at("groups")[group][2].get<double>();
        optimizer.param_groups()[group].options().set_lr(info.at("rate").get<double>() * factor * (1 - step / 40.0));
      }
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const bool none = golden.at("never") == i || (golden.at("sometimes") == i && step % 3 == 1);
        const Json& values = golden.at("gradients")[static_cast<std::size_t>(step)][i];
        parameters[i].mutable_grad() = none ? Tensor() : laid_out(tensor_of(values, shape(i), dtype, 1.0 / 64), gradients_as);
      }
      optimizer.step();
    }
  }

  std::vector<std::int64_t> shape(std::size_t i) const { return golden.at("shapes")[i].get<std::vector<std::int64_t>>(); }

  const Json& golden;
  const Json& info;
  Layout gradients_as;
  at::ScalarType dtype;
  std::vector<Tensor> parameters;
  std::vector<ParameterGroup> groups;
};

inline const Json& golden_steps() {
  static const Json steps = golden("steps");
  return steps;
}

inline const Json& case_named(const std::string& label) {
  for (const Json& entry : golden_steps().at("cases")) {
    if (entry.at("label") == label && entry.at("dtype") == "float32") return entry;
  }
  throw InternalError("no such case: " + label);
}

}  // namespace oumi::testing
