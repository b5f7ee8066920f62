// Adam, AdamW, SGD and Adagrad on LibTorch's fused kernels.
#pragma once

#include "oumi/optim/optimizer_base.h"

namespace oumi {

struct AdamSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  bool amsgrad = false;
  bool decoupled_weight_decay = true;  // AdamW; false is Adam, which adds the decay to the gradient
  bool fused = true;                   // false: tensor by tensor, rounded as PyTorch's default implementation on the CPU
};

// Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101. Slots: exp_avg, exp_avg_sq and, with
// amsgrad, max_exp_avg_sq, in the parameter's dtype. The fused kernel rounds unlike the other form, in the last bit.
class Adam final : public OptimizerBase {
 public:
  Adam(const std::vector<ParameterGroup>& groups, double learning_rate, AdamSettings settings);
  std::string kind() const override { return settings_.decoupled_weight_decay ? "adamw" : "adam"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  void update_one(const GroupOptions& group, const Item& item) const;

  AdamSettings settings_;
};

struct SgdSettings {
  double momentum = 0.0;
  double dampening = 0.0;
  bool nesterov = false;
};

// Slot: momentum_buffer, when there is momentum; it starts as the first gradient, as in PyTorch.
class Sgd final : public OptimizerBase {
 public:
  Sgd(const std::vector<ParameterGroup>& groups, double learning_rate, SgdSettings settings);
  std::string kind() const override { return "sgd"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  bool counts_steps() const override { return false; }
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  SgdSettings settings_;
};

struct AdagradSettings {
  double lr_decay = 0.0;
  double eps = 1e-10;
  double initial_accumulator_value = 0.0;
};

// Duchi et al. 2011. Slot: sum, which exists from the start.
class Adagrad final : public OptimizerBase {
 public:
  Adagrad(const std::vector<ParameterGroup>& groups, double learning_rate, AdagradSettings settings);
  std::string kind() const override { return "adagrad"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  AdagradSettings settings_;
};

}  // namespace oumi
