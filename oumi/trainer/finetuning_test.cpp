// Fine-tuning through the engine on the tiny models of tests/golden/adapters.
#include "oumi/trainer/finetuning.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <cstdlib>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/build_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/state.h"
#include "oumi/nn/activation_checkpointing.h"
#include "oumi/trainer/token_counts.h"
#include "oumi/trainer/trainer.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string base_folder(const std::string& name = "llama_all") {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return cat(source == nullptr ? "." : source, "/tests/golden/adapters/", name, "/base");
}

// Samples of one length whose number of labels differs much.
TensorDict samples(std::int64_t count) {
  constexpr std::int64_t kLength = 10, kVocabulary = 48;
  const Tensor position = at::arange(kLength).unsqueeze(0), row = at::arange(count).unsqueeze(1);
  const Tensor ids = (position * (row + 3) + row * row * 7).remainder(kVocabulary);
  const Tensor labels = ids.masked_fill(position < (row * 3).remainder(kLength - 1), -100);
  return {{"input_ids", ids}, {"attention_mask", at::ones_like(ids)}, {"labels", labels}};
}

TrainingArguments arguments(const TemporaryDirectory& folder) {
  TrainingArguments args{.output_dir = folder.path().string(), .per_device_train_batch_size = 2};
  args.max_steps = 4;
  args.learning_rate = 1e-2;
  args.disable_tqdm = true;
  args.report_to.clear();
  args.save_strategy = "no";
  args.save_final_model = false;
  return args;
}

TrainingConfig config_of(const std::string& model) {
  TrainingConfig config;
  config.model.model_name = model;
  return config;
}

ModelPtr prepared(const TrainingConfig& config) {
  at::manual_seed(1);
  const ModelPtr model = build_model(config.model);
  prepare_for_training(*model, config);
  return model;
}

StateDict trained_weights(const TrainingArguments& args, const TrainerOptions& more) {
  TrainerOptions options = more;
  options.model = build_model({.model_name = base_folder()});
  options.args = args;
  options.train_dataset = std::make_shared<TensorDataset>(samples(8));
  options.args.train_sampling_strategy = "sequential";
  Trainer(options).train();
  return state_dict(*options.model);
}

double largest_difference(const StateDict& a, const StateDict& b) {
  double largest = 0;
  for (const auto& [name, tensor] : a) largest = std::max(largest, (tensor - b.at(name)).abs().max().item<double>());
  return largest;
}

TEST(TokenWeightedLoss, AccumulationEqualsOneBigBatch) {
  const TemporaryDirectory folder;
  TrainingArguments args = arguments(folder);
  args.optim = "sgd";
  args.max_steps = 1;
  args.max_grad_norm = 0;
  args.learning_rate = 1;
  args.lr_scheduler_type = "constant";
  const StateDict accumulated = trained_weights(args.with(&TrainingArguments::gradient_accumulation_steps, 4), {});
  const StateDict micro_means = trained_weights(args, {.token_weighted_loss = false});
  args.gradient_accumulation_steps = 1;
  args.per_device_train_batch_size = 8;
  const StateDict whole = trained_weights(args, {});
  EXPECT_LT(largest_difference(accumulated, whole), 1e-6);
  EXPECT_GT(largest_difference(micro_means, whole), 1e-4);
}

TEST(TokenWeightedLoss, AnUpdateWithoutLabelsChangesNothing) {
  const TemporaryDirectory folder;
  TensorDict data = samples(8);
  data.at("labels").fill_(-100);
  const ModelPtr model = build_model({.model_name = base_folder()});
  TrainingArguments args = arguments(folder);
  args.max_steps = 1;
  const TrainOutput output =
      Trainer({.model = model, .args = args, .train_dataset = std::make_shared<TensorDataset>(data)}).train();
  EXPECT_EQ(output.training_loss, 0);
}

TEST(TokenCounts, FollowTheShiftedLoss) {
  const Tensor ids = at::arange(12).reshape({2, 6});
  Batch batch{{"input_ids", ids}, {"labels", ids.clone()}};
  EXPECT_EQ(count_predicted_tokens({batch, batch}), 20);
  batch.at("labels")[0].narrow(0, 0, 3).fill_(-100);
  EXPECT_EQ(count_predicted_tokens({batch}), 8);
  batch.set("segment_ids", torch::tensor({{0, 0, 0, 1, 1, -1}, {0, 0, 0, 0, 0, 0}}, at::kInt));
  EXPECT_EQ(count_predicted_tokens({batch}), 6);  // of the first row: only the second token of its second sample
  EXPECT_EQ(count_tokens(batch), 11);
}

