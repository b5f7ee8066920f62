// Hugging Face's callback points. A callback sees the arguments, state and control of the run, and may ask for a log, an
// evaluation, a save or a stop through the control.
#pragma once

#include <memory>
#include <string>

#include "oumi/metrics/metric.h"
#include "oumi/trainer/step_plan.h"
#include "oumi/trainer/trainer_state.h"
#include "oumi/trainer/training_arguments.h"

namespace torch::optim {
class Optimizer;
}

namespace oumi {

class Model;

// What callbacks ask for; the trainer grants it and clears the flag.
struct TrainerControl {
  bool should_training_stop = false;
  bool should_epoch_stop = false;
  bool should_save = false;
  bool should_evaluate = false;
  bool should_log = false;
};

// Everything that a callback may look at. The model and optimizer may be changed with care.
struct CallbackContext {
  const TrainingArguments& args;
  const StepPlan& plan;
  TrainerState& state;
  TrainerControl& control;
  Model& model;
  torch::optim::Optimizer* optimizer;  // nullptr outside training
};

class TrainerCallback {
 public:
  virtual ~TrainerCallback() = default;

  virtual void on_init_end(CallbackContext&) {}
  virtual void on_train_begin(CallbackContext&) {}
  virtual void on_train_end(CallbackContext&) {}
  virtual void on_epoch_begin(CallbackContext&) {}
  virtual void on_epoch_end(CallbackContext&) {}
  virtual void on_step_begin(CallbackContext&) {}          // before an update's first micro-batch
  virtual void on_substep_end(CallbackContext&) {}         // after each micro-batch but the update's last
  virtual void on_pre_optimizer_step(CallbackContext&) {}  // gradients are clipped
  virtual void on_optimizer_step(CallbackContext&) {}      // weights are updated, gradients not yet cleared
  virtual void on_step_end(CallbackContext&) {}
  virtual void on_evaluate(CallbackContext&, const MetricValues&) {}
  virtual void on_predict(CallbackContext&, const MetricValues&) {}
  virtual void on_save(CallbackContext&, const std::string& /*directory*/) {}
  virtual void on_log(CallbackContext&, const MetricValues&) {}
  virtual void on_prediction_step(CallbackContext&) {}

  // A callback with a name and state is saved with the checkpoint (trainer_state.json, "stateful_callbacks").
  virtual std::string name() const { return ""; }
  virtual Json state_dict() const { return Json::object(); }
  virtual void load_state_dict(const Json&) {}
};

using CallbackPtr = std::shared_ptr<TrainerCallback>;

// Sets the control's flags by the arguments' strategies; always the first callback.
class DefaultFlowCallback : public TrainerCallback {
 public:
  void on_step_end(CallbackContext& context) override;
  void on_epoch_end(CallbackContext& context) override;
};

// Stops when the best model's metric has not improved by more than `threshold` in `patience` evaluations in a row.
class EarlyStoppingCallback : public TrainerCallback {
 public:
  EarlyStoppingCallback(std::int64_t patience, double threshold) : patience_(patience), threshold_(threshold) {}
  void on_evaluate(CallbackContext& context, const MetricValues& metrics) override;
  std::string name() const override { return "EarlyStoppingCallback"; }
  Json state_dict() const override;
  void load_state_dict(const Json& state) override;

 private:
  std::int64_t patience_;
  double threshold_;
  std::int64_t evaluations_without_improvement_ = 0;
};

// "eval_loss" for the metric names "loss", "eval_loss" and "".
std::string best_metric_key(const TrainingArguments& args);
bool greater_is_better(const TrainingArguments& args);
// True when `value` beats the best one so far by more than `threshold`.
bool improves(const TrainingArguments& args, const TrainerState& state, double value, double threshold = 0);
// The metric's value; throws UserError listing what there is when it is missing.
double metric_value(const MetricValues& metrics, const std::string& key);

}  // namespace oumi
