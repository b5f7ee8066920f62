// The one argument struct of the training engine: Hugging Face's TrainingArguments by name and default. Oumi's `training:`
// section is mapped onto it in from_config.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/config/training_params.h"
#include "oumi/distributed/sharding_options.h"

namespace oumi {

// Use designated initialisers (`{.output_dir = "./results", .num_train_epochs = 10}`; they need declaration order) or the
// chained setters below. "Ratio" fields take a count when >= 1 and a share of the run's steps when < 1.
struct TrainingArguments {
  // --- the page's eight, in the page's order (held by a static_assert below) ---
  std::string output_dir = "trainer_output";
  double num_train_epochs = 3.0;
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t per_device_eval_batch_size = 8;
  double warmup_steps = 0;  // steps, or a share of the run's steps when < 1
  double weight_decay = 0.0;
  std::string logging_dir{};  // TensorBoard's event files; empty: output_dir/tensorboard
  double logging_steps = 500;

  // --- length and batch ---
  std::int64_t max_steps = -1;  // > 0 overrides num_train_epochs
  std::int64_t gradient_accumulation_steps = 1;

  // --- optimizer and schedule ---
  double learning_rate = 5e-5;
  std::string lr_scheduler_type = "linear";
  Json lr_scheduler_kwargs = Json::object();
  std::string optim = "adamw_torch_fused";
  std::string optim_args{};  // "name=value,name=value"
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double sgd_momentum = 0.0;
  double max_grad_norm = 1.0;  // 0 = no clipping; the norm is measured all the same
  std::vector<ParameterGroupParams> parameter_groups{};
  std::optional<double> ema_decay{};

  // --- loss ---
  double label_smoothing_factor = 0.0;
  std::vector<double> class_weights{};
  NanPolicy nan_policy = NanPolicy::kStop;

  // --- precision ---
  bool bf16 = false;            // autocast to bfloat16; weights and optimizer stay float32
  bool bf16_full_eval = false;  // evaluate with the weights themselves in bfloat16

  // --- logging ---
  std::string logging_strategy = "steps";  // no | steps | epoch
  bool logging_first_step = false;
  bool logging_nan_inf_filter = false;  // HF's default is true, which hides what happened
  std::vector<std::string> report_to = {"tensorboard"};
  bool log_histograms = false;
  std::string run_name{};
  std::optional<bool> disable_tqdm{};
  std::string include_num_input_tokens_seen = "no";  // no | all (padding too) | non_padding

  // --- evaluation ---
  std::string eval_strategy = "no";    // no | steps | epoch
  std::optional<double> eval_steps{};  // default: logging_steps
  double eval_delay = 0;               // steps or epochs, by eval_strategy, before the first evaluation
  bool eval_on_start = false;
  bool prediction_loss_only = false;

  // --- saving ---
  std::string save_strategy = "steps";  // no | steps | epoch | best
  double save_steps = 500;
  std::optional<std::int64_t> save_total_limit{};
  bool save_only_model = false;
  bool save_final_model = true;    // Oumi's: model.safetensors in output_dir at the end
  bool save_hf_optimizer = false;  // also write optimizer.pt and scheduler.pt, for HF's Trainer
  bool async_save = false;         // training waits for the copy of its state alone, not for the disk
  bool load_best_model_at_end = false;
  std::string metric_for_best_model{};      // empty: "loss"
  std::optional<bool> greater_is_better{};  // default: unless the metric's name ends in "loss"
  std::optional<std::int64_t> early_stopping_patience{};
  double early_stopping_threshold = 0.0;

  // --- seeds, resume ---
  std::uint64_t seed = 42;
  std::optional<std::uint64_t> data_seed{};  // default: seed
  bool full_determinism = false;
  bool ignore_data_skip = false;
  std::string resume_from_checkpoint{};  // a folder; "last" = the newest good one of output_dir

  // --- data loader ---
  bool dataloader_drop_last = false;
  std::int64_t dataloader_num_workers = 0;
  std::optional<std::int64_t> dataloader_prefetch_factor{};
  bool dataloader_persistent_workers = false;
  bool dataloader_pin_memory = true;
  bool dataloader_in_order = true;
  std::string train_sampling_strategy = "random";  // random | sequential | group_by_length
  std::string length_column_name = "length";
  std::vector<std::string> label_names{};  // default: {"labels"}
  bool use_cpu = false;

  // --- ranks ---
  bool average_tokens_across_devices = true;         // losses weighted by tokens: of all ranks, or of each
  std::int64_t ddp_timeout = 1800;                   // seconds that a collective may take
  std::optional<bool> ddp_find_unused_parameters{};  // default: true
  std::optional<std::int64_t> ddp_bucket_cap_mb{};   // MiB of gradients reduced at once; default: 25
  std::optional<bool> ddp_broadcast_buffers{};       // default: true
  ShardingOptions sharding{};                        // with one rank there is nothing to split

  // Chained setters: TrainingArguments().with(&TrainingArguments::seed, 7).with(&TrainingArguments::bf16, true).
  template <class T, class V>
  TrainingArguments& with(T TrainingArguments::* field, V&& value) & {
    this->*field = std::forward<V>(value);
    return *this;
  }
  template <class T, class V>
  TrainingArguments&& with(T TrainingArguments::* field, V&& value) && {
    this->*field = std::forward<V>(value);
    return std::move(*this);
  }
};

// The page's listing compiles only while these fields stand first and in this order.
static_assert(std::is_aggregate_v<TrainingArguments>);
static_assert(offsetof(TrainingArguments, output_dir) == 0 &&
              offsetof(TrainingArguments, output_dir) < offsetof(TrainingArguments, num_train_epochs) &&
              offsetof(TrainingArguments, num_train_epochs) < offsetof(TrainingArguments, per_device_train_batch_size) &&
              offsetof(TrainingArguments, per_device_train_batch_size) <
                  offsetof(TrainingArguments, per_device_eval_batch_size) &&
              offsetof(TrainingArguments, per_device_eval_batch_size) < offsetof(TrainingArguments, warmup_steps) &&
              offsetof(TrainingArguments, warmup_steps) < offsetof(TrainingArguments, weight_decay) &&
              offsetof(TrainingArguments, weight_decay) < offsetof(TrainingArguments, logging_dir) &&
              offsetof(TrainingArguments, logging_dir) < offsetof(TrainingArguments, logging_steps) &&
              offsetof(TrainingArguments, logging_steps) < offsetof(TrainingArguments, max_steps));

// Checks ranges and combinations; throws UserError naming `training.<field>`.
void validate(const TrainingArguments& args);

Json to_json(const TrainingArguments& args);

}  // namespace oumi
