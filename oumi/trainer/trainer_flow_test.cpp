// What a run does when, against transformers' Trainer: tests/golden/trainer_flow.py ran the same scenarios there.
#include <gmock/gmock.h>

#include <ATen/Functions.h>

#include <algorithm>
#include <cstdlib>

#include "oumi/base/files.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/nn/layers.h"
#include "oumi/trainer/trainer.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

class Net : public Model {
 public:
  Net() { head = register_module("head", nn::Linear(4, 3)); }
  Outputs forward(const Batch& batch) override {
    const Tensor logits = head(batch.at("x"));
    const Tensor* labels = batch.find("labels");
    return {{"logits", logits}, {"loss", labels ? criterion()(logits, *labels) : Tensor()}};
  }

 private:
  nn::Linear head{nullptr};
};

DatasetPtr make_data(std::int64_t samples) {
  return std::make_shared<TensorDataset>(
      TensorDict{{"x", at::ones({samples, 4})}, {"labels", at::arange(samples).remainder(3)}});
}

// Every event with the step it came at; a log says of what.
class Recorder : public TrainerCallback {
 public:
  void on_init_end(CallbackContext& context) override { note("on_init_end", context); }
  void on_train_begin(CallbackContext& context) override { note("on_train_begin", context); }
  void on_train_end(CallbackContext& context) override { note("on_train_end", context); }
  void on_epoch_begin(CallbackContext& context) override { note("on_epoch_begin", context); }
  void on_epoch_end(CallbackContext& context) override { note("on_epoch_end", context); }
  void on_step_begin(CallbackContext& context) override { note("on_step_begin", context); }
  void on_substep_end(CallbackContext& context) override { note("on_substep_end", context); }
  void on_pre_optimizer_step(CallbackContext& context) override { note("on_pre_optimizer_step", context); }
  void on_optimizer_step(CallbackContext& context) override { note("on_optimizer_step", context); }
  void on_step_end(CallbackContext& context) override { note("on_step_end", context); }
  void on_evaluate(CallbackContext& context, const MetricValues&) override { note("on_evaluate", context); }
  void on_save(CallbackContext& context, const std::string&) override { note("on_save", context); }
  void on_prediction_step(CallbackContext& context) override { note("on_prediction_step", context); }
  void on_log(CallbackContext& context, const MetricValues& values) override {
    const auto has = [&](const char* prefix) {
      return std::any_of(values.begin(), values.end(), [&](const auto& value) { return value.first.starts_with(prefix); });
    };
    note(has("eval_") ? "on_log:eval" : has("train_runtime") ? "on_log:summary" : "on_log:train", context);
  }

  std::vector<std::string> events;

 private:
  void note(const char* event, const CallbackContext& context) { events.push_back(cat(event, "@", context.state.global_step)); }
};

TrainingArguments arguments_of(const Json& golden, const fs::path& folder) {
  TrainingArguments args;
  args.output_dir = folder.string();
  args.report_to.clear();
  args.disable_tqdm = true;
  args.save_final_model = false;
  const std::map<std::string, std::function<void(const Json&)>> setters = {
      {"num_train_epochs", [&](const Json& v) { args.num_train_epochs = v; }},
      {"per_device_train_batch_size", [&](const Json& v) { args.per_device_train_batch_size = v; }},
      {"per_device_eval_batch_size", [&](const Json& v) { args.per_device_eval_batch_size = v; }},
      {"gradient_accumulation_steps", [&](const Json& v) { args.gradient_accumulation_steps = v; }},
      {"max_steps", [&](const Json& v) { args.max_steps = v; }},
      {"warmup_steps", [&](const Json& v) { args.warmup_steps = v; }},
      {"learning_rate", [&](const Json& v) { args.learning_rate = v; }},
      {"logging_strategy", [&](const Json& v) { args.logging_strategy = v; }},
      {"logging_steps", [&](const Json& v) { args.logging_steps = v; }},
      {"logging_first_step", [&](const Json& v) { args.logging_first_step = v; }},
      {"eval_strategy", [&](const Json& v) { args.eval_strategy = v; }},
      {"eval_steps", [&](const Json& v) { args.eval_steps = v.get<double>(); }},
      {"eval_delay", [&](const Json& v) { args.eval_delay = v; }},
      {"eval_on_start", [&](const Json& v) { args.eval_on_start = v; }},
      {"save_strategy", [&](const Json& v) { args.save_strategy = v; }},
      {"save_steps", [&](const Json& v) { args.save_steps = v; }},
      {"save_total_limit", [&](const Json& v) { args.save_total_limit = v.get<std::int64_t>(); }},
      {"load_best_model_at_end", [&](const Json& v) { args.load_best_model_at_end = v; }},
      {"metric_for_best_model", [&](const Json& v) { args.metric_for_best_model = v; }},
      {"greater_is_better", [&](const Json& v) { args.greater_is_better = v.get<bool>(); }}};
  for (const auto& [name, value] : golden["args"].items()) setters.at(name)(value);
  if (!golden["patience"].is_null()) {
    args.early_stopping_patience = golden["patience"].get<std::int64_t>();
    args.early_stopping_threshold = golden["threshold"];
  }
  return args;
}