TEST(LoraRun, ChecksOutTheAdapterAloneAndResumesBitExact) {
  TrainingConfig config = config_of(base_folder());
  config.training.use_peft = true;
  config.training.enable_gradient_checkpointing = true;
  config.peft.lora_target_modules = {{"all-linear"}};
  config.peft.lora_dropout = 0.2;
  const TemporaryDirectory whole, halves;
  const auto run = [&](const TemporaryDirectory& folder, std::int64_t steps, const std::string& resume) {
    TrainingArguments args = arguments(folder);
    args.lr_scheduler_type = "constant";
    args.max_steps = steps;
    args.save_strategy = "steps";
    args.save_steps = 3;
    args.save_final_model = true;
    args.optim = "adamw_8bit";
    args.resume_from_checkpoint = resume;
    Trainer({.model = prepared(config), .args = args, .train_dataset = std::make_shared<TensorDataset>(samples(16))}).train();
  };
  run(whole, 6, "");
  run(halves, 3, "");
  run(halves, 6, "last");
  EXPECT_TRUE(fs::exists(halves.path() / "checkpoint-3" / "adapter_config.json"));
  EXPECT_FALSE(fs::exists(halves.path() / "checkpoint-3" / "model.safetensors"));
  EXPECT_EQ(hash_file(whole.path() / "adapter_model.safetensors"), hash_file(halves.path() / "adapter_model.safetensors"));
  EXPECT_NE(hash_file(whole.path() / "checkpoint-3/adapter_model.safetensors"),
            hash_file(whole.path() / "adapter_model.safetensors"));

  // evaluate and infer find it, and a further run goes on with it.
  config.training.output_dir = whole.path().string();
  const ModelPtr applied = build_model(config.model), base = build_model(config.model);
  apply_trained_adapter(*applied, config);
  EXPECT_FALSE(at::equal(state_dict(*applied).at("model.layers.0.mlp.up_proj.weight"),
                         state_dict(*base).at("model.layers.0.mlp.up_proj.weight")));
  config.model.adapter_model = whole.path().string();
  const StateDict further = adapter_state_dict(*prepared(config));
  EXPECT_TRUE(at::equal(further.at("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"),
                        load_weights(whole.path() / "adapter_model.safetensors")
                            .at("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight")));
}

TEST(LoraRun, SavesByMode) {
  TrainingConfig config = config_of(base_folder("gpt2_bias"));
  config.training.use_peft = true;
  config.peft.lora_init_weights = LoraWeightInitialization::kRandom;
  const ModelPtr model = prepared(config);
  const auto files = [&](PeftSaveMode mode) {
    const TemporaryDirectory folder;
    save_trained_model(*model, folder.path(), mode);
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
      if (entry.is_regular_file()) names.push_back(fs::relative(entry.path(), folder.path()).string());
    }
    std::sort(names.begin(), names.end());
    const std::string key = "transformer.h.0.attn.c_attn.weight";
    if (mode == PeftSaveMode::kAdapterAndBaseModel) {
      EXPECT_TRUE(at::equal(load_weights(folder.path()).at(key), load_weights(base_folder("gpt2_bias")).at(key)));
    }
    if (mode == PeftSaveMode::kMerged) {
      EXPECT_FALSE(at::equal(load_weights(folder.path()).at(key), load_weights(base_folder("gpt2_bias")).at(key)));
    }
    return names;
  };
  EXPECT_THAT(files(PeftSaveMode::kAdapterOnly), ElementsAre("adapter_config.json", "adapter_model.safetensors"));
  EXPECT_THAT(files(PeftSaveMode::kAdapterAndBaseModel),
              ElementsAre("adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"));
  EXPECT_THAT(files(PeftSaveMode::kMerged), ElementsAre("adapter/adapter_config.json", "adapter/adapter_model.safetensors",
                                                        "config.json", "model.safetensors"));
}

TEST(PrepareForTraining, CheckpointedLayersGiveTheSameGradients) {
  TrainingConfig config = config_of(base_folder());
  config.training.use_peft = true;
  const ModelPtr plain = prepared(config);
  config.training.enable_gradient_checkpointing = true;
  const ModelPtr checkpointed = prepared(config);
  EXPECT_THAT(block_classes(*plain), ElementsAre("LlamaDecoderLayer"));
  const TensorDict data = samples(4);
  const Batch batch{{"input_ids", data.at("input_ids")}, {"labels", data.at("labels")}};
  for (const ModelPtr& model : {plain, checkpointed}) (*model)(batch).loss().backward();
  int compared = 0;
  for (const auto& item : plain->named_parameters()) {
    const Tensor &a = item.value().grad(), &b = checkpointed->named_parameters()[item.key()].grad();
    ASSERT_EQ(a.defined(), b.defined()) << item.key();
    if (!a.defined()) continue;
    EXPECT_TRUE(at::equal(a, b)) << item.key();
    ++compared;
  }
  EXPECT_EQ(compared, 8);
  config.training.gradient_checkpointing_kwargs = {{"layer_classes", {"GptBlock"}}};
  try {
    prepared(config);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.hint(), HasSubstr("LlamaDecoderLayer"));
  }
}

TEST(PrepareForTraining, NeftuneActsInTrainingModeAlone) {
  TrainingConfig config = config_of(base_folder());
  config.training.neftune_noise_alpha = 5.0;
  const ModelPtr model = prepared(config);
  const TensorDict data = samples(2);
  const Batch batch{{"input_ids", data.at("input_ids")}, {"labels", data.at("labels")}};
  const auto loss = [&] { return (*model)(batch).loss().item<double>(); };
  EXPECT_NE(loss(), loss());
  model->eval();
  EXPECT_EQ(loss(), loss());
}

TEST(PrepareForTraining, QuantisedWeightsNeedAdapters) {
  TrainingConfig config = config_of(base_folder());
  config.peft.q_lora = true;
  try {
    prepared(config);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.component(), "peft.q_lora");
  }
}

}  // namespace
}  // namespace oumi
