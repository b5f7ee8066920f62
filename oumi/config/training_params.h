// `training:` - the run itself. Oumi's fields come first in Oumi's order, then the arguments of Hugging Face's Trainer that
// Oumi lacks, then our own. One entry per field, with units and help: training_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/config/enums.h"
#include "oumi/config/field.h"
#include "oumi/config/rl_params.h"
#include "oumi/config/telemetry_params.h"

namespace oumi {

// One entry of `training.parameter_groups`. A parameter belongs to the first group whose pattern matches its name.
struct ParameterGroupParams {
  std::string pattern;
  std::optional<double> learning_rate;
  std::optional<double> weight_decay;
  bool freeze = false;

  bool operator==(const ParameterGroupParams&) const = default;
};

struct TrainingParams {
  // --- Oumi's ---
  bool use_peft = false;
  TrainerType trainer_type = TrainerType::kHf;
  bool enable_gradient_checkpointing = false;
  Json gradient_checkpointing_kwargs = Json::object();
  std::string output_dir = "output";
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t per_device_eval_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;
  std::int64_t max_steps = -1;
  double num_train_epochs = 3;
  bool save_epoch = false;
  double save_steps = 500;
  bool save_final_model = true;
  std::int64_t seed = 42;
  std::int64_t data_seed = 42;
  bool use_deterministic = false;
  bool full_determinism = false;
  std::optional<std::string> run_name{};
  std::optional<std::string> metrics_function{};
  std::optional<std::vector<std::string>> reward_functions{};
  Json reward_function_kwargs = Json::object();
  GrpoParams grpo{};
  GkdParams gkd{};
  GoldParams gold{};
  std::string log_level = "info";
  std::string dep_log_level = "warning";
  bool log_examples = false;
  bool enable_wandb = false;
  bool enable_mlflow = false;
  bool enable_tensorboard = true;
  std::string logging_strategy = "steps";
  std::optional<std::string> logging_dir{};
  double logging_steps = 50;
  bool logging_first_step = false;
  std::string eval_strategy = "no";
  double eval_steps = 500;
  double learning_rate = 5e-05;
  std::string lr_scheduler_type = "linear";
  Json lr_scheduler_kwargs = Json::object();
  std::optional<double> warmup_ratio{};
  std::optional<double> warmup_steps{};
  std::string optimizer = "adamw_torch";
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-08;
  double sgd_momentum = 0.0;
  MixedPrecisionDtype mixed_precision_dtype = MixedPrecisionDtype::kNone;
  bool compile = false;
  bool include_performance_metrics = false;
  bool include_alternative_mfu_metrics = false;
  bool log_model_summary = false;
  std::optional<std::string> resume_from_checkpoint{};
  bool try_resume_from_last_checkpoint = false;
  IntOrString dataloader_num_workers = std::int64_t{0};
  bool dataloader_persistent_workers = false;
  std::optional<std::int64_t> dataloader_prefetch_factor{};
  std::optional<bool> dataloader_main_process_only{};
  std::optional<bool> ddp_find_unused_parameters{};
  std::optional<double> max_grad_norm = 1.0;
  Json trainer_kwargs = Json::object();
  Json verl_config_overrides = Json::object();
  ProfilerParams profiler{};
  TelemetryParams telemetry{};
  std::optional<std::int64_t> empty_device_cache_steps{};
  std::optional<double> nccl_default_timeout_minutes{};
  std::optional<std::int64_t> label_ignore_index{};

  // --- Hugging Face's ---
  std::optional<std::string> optim_args{};
  double label_smoothing_factor = 0.0;
  bool average_tokens_across_devices = true;
  std::optional<double> neftune_noise_alpha{};
  bool auto_find_batch_size = false;
  bool bf16_full_eval = false;
  bool fp16_full_eval = false;
  std::optional<bool> tf32{};
  bool use_cpu = false;
  bool logging_nan_inf_filter = false;
  std::string include_num_input_tokens_seen = "no";
  std::string log_level_replica = "warning";
  std::optional<bool> disable_tqdm{};
  double eval_delay = 0;
  bool eval_on_start = false;
  bool prediction_loss_only = false;
  std::optional<std::string> save_strategy{};
  std::optional<std::int64_t> save_total_limit{};
  bool save_only_model = false;
  bool overwrite_output_dir = false;
  bool enable_jit_checkpoint = false;
  bool load_best_model_at_end = false;
  std::optional<std::string> metric_for_best_model{};
  std::optional<bool> greater_is_better{};
  bool ignore_data_skip = false;
  bool restore_callback_states_from_checkpoint = false;
  bool dataloader_drop_last = false;
  bool dataloader_pin_memory = true;
  bool dataloader_in_order = true;
  bool remove_unused_columns = true;
  std::optional<std::vector<std::string>> label_names{};
  std::string train_sampling_strategy = "random";
  std::string length_column_name = "length";
  Json accelerator_config = Json::object();
  std::optional<std::int64_t> ddp_bucket_cap_mb{};
  std::optional<bool> ddp_broadcast_buffers{};
  std::optional<bool> ddp_static_graph{};
  std::optional<std::string> ddp_backend{};
  std::int64_t ddp_timeout = 1800;

  // --- ours ---
  std::optional<std::int64_t> early_stopping_patience{};
  double early_stopping_threshold = 0.0;
  std::vector<double> class_weights{};
  std::optional<double> ema_decay{};
  std::vector<ParameterGroupParams> parameter_groups{};
  NanPolicy nan_policy = NanPolicy::kStop;
  bool save_hf_optimizer = false;
  bool async_save = false;
  bool log_histograms = false;
  Json unused_hf_arguments = Json::object();

  bool operator==(const TrainingParams&) const = default;
};

FieldList fields_of(const ParameterGroupParams*);
FieldList fields_of(const TrainingParams*);

// HF's save_strategy word ("no", "steps", "epoch", "best"): save_strategy where it is set, else Oumi's rule that save_steps > 0
// wins over save_epoch.
std::string effective_save_strategy(const TrainingParams& training);

}  // namespace oumi
