// The engine on a small problem: step arithmetic, accumulation, best model and early stopping, the NaN policy, and stops in the
// middle of things. The numbers against transformers' Trainer are tests/golden/trainer_peer.py's.
#include "oumi/trainer/trainer.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <mutex>
#include <thread>

#include "oumi/base/files.h"
#include "oumi/base/stop_signal.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/distributed/testing.h"
#include "oumi/models/state.h"
#include "oumi/nn/layers.h"

namespace oumi {
namespace {

using ::testing::HasSubstr;

class DropoutNet : public Model {
 public:
  DropoutNet() {
    hidden = register_module("hidden", nn::Linear(4, 16));
    dropout = register_module("dropout", nn::Dropout(0.3));
    head = register_module("head", nn::Linear(16, 3));
  }
  Outputs forward(const Batch& batch) override {
    const Tensor logits = head(dropout(at::relu(hidden(batch.at("x")))));
    const Tensor* labels = batch.find("labels");
    return {{"logits", logits}, {"loss", labels ? criterion()(logits, *labels) : Tensor()}};
  }

 private:
  nn::Linear hidden{nullptr}, head{nullptr};
  nn::Dropout dropout{nullptr};
};

DatasetPtr make_data(std::int64_t count, double first_value = 0) {
  at::Generator generator = at::detail::createCPUGenerator(7);
  Tensor x = at::rand({count, 4}, generator);
  const Tensor labels = x.slice(1, 0, 3).argmax(1);
  if (first_value != 0) x[0][0] = first_value;
  return std::make_shared<TensorDataset>(TensorDict{{"x", x}, {"labels", labels}});
}

ModelPtr make_net() {
  at::manual_seed(3);
  return make_model<DropoutNet>();
}

TrainingArguments arguments(const TemporaryDirectory& folder) {
  TrainingArguments args{.output_dir = folder.path().string(), .num_train_epochs = 2, .per_device_train_batch_size = 4};
  args.learning_rate = 1e-2;
  args.disable_tqdm = true;
  args.report_to.clear();
  args.save_strategy = "no";
  return args;
}

void expect_equal_weights(const Model& a, const Model& b) {
  const StateDict left = state_dict(a), right = state_dict(b);
  for (const auto& [name, tensor] : left) EXPECT_TRUE(at::equal(tensor, right.at(name))) << name;
}

TrainingArguments saving_arguments(const TemporaryDirectory& folder) {
  TrainingArguments args = arguments(folder);
  args.save_strategy = "steps";
  args.save_steps = 2;
  args.max_steps = 8;
  args.save_total_limit = 2;
  return args;
}

TEST(AsyncSave, GivesTheSameCheckpoints) {
  std::vector<std::string> manifests[2];
  for (const bool async : {false, true}) {
    const TemporaryDirectory folder;
    TrainingArguments args = saving_arguments(folder);
    args.async_save = async;
    Trainer({.model = make_net(), .args = args, .train_dataset = make_data(20)}).train();
    for (const char* name : {"checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"}) {
      const std::filesystem::path checkpoint = folder.path() / name;
      if (!std::filesystem::exists(checkpoint)) continue;
      EXPECT_TRUE(verify_checkpoint(checkpoint).ok()) << verify_checkpoint(checkpoint).summary();
      for (const char* file : {"model.safetensors", "optimizer.safetensors", "rng_state.safetensors", "data_state.json"}) {
        manifests[async].push_back(cat(name, " ", file, " ", read_manifest(checkpoint).files.at(file).xxh3_128));
      }
    }
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoint-4")) << "save_total_limit";
  }
  EXPECT_EQ(manifests[1], manifests[0]);
  EXPECT_EQ(manifests[0].size(), 8u);
}

TEST(AsyncSave, ReportsItsErrorsAtALaterStep) {
  const TemporaryDirectory folder;
  TrainingArguments args = saving_arguments(folder);
  args.async_save = true;
  args.max_steps = 1000000;
  args.save_steps = 4;
  TrainerOptions options{.model = make_net(), .args = args, .train_dataset = make_data(20)};
  // A folder where the manifest goes: the commit fails in the background.
  options.save_beside_weights = [](const std::filesystem::path& directory) {
    std::filesystem::create_directory(directory / "manifest.json");
  };
  Trainer trainer(std::move(options));
  std::string message;
  try {
    trainer.train();
  } catch (const EnvironmentError& error) {
    message = describe(error);
  }
  EXPECT_THAT(message, HasSubstr("manifest.json"));
  EXPECT_GE(trainer.state().global_step, 4);
  EXPECT_LE(trainer.state().global_step, 8);  // the next save waits for it
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("checkpoint"))) << "left behind";
  }
}

