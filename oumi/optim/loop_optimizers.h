// RMSprop, Adafactor and Lion: tensor by tensor, for want of a fused kernel.
#pragma once

#include <optional>

#include "oumi/optim/optimizer_base.h"

namespace oumi {

struct RmspropSettings {
  double alpha = 0.99;
  double eps = 1e-8;
  double momentum = 0.0;
  bool centered = false;
};

// Slots: square_avg; momentum_buffer with momentum; grad_avg when centered.
class Rmsprop final : public OptimizerBase {
 public:
  Rmsprop(const std::vector<ParameterGroup>& groups, double learning_rate, RmspropSettings settings);
  std::string kind() const override { return "rmsprop"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  RmspropSettings settings_;
};

struct AdafactorSettings {
  double eps1 = 1e-30;  // added to the squared gradient
  double eps2 = 1e-3;   // smallest parameter scale
  double clip_threshold = 1.0;
  double decay_rate = -0.8;
  std::optional<double> beta1;   // first moment; absent: none
  bool scale_parameter = false;  // the defaults of Hugging Face's Trainer, not of its Adafactor class
  bool relative_step = false;
  bool warmup_init = false;
};

// Shazeer & Stern 2018, arXiv:1804.04235, as transformers.Adafactor. Slots: exp_avg_sq_row and exp_avg_sq_col for
// parameters of two dimensions and more, else exp_avg_sq; exp_avg with beta1. float32 for half-precision parameters.
class Adafactor final : public OptimizerBase {
 public:
  Adafactor(const std::vector<ParameterGroup>& groups, double learning_rate, AdafactorSettings settings);
  std::string kind() const override { return "adafactor"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  void update_one(const GroupOptions& group, const Item& item) const;
  double learning_rate(const GroupOptions& group, const Item& item, const Tensor& parameter) const;

  AdafactorSettings settings_;
};

struct LionSettings {
  double beta1 = 0.9;
  double beta2 = 0.99;
};

// Slot: exp_avg. parameter *= 1 - lr * decay; parameter -= lr * sign(beta1 * m + (1 - beta1) * g);
// m = beta2 * m + (1 - beta2) * g.
class Lion final : public OptimizerBase {
 public:
  Lion(const std::vector<ParameterGroup>& groups, double learning_rate, LionSettings settings);
  std::string kind() const override { return "lion"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  LionSettings settings_;
};

}  // namespace oumi
