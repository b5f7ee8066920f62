#include "oumi/optim/optimizer_base.h"

#include <ATen/core/grad_mode.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

std::vector<torch::optim::OptimizerParamGroup> torch_groups(const std::vector<ParameterGroup>& groups, double learning_rate) {
  std::vector<torch::optim::OptimizerParamGroup> result;
  for (const ParameterGroup& group : groups) {
    std::vector<Tensor> parameters;
    for (const auto& [name, parameter] : group.parameters) parameters.push_back(parameter);
    result.emplace_back(std::move(parameters),
                        std::make_unique<GroupOptions>(group.learning_rate.value_or(learning_rate), group.weight_decay));
  }
  return result;
}

}  // namespace

OptimizerBase::OptimizerBase(const std::vector<ParameterGroup>& groups, double learning_rate)
    : Optimizer(torch_groups(groups, learning_rate), std::make_unique<GroupOptions>(learning_rate, 0.0)) {}

Tensor OptimizerBase::step(LossClosure closure) {
  Tensor loss;
  if (closure) {
    const at::AutoGradMode enable_grad(true);
    loss = closure();
  }
  const at::NoGradGuard no_grad;
  for (auto& group : param_groups_) {
    std::vector<Item> items;
    for (const Tensor& parameter : group.params()) {
      const Tensor& gradient = parameter.grad();
      if (!gradient.defined()) continue;
      if (gradient.layout() != at::kStrided || parameter.is_complex()) {
        throw UserError("training.optimizer", cat(kind(), " needs dense real gradients: expected strided, got ",
                                                  parameter.is_complex() ? "complex" : "sparse"));
      }
      SlotState& state = state_of(parameter);
      ++state.step;
      items.push_back({parameter, gradient, &state});
    }
    if (!items.empty()) update(static_cast<const GroupOptions&>(group.options()), items);
  }
  return loss;
}

const SlotState* OptimizerBase::find_state(const Tensor& parameter) const {
  const auto found = state_.find(parameter.unsafeGetTensorImpl());
  return found == state_.end() ? nullptr : static_cast<const SlotState*>(found->second.get());
}

SlotState& OptimizerBase::state_of(const Tensor& parameter) {
  auto& state = state_[parameter.unsafeGetTensorImpl()];
  if (state == nullptr) {
    auto created = std::make_unique<SlotState>();
    created->slots = make_slots(parameter);
    state = std::move(created);
  }
  return static_cast<SlotState&>(*state);
}

void OptimizerBase::save(torch::serialize::OutputArchive&) const {
  throw UserError("training.optimizer", cat(kind(), " does not write LibTorch archives"), "use optimizer_state()");
}

void OptimizerBase::load(torch::serialize::InputArchive&) {
  throw UserError("training.optimizer", cat(kind(), " does not read LibTorch archives"), "use load_optimizer_state()");
}

}  // namespace oumi