TEST(AsyncSave, OfSeveralRanksReportsAnyRanksError) {
  const TemporaryDirectory folder;
  std::vector<std::int64_t> steps(2);
  const auto errors = testing::run_ranks(2, testing::kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    TrainingArguments args = saving_arguments(folder);
    args.async_save = true;
    args.max_steps = 1000000;
    args.save_steps = 4;
    static std::mutex making;
    TrainerOptions options;
    {
      const std::lock_guard<std::mutex> lock(making);
      options = {.model = make_net(), .args = args, .train_dataset = make_data(20)};
    }
    options.process_group = group;
    // Rank 1's file is gone before that rank has flushed it.
    options.save_beside_weights = [](const std::filesystem::path& directory) {
      const std::filesystem::path other = directory / "rng_state_1.safetensors";
      while (!std::filesystem::exists(other)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::filesystem::remove(other);
    };
    Trainer trainer(std::move(options));
    try {
      trainer.train();
    } catch (const std::exception&) {
      steps[static_cast<std::size_t>(group->rank())] = trainer.state().global_step;
      throw;
    }
  });
  std::signal(SIGINT, SIG_DFL);  // two runs at once leave their handlers
  std::signal(SIGTERM, SIG_DFL);
  EXPECT_THAT(errors[0], HasSubstr("rng_state_1.safetensors"));
  EXPECT_THAT(errors[0], HasSubstr("(on rank 1)"));
  EXPECT_THAT(errors[1], HasSubstr("rng_state_1.safetensors"));
  EXPECT_EQ(steps[0], steps[1]);
  EXPECT_GE(steps[0], 4);
  EXPECT_LE(steps[0], 8);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("checkpoint"))) << "left behind";
  }
}

TEST(StepPlan, FollowsHuggingFace) {
  TrainingArguments args;
  args.num_train_epochs = 3;
  args.gradient_accumulation_steps = 4;
  args.warmup_steps = 0.1;
  const StepPlan plan = plan_steps(args, 10);
  EXPECT_EQ(plan.updates_per_epoch, 3);  // 4 + 4 + 2 micro-batches
  EXPECT_EQ(plan.max_steps, 9);
  EXPECT_EQ(plan.warmup_steps, 1);  // ceil(0.9)
  args.num_train_epochs = 1.5;
  EXPECT_EQ(plan_steps(args, 10).max_steps, 5);
  EXPECT_EQ(plan_steps(args, 10).num_train_epochs, 2);
  args.max_steps = 7;
  EXPECT_EQ(plan_steps(args, 10).num_train_epochs, 3);
  EXPECT_THROW(plan_steps(args, 0), UserError);
  args.max_steps = -1;
  EXPECT_THROW(plan_steps(args, std::nullopt), UserError);
}

TEST(Trainer, TheLastUpdateOfAnEpochTakesWhatIsLeft) {
  const TemporaryDirectory folder;
  struct Count : TrainerCallback {
    void on_substep_end(CallbackContext&) override { ++micro_batches; }
    void on_step_end(CallbackContext&) override { updates.push_back(++micro_batches), micro_batches = 0; }
    int micro_batches = 0;
    std::vector<int> updates;
  };
  const auto count = std::make_shared<Count>();
  TrainingArguments args = arguments(folder);
  args.gradient_accumulation_steps = 3;
  Trainer trainer(
      {.model = make_net(), .args = args, .train_dataset = make_data(19), .callbacks = {count}});  // 5 batches an epoch
  EXPECT_EQ(trainer.train().global_step, 4);
  EXPECT_THAT(count->updates, ::testing::ElementsAre(3, 2, 3, 2));
  EXPECT_DOUBLE_EQ(trainer.state().epoch, 2.0);
}

