#include "oumi/optim/state_access.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/optim/optimizer_base.h"
#include "oumi/tensors/class_name.h"

namespace oumi {
namespace {

class OwnAdapter final : public StateAdapter {
 public:
  explicit OwnAdapter(OptimizerBase& optimizer) : optimizer_(optimizer) {}
  std::string kind() const override { return optimizer_.kind(); }
  bool counts_steps() const override { return optimizer_.counts_steps(); }
  Json hyperparameters() const override { return optimizer_.hyperparameters(); }
  void load_hyperparameters(const Json& values) override { optimizer_.load_hyperparameters(values); }
  double weight_decay(std::size_t group) const override { return options(group).weight_decay(); }
  void set_weight_decay(std::size_t group, double value) override { options(group).set_weight_decay(value); }
  TensorDict make_slots(const Tensor& parameter) const override { return optimizer_.make_slots(parameter); }

  std::optional<ParameterState> read(const Tensor& parameter) const override {
    const SlotState* state = optimizer_.find_state(parameter);
    if (state == nullptr) return std::nullopt;
    return ParameterState{state->step, state->slots};
  }

  void install(const Tensor& parameter, ParameterState state) override {
    auto installed = std::make_unique<SlotState>();
    installed->step = state.step;
    installed->slots = std::move(state.slots);
    optimizer_.state()[parameter.unsafeGetTensorImpl()] = std::move(installed);
  }

 private:
  GroupOptions& options(std::size_t group) const {
    return static_cast<GroupOptions&>(optimizer_.param_groups()[group].options());
  }

  OptimizerBase& optimizer_;
};

std::unique_ptr<StateAdapter> make_adapter(torch::optim::Optimizer& optimizer) {
  if (auto* own = dynamic_cast<OptimizerBase*>(&optimizer)) return std::make_unique<OwnAdapter>(*own);
  if (auto adapter = make_libtorch_adapter(optimizer)) return adapter;
  throw UserError("training.optimizer",
                  cat("saving and loading the state of ", class_name(typeid(optimizer)),
                      " is not supported: expected one of ours or "
                      "LibTorch's Adam, AdamW, SGD, Adagrad or RMSprop"),
                  "derive it from oumi::OptimizerBase, or train without saving the optimizer");
}

}  // namespace

StateAccess::StateAccess(torch::optim::Optimizer& optimizer) : optimizer_(optimizer), adapter_(make_adapter(optimizer)) {
  for (const auto& group : optimizer.param_groups()) {
    parameters_.insert(parameters_.end(), group.params().begin(), group.params().end());
  }
}

void StateAccess::check_slots(const Tensor& parameter, const ParameterState& state, const std::string& name) const {
  const TensorDict expected = adapter_->make_slots(parameter);
  for (const auto& [slot, model] : expected) {
    const std::string where = cat("optimizer state: ", name, ".", slot);
    const Tensor* saved = state.slots.find(slot);
    if (saved == nullptr) throw UserError(where, "expected a tensor, got none");
    if (saved->sizes() != model.sizes())
      throw UserError(where, cat("shape: expected ", model.sizes(), ", got ", saved->sizes()));
    if (saved->scalar_type() != model.scalar_type()) {
      throw UserError(where, cat("dtype: expected ", model.scalar_type(), ", got ", saved->scalar_type()));
    }
  }
  for (const auto& [slot, saved] : state.slots) {
    if (!expected.contains(slot))
      throw UserError(cat("optimizer state: ", name, ".", slot), "expected no such tensor, got one");
  }
}

void StateAccess::load(const LoadPlan& plan, const std::vector<std::string>& names) {
  const at::NoGradGuard no_grad;
  // The slots that a parameter has depend on the hyperparameters, so these go first, and back when a tensor does not fit.
  const Json before = adapter_->hyperparameters();
  adapter_->load_hyperparameters(plan.hyperparameters);
  try {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (plan.parameters[i]) check_slots(parameters_[i], *plan.parameters[i], names[i]);
    }
  } catch (...) {
    adapter_->load_hyperparameters(before);
    throw;
  }
  optimizer_.state().clear();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!plan.parameters[i]) continue;
    ParameterState state{plan.parameters[i]->step, adapter_->make_slots(parameters_[i])};
    for (auto& [slot, tensor] : state.slots) tensor.copy_(plan.parameters[i]->slots.at(slot));
    adapter_->install(parameters_[i], std::move(state));
  }
  for (std::size_t group = 0; group < plan.groups.size(); ++group) {
    optimizer_.param_groups()[group].options().set_lr(plan.groups[group].learning_rate);
    adapter_->set_weight_decay(group, plan.groups[group].weight_decay);
  }
}

}  // namespace oumi
