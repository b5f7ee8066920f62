// Where a resumed run goes on in its data when the batch size or accumulation is no longer the saved run's.
#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "oumi/base/files.h"
#include "oumi/data/samplers.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/nn/layers.h"
#include "oumi/trainer/trainer.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kSamples = 20;

class RecordingNet : public Model {
 public:
  RecordingNet() { head = register_module("head", nn::Linear(4, 3)); }
  Outputs forward(const Batch& batch) override {
    batches.push_back(batch.sample_ids);
    const Tensor logits = head(batch.at("x"));
    const Tensor* labels = batch.find("labels");
    return {{"logits", logits}, {"loss", labels ? criterion()(logits, *labels) : Tensor()}};
  }
  std::vector<std::vector<std::int64_t>> batches;

 private:
  nn::Linear head{nullptr};
};

struct Settings {
  std::int64_t batch_size = 4;
  std::int64_t accumulation = 1;
  std::int64_t max_steps = -1;
  double epochs = 1;
};

TrainingArguments arguments(const fs::path& folder, const Settings& settings) {
  TrainingArguments args{
      .output_dir = folder.string(), .num_train_epochs = settings.epochs, .per_device_train_batch_size = settings.batch_size};
  args.max_steps = settings.max_steps;
  args.gradient_accumulation_steps = settings.accumulation;
  args.save_steps = 1;
  args.report_to.clear();
  args.disable_tqdm = true;
  return args;
}

DatasetPtr make_data(const Tensor& labels) {
  return std::make_shared<TensorDataset>(TensorDict{{"x", at::ones({kSamples, 4})}, {"labels", labels}});
}

struct Result {
  std::vector<std::vector<std::int64_t>> batches;
  TrainerState state;
};

// Trains in `args.output_dir`, from `checkpoint` on.
Result train(const TrainingArguments& args, const std::string& checkpoint = "last",
             const Tensor& labels = at::arange(kSamples).remainder(3)) {
  const auto model = make_model<RecordingNet>();
  Trainer trainer({.model = model, .args = args, .train_dataset = make_data(labels)});
  trainer.train(checkpoint);
  return {model->batches, trainer.state()};
}

Result train(const fs::path& folder, const Settings& settings) { return train(arguments(folder, settings)); }

std::vector<std::int64_t> flattened(const std::vector<std::vector<std::int64_t>>& batches) {
  std::vector<std::int64_t> ids;
  for (const auto& batch : batches) ids.insert(ids.end(), batch.begin(), batch.end());
  return ids;
}

std::vector<std::int64_t> order_of_epoch(std::int64_t epoch) {
  SeedableRandomSampler sampler(kSamples, 42);
  sampler.start_epoch(epoch);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < kSamples; ++i) order.push_back(sampler.at(i));
  return order;
}

std::vector<std::int64_t> after(const std::vector<std::int64_t>& order, std::int64_t seen) {
  return {order.begin() + seen, order.end()};
}

template <class Run>
UserError user_error(Run run) {
  try {
    run();
  } catch (const UserError& error) {
    return error;
  }
  return UserError("none", "nothing was thrown");
}

TEST(Resume, AnotherBatchSizeGoesOnWithTheVeryNextSample) {
  for (const std::int64_t batch_size : {1, 3, 5, 6, 8, 12, 50}) {
    SCOPED_TRACE(batch_size);
    const TemporaryDirectory folder;
    train(folder.path(), {.batch_size = 4, .max_steps = 2});  // 8 of the 20 samples
    const Result rest = train(folder.path(), {.batch_size = batch_size});
    EXPECT_EQ(flattened(rest.batches), after(order_of_epoch(0), 8));
    EXPECT_EQ(static_cast<std::int64_t>(rest.batches.front().size()), std::min<std::int64_t>(batch_size, 12));
    const std::int64_t updates = (12 + batch_size - 1) / batch_size;
    EXPECT_EQ(rest.state.global_step, 2 + updates);
    EXPECT_EQ(rest.state.max_steps, 2 + updates);
    EXPECT_DOUBLE_EQ(rest.state.epoch, 1.0);
  }
}

TEST(Resume, AnotherAccumulationKeepsTheEpochs) {
  const TemporaryDirectory folder;
  train(folder.path(), {.batch_size = 2, .accumulation = 1, .max_steps = 3});  // 6 samples
  const Result rest = train(folder.path(), {.batch_size = 2, .accumulation = 3, .epochs = 2});
  std::vector<std::int64_t> expected = after(order_of_epoch(0), 6), second = order_of_epoch(1);
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(flattened(rest.batches), expected);
  EXPECT_EQ(rest.state.global_step, 3 + 3 + 4);  // 7 micro-batches left, then 10
  EXPECT_DOUBLE_EQ(rest.state.epoch, 2.0);
}

TEST(Resume, TwiceWithOtherBatchSizes) {
  const TemporaryDirectory folder;
  train(folder.path(), {.batch_size = 4, .max_steps = 2});
  train(folder.path(), {.batch_size = 5, .max_steps = 3});  // 8 + 5 samples
  EXPECT_EQ(flattened(train(folder.path(), {.batch_size = 3}).batches), after(order_of_epoch(0), 13));
}

// HF's Trainer writes updates and a batch size alone.
TEST(Resume, FromACheckpointWithoutAPosition) {
  const TemporaryDirectory folder;
  train(folder.path(), {.batch_size = 4, .max_steps = 2});
  const fs::path checkpoint = folder.path() / "checkpoint-2";
  fs::remove(checkpoint / "data_state.json");
  fs::remove(checkpoint / "manifest.json");
  const Result rest = train(arguments(folder.path(), {.batch_size = 3}), checkpoint.string());
  EXPECT_EQ(flattened(rest.batches), after(order_of_epoch(0), 8));
}

TEST(Resume, AnotherOrderIsRefused) {
  const TemporaryDirectory folder;
  train(folder.path(), {.batch_size = 4, .max_steps = 2});
  TrainingArguments args = arguments(folder.path(), {.batch_size = 4});
  args.data_seed = 7;
  EXPECT_THAT(user_error([&] { train(args); }).message(), testing::HasSubstr("seed: expected 42"));
}

TEST(Labels, OutOfRangeNamesTheOneSample) {
  const TemporaryDirectory folder;
  Tensor labels = at::arange(kSamples).remainder(3);
  labels[13] = 3;
  const UserError error = user_error([&] { train(arguments(folder.path(), {}), "", labels); });
  EXPECT_EQ(error.component(), "labels");
  EXPECT_EQ(error.message(), "sample 13: expected a label of 0 to 2, or -100 to leave it out, got 3");
}

}  // namespace
}  // namespace oumi