TEST(Trainer, StopsEarlyAndKeepsTheBestModel) {
  const TemporaryDirectory folder;
  TrainingArguments args = arguments(folder);
  args.num_train_epochs = 50;
  args.learning_rate = 0;  // nothing improves after the first evaluation
  args.eval_strategy = args.save_strategy = "epoch";
  args.load_best_model_at_end = true;
  args.early_stopping_patience = 2;
  Trainer trainer({.model = make_net(), .args = args, .train_dataset = make_data(16), .eval_dataset = make_data(8)});
  EXPECT_EQ(trainer.train().global_step, 12);  // 3 epochs of 4 updates
  EXPECT_EQ(trainer.state().best_global_step, 4);
  EXPECT_THAT(trainer.state().best_model_checkpoint, HasSubstr("checkpoint-4"));
}

TEST(Trainer, NonFiniteLossStopsAndNamesTheSamples) {
  const TemporaryDirectory folder;
  const ModelPtr model = make_net();
  Trainer trainer(
      {.model = model, .args = arguments(folder), .train_dataset = make_data(4, std::numeric_limits<double>::quiet_NaN())});
  try {
    trainer.train();
    FAIL() << "a NaN went through";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("got loss nan"));
    EXPECT_THAT(error.what(), HasSubstr("0"));
  }
  expect_equal_weights(*model, *make_net());
}

TEST(Trainer, NonFiniteLossCanBeLeftOut) {
  const TemporaryDirectory folder;
  TrainingArguments args = arguments(folder);
  args.nan_policy = NanPolicy::kSkip;
  const ModelPtr model = make_net();
  Trainer trainer({.model = model, .args = args, .train_dataset = make_data(16, std::numeric_limits<double>::infinity())});
  EXPECT_EQ(trainer.train().global_step, 8);
  for (const auto& [name, tensor] : state_dict(*model)) EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
}

// A stop in the middle of an evaluation, with averaged weights standing in for the model's own.
TEST(Trainer, StopDuringEvaluationResumesBitForBit) {
  const auto options = [](const TemporaryDirectory& folder, ModelPtr model) {
    TrainingArguments args = arguments(folder);
    args.ema_decay = 0.9;
    args.eval_strategy = args.save_strategy = "steps";
    args.eval_steps = args.save_steps = 3;
    args.per_device_eval_batch_size = 2;
    return TrainerOptions{
        .model = std::move(model), .args = args, .train_dataset = make_data(20), .eval_dataset = make_data(8)};
  };
  const TemporaryDirectory whole_folder, cut_folder;
  const ModelPtr whole = make_net();
  Trainer(options(whole_folder, whole)).train();

  struct StopInSecondBatch : TrainerCallback {
    void on_prediction_step(CallbackContext& context) override {
      if (context.state.global_step == 6 && ++batches == 2) request_stop(SIGTERM);
    }
    int batches = 0;
  };
  Trainer cut(options(cut_folder, make_net()));
  cut.add_callback(std::make_shared<StopInSecondBatch>());
  EXPECT_THROW(cut.train(), StoppedBySignal);
  EXPECT_FALSE(std::filesystem::exists(cut_folder.path() / "model.safetensors"));

  const ModelPtr resumed = make_net();
  Trainer again(options(cut_folder, resumed));
  EXPECT_EQ(again.train("last").global_step, 10);
  expect_equal_weights(*resumed, *whole);
  int evaluations_at_6 = 0;
  for (const Json& entry : again.state().log_history)
    evaluations_at_6 += entry["step"] == 6 && entry.contains("eval_loss") ? 1 : 0;
  EXPECT_EQ(evaluations_at_6, 1);
}

TEST(Trainer, StopDuringTheFirstEvaluationKeepsTheStart) {
  const TemporaryDirectory folder;
  struct Stop : TrainerCallback {
    void on_prediction_step(CallbackContext&) override { request_stop(SIGTERM); }
  };
  TrainingArguments args = arguments(folder);
  args.eval_on_start = true;
  args.per_device_eval_batch_size = 2;
  Trainer trainer({.model = make_net(),
                   .args = args,
                   .train_dataset = make_data(8),
                   .eval_dataset = make_data(8),
                   .callbacks = {std::make_shared<Stop>()}});
  EXPECT_THROW(trainer.train(), StoppedBySignal);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "checkpoint-0" / "manifest.json"));
}

}  // namespace
}  // namespace oumi