std::vector<std::string> checkpoints_in(const fs::path& folder) {
  std::vector<std::pair<int, std::string>> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("checkpoint-")) found.emplace_back(std::stoi(name.substr(11)), name);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (auto& [step, name] : found) names.push_back(std::move(name));
  return names;
}

// The values of `key` in the log entries that have `marker`.
std::vector<double> logged(const TrainerState& state, const char* marker, const char* key) {
  std::vector<double> values;
  for (const Json& entry : state.log_history) {
    if (entry.contains(marker)) values.push_back(entry.at(key));
  }
  return values;
}

Json golden_scenarios() {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return read_json_file(fs::path(source == nullptr ? "." : source) / "tests/golden/trainer_flow.json")["scenarios"];
}

void expect_near(const std::vector<double>& ours, const std::vector<double>& theirs) {
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], 1e-12) << "entry " << i;
}

TEST(TrainerFlow, IsHuggingFaces) {
  const Json scenarios = golden_scenarios();
  ASSERT_EQ(scenarios.size(), 13);
  for (const auto& [name, golden] : scenarios.items()) {
    SCOPED_TRACE(name);
    const TemporaryDirectory folder;
    at::manual_seed(0);
    const auto recorder = std::make_shared<Recorder>();
    TrainerOptions options{.model = make_model<Net>(),
                           .args = arguments_of(golden, folder.path()),
                           .train_dataset = make_data(golden["samples"]),
                           .eval_dataset = make_data(8),
                           .callbacks = {recorder}};
    std::size_t next_score = 0;
    if (!golden["scores"].is_null()) {
      options.compute_metrics = [&, scores = golden["scores"]](const EvalPrediction&) {
        return MetricValues{{"score", scores.at(next_score++).get<double>()}};
      };
    }
    Trainer trainer(std::move(options));
    trainer.train();

    const TrainerState& state = trainer.state();
    EXPECT_EQ(recorder->events, golden["events"].get<std::vector<std::string>>());
    EXPECT_EQ(state.global_step, golden["global_step"]);
    EXPECT_EQ(state.max_steps, golden["max_steps"]);
    EXPECT_EQ(state.num_train_epochs, golden["num_train_epochs"]);
    EXPECT_NEAR(state.epoch, golden["epoch"].get<double>(), 1e-12);
    EXPECT_EQ(state.best_metric ? Json(*state.best_metric) : Json(), golden["best_metric"]);
    EXPECT_EQ(state.best_global_step ? Json(*state.best_global_step) : Json(), golden["best_global_step"]);
    EXPECT_EQ(fs::path(state.best_model_checkpoint).filename().string(), golden["best_checkpoint"]);
    EXPECT_EQ(checkpoints_in(folder.path()), golden["checkpoints"].get<std::vector<std::string>>());
    expect_near(logged(state, "loss", "step"), golden["log_steps"]);
    expect_near(logged(state, "loss", "epoch"), golden["log_epochs"]);
    expect_near(logged(state, "loss", "learning_rate"), golden["learning_rates"]);
    expect_near(logged(state, "eval_loss", "step"), golden["eval_steps"]);
  }
}

}  // namespace
}  // namespace oumi
