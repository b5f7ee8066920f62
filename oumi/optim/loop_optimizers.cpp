#include "oumi/optim/loop_optimizers.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "oumi/optim/settings_reader.h"

namespace oumi {
namespace {

bool is_half(const Tensor& tensor) { return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16; }

Tensor widened(const Tensor& tensor) { return is_half(tensor) ? tensor.to(at::kFloat) : tensor; }

Tensor root_mean_square(const Tensor& tensor) { return tensor.norm(2) / std::sqrt(static_cast<double>(tensor.numel())); }

}  // namespace

Rmsprop::Rmsprop(const std::vector<ParameterGroup>& groups, double learning_rate, RmspropSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {}

Json Rmsprop::hyperparameters() const {
  return {
      {"alpha", settings_.alpha}, {"eps", settings_.eps}, {"momentum", settings_.momentum}, {"centered", settings_.centered}};
}

void Rmsprop::load_hyperparameters(const Json& values) {
  settings_ = {setting<double>(values, "alpha"), setting<double>(values, "eps"), setting<double>(values, "momentum"),
               setting<bool>(values, "centered")};
}

TensorDict Rmsprop::make_slots(const Tensor& parameter) const {
  TensorDict slots{{"square_avg", at::zeros_like(parameter)}};
  if (settings_.momentum > 0) slots.set("momentum_buffer", at::zeros_like(parameter));
  if (settings_.centered) slots.set("grad_avg", at::zeros_like(parameter));
  return slots;
}

void Rmsprop::update(const GroupOptions& group, const std::vector<Item>& items) {
  for (const Item& item : items) {
    Tensor parameter = item.parameter;
    Tensor gradient = item.gradient;
    if (group.weight_decay() != 0) gradient = gradient.add(parameter, group.weight_decay());
    Tensor& square_avg = item.state->slots.at("square_avg");
    square_avg.mul_(settings_.alpha).addcmul_(gradient, gradient, 1 - settings_.alpha);
    Tensor average;
    if (settings_.centered) {
      Tensor& grad_avg = item.state->slots.at("grad_avg");
      grad_avg.lerp_(gradient, 1 - settings_.alpha);
      average = square_avg.addcmul(grad_avg, grad_avg, -1).sqrt_().add_(settings_.eps);
    } else {
      average = square_avg.sqrt().add_(settings_.eps);
    }
    if (settings_.momentum > 0) {
      Tensor& buffer = item.state->slots.at("momentum_buffer");
      buffer.mul_(settings_.momentum).addcdiv_(gradient, average);
      parameter.add_(buffer, -group.get_lr());
    } else {
      parameter.addcdiv_(gradient, average, -group.get_lr());
    }
  }
}

Adafactor::Adafactor(const std::vector<ParameterGroup>& groups, double learning_rate, AdafactorSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {}

Json Adafactor::hyperparameters() const {
  return {{"eps", {settings_.eps1, settings_.eps2}},      {"clip_threshold", settings_.clip_threshold},
          {"decay_rate", settings_.decay_rate},           {"beta1", settings_.beta1 ? Json(*settings_.beta1) : Json()},
          {"scale_parameter", settings_.scale_parameter}, {"relative_step", settings_.relative_step},
          {"warmup_init", settings_.warmup_init}};
}

void Adafactor::load_hyperparameters(const Json& values) {
  AdafactorSettings loaded;
  const auto eps = values.find("eps");
  if (eps == values.end() || !eps->is_array() || eps->size() != 2 || !(*eps)[0].is_number() || !(*eps)[1].is_number()) {
    throw UserError("optimizer state",
                    cat("setting 'eps': expected two numbers, got ", eps == values.end() ? "none" : eps->dump()));
  }
  loaded.eps1 = (*eps)[0].get<double>();
  loaded.eps2 = (*eps)[1].get<double>();
  loaded.clip_threshold = setting<double>(values, "clip_threshold");
  loaded.decay_rate = setting<double>(values, "decay_rate");
  if (const auto beta1 = values.find("beta1"); beta1 != values.end() && !beta1->is_null()) {
    loaded.beta1 = setting<double>(values, "beta1");
  }
  loaded.scale_parameter = setting<bool>(values, "scale_parameter");
  loaded.relative_step = setting<bool>(values, "relative_step");
  loaded.warmup_init = setting<bool>(values, "warmup_init");
  settings_ = loaded;
}

TensorDict Adafactor::make_slots(const Tensor& parameter) const {
  const auto options =
      parameter.options().dtype(is_half(parameter) ? at::kFloat : parameter.scalar_type()).requires_grad(false);
  TensorDict slots;
  if (settings_.beta1) slots.set("exp_avg", at::zeros_like(parameter, options));
  if (parameter.dim() >= 2) {
    std::vector<std::int64_t> rows = parameter.sizes().vec();
    std::vector<std::int64_t> columns = rows;
    rows.pop_back();
    columns.erase(columns.end() - 2);
    slots.set("exp_avg_sq_row", at::zeros(rows, options));
    slots.set("exp_avg_sq_col", at::zeros(columns, options));
  } else {
    slots.set("exp_avg_sq", at::zeros_like(parameter, options));
  }
  return slots;
}

void Adafactor::update(const GroupOptions& group, const std::vector<Item>& items) {
  for (const Item& item : items) {
    if (item.parameter.numel() > 0) update_one(group, item);
  }
}

double Adafactor::learning_rate(const GroupOptions& group, const Item& item, const Tensor& parameter) const {
  double rate = group.get_lr();
  if (settings_.relative_step) {
    const auto step = static_cast<double>(item.state->step);
    rate = std::min(settings_.warmup_init ? 1e-6 * step : 1e-2, 1.0 / std::sqrt(step));
  }
  return settings_.scale_parameter ? std::max(settings_.eps2, root_mean_square(parameter).item<double>()) * rate : rate;
}

void Adafactor::update_one(const GroupOptions& group, const Item& item) const {
  const Tensor gradient = widened(item.gradient);
  Tensor parameter = widened(item.parameter);
  const double rate = learning_rate(group, item, parameter);
  const double beta2 = 1.0 - std::pow(static_cast<double>(item.state->step), settings_.decay_rate);

  Tensor update = gradient.pow(2).add_(settings_.eps1);
  if (gradient.dim() >= 2) {
    Tensor& row = item.state->slots.at("exp_avg_sq_row");
    Tensor& column = item.state->slots.at("exp_avg_sq_col");
    row.mul_(beta2).add_(update.mean(-1), 1.0 - beta2);
    column.mul_(beta2).add_(update.mean(-2), 1.0 - beta2);
    // The rank-one estimate of the second moment, inverted and rooted.
    const Tensor row_factor = (row / row.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
    const Tensor column_factor = column.unsqueeze(-2).rsqrt();
    update = row_factor.mul(column_factor).mul_(gradient);
  } else {
    Tensor& square = item.state->slots.at("exp_avg_sq");
    square.mul_(beta2).add_(update, 1.0 - beta2);
    update = square.rsqrt().mul_(gradient);
  }
  update.div_((root_mean_square(update) / settings_.clip_threshold).clamp_min_(1.0));
  update.mul_(rate);
  if (settings_.beta1) {
    Tensor& exp_avg = item.state->slots.at("exp_avg");
    exp_avg.mul_(*settings_.beta1).add_(update, 1 - *settings_.beta1);
    update = exp_avg;
  }
  if (group.weight_decay() != 0) parameter.add_(parameter, -group.weight_decay() * rate);
  parameter.sub_(update);
  if (is_half(item.parameter)) Tensor(item.parameter).copy_(parameter);
}

Lion::Lion(const std::vector<ParameterGroup>& groups, double learning_rate, LionSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {}

Json Lion::hyperparameters() const { return {{"betas", {settings_.beta1, settings_.beta2}}}; }

void Lion::load_hyperparameters(const Json& values) { read_betas(values, settings_.beta1, settings_.beta2); }

TensorDict Lion::make_slots(const Tensor& parameter) const { return {{"exp_avg", at::zeros_like(parameter)}}; }

void Lion::update(const GroupOptions& group, const std::vector<Item>& items) {
  for (const Item& item : items) {
    Tensor parameter = item.parameter;
    Tensor& exp_avg = item.state->slots.at("exp_avg");
    if (group.weight_decay() != 0) parameter.mul_(1 - group.get_lr() * group.weight_decay());
    parameter.add_(exp_avg.lerp(item.gradient, 1 - settings_.beta1).sign_(), -group.get_lr());
    exp_avg.lerp_(item.gradient, 1 - settings_.beta2);
  }
}

}  // namespace oumi
