// Reads and replaces the state of any optimizer whose state is known, ours and LibTorch's alike. For optimizer_state.cpp
// and torch_state.cpp.
#pragma once

#include <torch/optim/optimizer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// What an optimizer remembers of one parameter. Slots are handles.
struct ParameterState {
  std::int64_t step = 0;
  TensorDict slots;
};

// All that a load changes.
struct LoadPlan {
  struct Group {
    double learning_rate = 0.0;
    double weight_decay = 0.0;
  };
  Json hyperparameters;
  std::vector<Group> groups;
  std::vector<std::optional<ParameterState>> parameters;  // in the order of StateAccess::parameters
};

// What differs from optimizer to optimizer.
class StateAdapter {
 public:
  virtual ~StateAdapter() = default;
  virtual std::string kind() const = 0;
  virtual bool counts_steps() const = 0;
  virtual Json hyperparameters() const = 0;
  // Throws UserError and leaves all as it was when a value is missing or bad.
  virtual void load_hyperparameters(const Json& values) = 0;
  virtual double weight_decay(std::size_t group) const = 0;
  virtual void set_weight_decay(std::size_t group, double value) = 0;
  virtual std::optional<ParameterState> read(const Tensor& parameter) const = 0;
  // A fresh state as the current hyperparameters ask for; the tensors are the new state's own until install().
  virtual TensorDict make_slots(const Tensor& parameter) const = 0;
  virtual void install(const Tensor& parameter, ParameterState state) = 0;
};

class StateAccess {
 public:
  // Throws UserError for an optimizer whose state is not known.
  explicit StateAccess(torch::optim::Optimizer& optimizer);

  std::string kind() const { return adapter_->kind(); }
  bool counts_steps() const { return adapter_->counts_steps(); }
  Json hyperparameters() const { return adapter_->hyperparameters(); }
  double weight_decay(std::size_t group) const { return adapter_->weight_decay(group); }
  const std::vector<Tensor>& parameters() const noexcept { return parameters_; }
  std::optional<ParameterState> read(const Tensor& parameter) const { return adapter_->read(parameter); }

  // Checks every tensor, then replaces the whole state. Throws UserError naming "<name>.<slot>" and leaves all as it was.
  void load(const LoadPlan& plan, const std::vector<std::string>& names);

 private:
  void check_slots(const Tensor& parameter, const ParameterState& state, const std::string& name) const;

  torch::optim::Optimizer& optimizer_;
  std::unique_ptr<StateAdapter> adapter_;
  std::vector<Tensor> parameters_;
};

// LibTorch's own optimizers; nullptr for any other.
std::unique_ptr<StateAdapter> make_libtorch_adapter(torch::optim::Optimizer& optimizer);

}  // namespace oumi
