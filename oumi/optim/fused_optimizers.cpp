#include "oumi/optim/fused_optimizers.h"

#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <map>
#include <tuple>

#include "oumi/optim/settings_reader.h"

namespace oumi {
namespace {

// True when element i in memory is the same element in both; strides of dimensions of size 1 do not matter.
bool same_layout(const Tensor& a, const Tensor& b) {
  for (std::int64_t dim = 0; dim < a.dim(); ++dim) {
    if (a.size(dim) > 1 && a.stride(dim) != b.stride(dim)) return false;
  }
  return true;
}

Tensor laid_out_like(const Tensor& model, const Tensor& tensor) {
  return same_layout(model, tensor) && tensor.is_non_overlapping_and_dense() ? tensor : at::empty_like(model).copy_(tensor);
}

// Lists that a fused kernel can take: of one device and dtype, every tensor of a row without gaps and in one layout. The
// kernels walk raw memory and check none of it.
struct FusedLists {
  std::vector<Tensor> parameters, gradients, steps;
  std::vector<std::vector<Tensor>> slots;         // by slot, then by parameter
  std::vector<std::pair<Tensor, Tensor>> packed;  // (parameter with gaps, its packed copy)

  void unpack() {
    for (auto& [parameter, copy] : packed) parameter.copy_(copy);
  }
};

using FusedKey = std::tuple<c10::DeviceType, c10::DeviceIndex, at::ScalarType, bool>;

// `split_first`: splits off the parameters whose first update this is, for kernels that treat it apart.
template <class Item>  // OptimizerBase::Item, which only optimizers see
std::map<FusedKey, FusedLists> fused_lists(const std::vector<Item>& items, const std::vector<std::string>& slot_names,
                                           bool split_first) {
  std::map<FusedKey, FusedLists> lists;
  std::map<std::tuple<c10::DeviceType, c10::DeviceIndex, std::int64_t>, Tensor> step_tensors;  // most parameters share one
  for (const Item& item : items) {
    if (item.parameter.numel() == 0) continue;
    if (item.gradient.scalar_type() != item.parameter.scalar_type()) {
      throw UserError("training.optimizer", cat("gradient dtype: expected the parameter's ", item.parameter.scalar_type(),
                                                ", got ", item.gradient.scalar_type()));
    }
    const c10::Device device = item.parameter.device();
    FusedLists& list =
        lists[{device.type(), device.index(), item.parameter.scalar_type(), split_first && item.state->step == 1}];
    Tensor parameter = item.parameter;
    if (!parameter.is_non_overlapping_and_dense()) {
      parameter = at::empty_like(item.parameter).copy_(item.parameter);
      list.packed.emplace_back(item.parameter, parameter);
    }
    list.parameters.push_back(parameter);
    list.gradients.push_back(laid_out_like(parameter, item.gradient));
    list.slots.resize(slot_names.size());
    for (std::size_t slot = 0; slot < slot_names.size(); ++slot) {
      Tensor& state = item.state->slots.at(slot_names[slot]);
      state = laid_out_like(parameter, state);
      list.slots[slot].push_back(state);
    }
    Tensor& step = step_tensors[{device.type(), device.index(), item.state->step}];
    if (!step.defined()) {
      step = at::full({}, static_cast<double>(item.state->step), at::TensorOptions().dtype(at::kFloat).device(device));
    }
    list.steps.push_back(step);
  }
  return lists;
}

}  // namespace

Adam::Adam(const std::vector<ParameterGroup>& groups, double learning_rate, AdamSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {}

Json Adam::hyperparameters() const {
  return {{"betas", {settings_.beta1, settings_.beta2}}, {"eps", settings_.eps}, {"amsgrad", settings_.amsgrad}};
}

void Adam::load_hyperparameters(const Json& values) {
  AdamSettings loaded = settings_;
  read_betas(values, loaded.beta1, loaded.beta2);
  loaded.eps = setting<double>(values, "eps");
  loaded.amsgrad = setting<bool>(values, "amsgrad");
  settings_ = loaded;
}

TensorDict Adam::make_slots(const Tensor& parameter) const {
  TensorDict slots{{"exp_avg", at::zeros_like(parameter)}, {"exp_avg_sq", at::zeros_like(parameter)}};
  if (settings_.amsgrad) slots.set("max_exp_avg_sq", at::zeros_like(parameter));
  return slots;
}

// The operations and their order are those of torch.optim's single-tensor Adam.
void Adam::update_one(const GroupOptions& group, const Item& item) const {
  Tensor parameter = item.parameter, gradient = item.gradient;
  TensorDict& slots = item.state->slots;
  if (group.weight_decay() != 0) {
    if (settings_.decoupled_weight_decay) {
      parameter.mul_(1 - group.get_lr() * group.weight_decay());
    } else {
      gradient = gradient.add(parameter, group.weight_decay());
    }
  }
  Tensor &exp_avg = slots.at("exp_avg"), &exp_avg_sq = slots.at("exp_avg_sq");
  exp_avg.lerp_(gradient, 1 - settings_.beta1);
  exp_avg_sq.mul_(settings_.beta2).addcmul_(gradient, gradient, 1 - settings_.beta2);
  const auto step = static_cast<double>(item.state->step);
  const double step_size = group.get_lr() / (1 - std::pow(settings_.beta1, step));
  const double correction = std::sqrt(1 - std::pow(settings_.beta2, step));
  Tensor second = exp_avg_sq;
  if (settings_.amsgrad) {
    Tensor& largest = slots.at("max_exp_avg_sq");
    at::maximum_out(largest, largest, exp_avg_sq);
    second = largest;
  }
  parameter.addcdiv_(exp_avg, (second.sqrt() / correction).add_(settings_.eps), -step_size);
}

void Adam::update(const GroupOptions& group, const std::vector<Item>& items) {
  if (!settings_.fused) {
    for (const Item& item : items) {
      if (item.parameter.numel() > 0) update_one(group, item);
    }
    return;
  }
  std::vector<std::string> names = {"exp_avg", "exp_avg_sq"};
  if (settings_.amsgrad) names.push_back("max_exp_avg_sq");
  for (auto& [key, list] : fused_lists(items, names, /*split_first=*/false)) {
    const std::vector<Tensor> maxima = settings_.amsgrad ? list.slots[2] : std::vector<Tensor>();
    const auto run = [&, &list = list](auto kernel) {
      kernel(list.parameters, list.gradients, list.slots[0], list.slots[1], maxima, list.steps, group.get_lr(), settings_.beta1,
             settings_.beta2, group.weight_decay(), settings_.eps, settings_.amsgrad);
    };
    if (settings_.decoupled_weight_decay) {
      run([](const auto&... arguments) { at::_fused_adamw_(arguments..., /*maximize=*/false); });
    } else {
      run([](const auto&... arguments) { at::_fused_adam_(arguments..., /*maximize=*/false); });
    }
    list.unpack();
  }
}

Sgd::Sgd(const std::vector<ParameterGroup>& groups, double learning_rate, SgdSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {}

Json Sgd::hyperparameters() const {
  return {{"momentum", settings_.momentum}, {"dampening", settings_.dampening}, {"nesterov", settings_.nesterov}};
}

void Sgd::load_hyperparameters(const Json& values) {
  settings_ = {setting<double>(values, "momentum"), setting<double>(values, "dampening"), setting<bool>(values, "nesterov")};
}

TensorDict Sgd::make_slots(const Tensor& parameter) const {
  TensorDict slots;
  if (settings_.momentum != 0) slots.set("momentum_buffer", at::zeros_like(parameter));
  return slots;
}

void Sgd::update(const GroupOptions& group, const std::vector<Item>& items) {
  std::vector<std::string> names;
  if (settings_.momentum != 0) names.push_back("momentum_buffer");
  for (auto& [key, list] : fused_lists(items, names, /*split_first=*/settings_.momentum != 0)) {
    const std::vector<Tensor> buffers = names.empty() ? std::vector<Tensor>() : list.slots[0];
    at::_fused_sgd_(list.parameters, list.gradients, buffers, group.weight_decay(), settings_.momentum, group.get_lr(),
                    settings_.dampening, settings_.nesterov, /*maximize=*/false, /*is_first_step=*/std::get<3>(key));
    list.unpack();
  }
}

Adagrad::Adagrad(const std::vector<ParameterGroup>& groups, double learning_rate, AdagradSettings settings)
    : OptimizerBase(groups, learning_rate), settings_(settings) {
  for (const ParameterGroup& group : groups) {
    for (const auto& [name, parameter] : group.parameters) state_of(parameter);
  }
}

Json Adagrad::hyperparameters() const {
  return {{"lr_decay", settings_.lr_decay},
          {"eps", settings_.eps},
          {"initial_accumulator_value", settings_.initial_accumulator_value}};
}

void Adagrad::load_hyperparameters(const Json& values) {
  settings_ = {setting<double>(values, "lr_decay"), setting<double>(values, "eps"),
               setting<double>(values, "initial_accumulator_value")};
}

TensorDict Adagrad::make_slots(const Tensor& parameter) const {
  return {{"sum", at::full_like(parameter, settings_.initial_accumulator_value)}};
}

void Adagrad::update(const GroupOptions& group, const std::vector<Item>& items) {
  for (auto& [key, list] : fused_lists(items, {"sum"}, /*split_first=*/false)) {
    at::_fused_adagrad_(list.parameters, list.gradients, list.slots[0], list.steps, group.get_lr(), settings_.lr_decay,
                        group.weight_decay(), settings_.eps, /*maximize=*/false);
    list.unpack();
  }
}

}  // namespace oumi
