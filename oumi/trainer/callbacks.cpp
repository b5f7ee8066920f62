#include "oumi/trainer/callbacks.h"

#include <cmath>

namespace oumi {

void DefaultFlowCallback::on_step_end(CallbackContext& context) {
  const auto& [args, plan, state, control, model, optimizer] = context;
  const std::int64_t step = state.global_step;
  if (step == 1 && args.logging_first_step) control.should_log = true;
  if (args.logging_strategy == "steps" && step % plan.logging_steps == 0) control.should_log = true;
  const bool delay_is_over = static_cast<double>(step) >= args.eval_delay;
  if (args.eval_strategy == "steps" && step % plan.eval_steps == 0 && delay_is_over) control.should_evaluate = true;
  if (args.save_strategy == "steps" && step % plan.save_steps == 0) control.should_save = true;
  if (step >= plan.max_steps) {
    control.should_training_stop = true;
    // The end of a run is always measured and kept.
    if (args.eval_strategy == "steps") control.should_evaluate = true;
    if (args.save_strategy == "steps") control.should_save = true;
  }
}

void DefaultFlowCallback::on_epoch_end(CallbackContext& context) {
  const TrainingArguments& args = context.args;
  if (args.logging_strategy == "epoch") context.control.should_log = true;
  if (args.eval_strategy == "epoch" && context.state.epoch >= args.eval_delay) context.control.should_evaluate = true;
  if (args.save_strategy == "epoch") context.control.should_save = true;
}

void EarlyStoppingCallback::on_evaluate(CallbackContext& context, const MetricValues& metrics) {
  const double value = metric_value(metrics, best_metric_key(context.args));
  if (improves(context.args, context.state, value, threshold_)) {
    evaluations_without_improvement_ = 0;
  } else if (++evaluations_without_improvement_ >= patience_) {
    context.control.should_training_stop = true;
  }
}

Json EarlyStoppingCallback::state_dict() const {
  return Json{{"args", {{"early_stopping_patience", patience_}, {"early_stopping_threshold", threshold_}}},
              {"attributes", {{"early_stopping_patience_counter", evaluations_without_improvement_}}}};
}

void EarlyStoppingCallback::load_state_dict(const Json& state) {
  if (state.contains("attributes")) {
    evaluations_without_improvement_ = state["attributes"].value("early_stopping_patience_counter", std::int64_t{0});
  }
}

std::string best_metric_key(const TrainingArguments& args) {
  const std::string& name = args.metric_for_best_model;
  if (name.empty()) return "eval_loss";
  return name.rfind("eval_", 0) == 0 ? name : "eval_" + name;
}

bool greater_is_better(const TrainingArguments& args) {
  if (args.greater_is_better) return *args.greater_is_better;
  const std::string key = best_metric_key(args);
  return key.size() < 4 || key.compare(key.size() - 4, 4, "loss") != 0;
}

bool improves(const TrainingArguments& args, const TrainerState& state, double value, double threshold) {
  if (std::isnan(value)) return false;
  if (!state.best_metric) return true;
  const double gain = greater_is_better(args) ? value - *state.best_metric : *state.best_metric - value;
  return gain > threshold;
}

double metric_value(const MetricValues& metrics, const std::string& key) {
  std::vector<std::string> names;
  for (const auto& [name, value] : metrics) {
    if (name == key) return value;
    names.push_back(name);
  }
  throw UserError("training.metric_for_best_model", "the evaluation gave no '" + key + "': got [" + join(names, ", ") + "]",
                  suggestion(key, names));
}

}  // namespace oumi
