// What our optimizers share: per-group settings, per-parameter state in named slots, and the walk over parameters.
#pragma once

#include <torch/optim/optimizer.h>

#include <cstdint>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {

// Settings of one parameter group; all others belong to the whole optimizer.
class GroupOptions final : public torch::optim::OptimizerCloneableOptions<GroupOptions> {
 public:
  GroupOptions(double learning_rate, double weight_decay) : learning_rate_(learning_rate), weight_decay_(weight_decay) {}
  double get_lr() const override { return learning_rate_; }
  void set_lr(const double value) override { learning_rate_ = value; }
  double weight_decay() const noexcept { return weight_decay_; }
  void set_weight_decay(double value) { weight_decay_ = value; }

 private:
  double learning_rate_;
  double weight_decay_;
};

// State of one parameter. Slots have PyTorch's names ("exp_avg", ...).
class SlotState final : public torch::optim::OptimizerCloneableParamState<SlotState> {
 public:
  std::int64_t step = 0;
  TensorDict slots;
};

class OptimizerBase : public torch::optim::Optimizer {
 public:
  OptimizerBase(const std::vector<ParameterGroup>& groups, double learning_rate);

  // Runs `closure`, when there is one, with gradients enabled and returns its result. Parameters without a gradient are
  // skipped: neither their value nor their step count changes. Throws UserError for sparse gradients.
  Tensor step(LossClosure closure = nullptr) override;

  // The algorithm's name ("adamw") and settings that hold for all groups, by PyTorch's names.
  virtual std::string kind() const = 0;
  virtual Json hyperparameters() const = 0;
  // Takes what hyperparameters() gave. Throws UserError naming a key that is missing or has a bad value.
  virtual void load_hyperparameters(const Json& values) = 0;
  // Whether PyTorch keeps a step count for this algorithm (SGD has none).
  virtual bool counts_steps() const { return true; }
  // The slots that a parameter's state has once it exists, zeroed: empty when the algorithm keeps none.
  virtual TensorDict make_slots(const Tensor& parameter) const = 0;

  // The state of `parameter`, or nullptr while it has none.
  const SlotState* find_state(const Tensor& parameter) const;
  // The state of `parameter`, created when absent.
  SlotState& state_of(const Tensor& parameter);

  // LibTorch's archives are not written: optimizer_state.h is the way. Throw UserError.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 protected:
  struct Item {
    Tensor parameter;
    Tensor gradient;
    SlotState* state;  // its step already counts this update
  };
  // Updates the parameters of one group; runs without gradients being recorded.
  virtual void update(const GroupOptions& group, const std::vector<Item>& items) = 0;
};

}  // namespace oumi
