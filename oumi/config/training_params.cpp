#include "oumi/config/training_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const ParameterGroupParams*) {
  using P = ParameterGroupParams;
  static constexpr Field kFields[] = {
      required_field<&P::pattern>("pattern", "", "Regular expression searched for in the parameter's name."),
      field<&P::learning_rate>("learning_rate", "", "Peak learning rate of the group; unset keeps training.learning_rate."),
      field<&P::weight_decay>("weight_decay", "", "Weight decay of the group; unset keeps training.weight_decay."),
      field<&P::freeze>("freeze", "", "Leave the group's parameters as they are."),
  };
  return kFields;
}

FieldList fields_of(const TrainingParams*) {
  using P = TrainingParams;
  static constexpr Field kFields[] = {
      field<&P::use_peft>("use_peft", "", "Train adapters (see peft) instead of the whole model."),
      field<&P::trainer_type>("trainer_type", "", "Loss and data format of the run; one engine serves all."),
      field<&P::enable_gradient_checkpointing>("enable_gradient_checkpointing", "", "Recompute activations in backward to save memory."),
      field<&P::gradient_checkpointing_kwargs>("gradient_checkpointing_kwargs", "", "Its settings: use_reentrant, every_n_layers, offload."),
      field<&P::output_dir>("output_dir", "", "Folder for checkpoints, the final model, metrics and logs."),
      field<&P::per_device_train_batch_size>("per_device_train_batch_size", "samples", "Micro-batch of a rank."),
      field<&P::per_device_eval_batch_size>("per_device_eval_batch_size", "samples", "Batch of a rank in evaluation."),
      field<&P::gradient_accumulation_steps>("gradient_accumulation_steps", "micro-batches", "Micro-batches of one update."),
      field<&P::max_steps>("max_steps", "updates", "Updates of the run; above 0 it wins over num_train_epochs."),
      field<&P::num_train_epochs, CountCodec>("num_train_epochs", "epochs", "Passes over the data; fractions are allowed."),
      field<&P::save_epoch>("save_epoch", "", "Save after every epoch, where save_steps is 0."),
      field<&P::save_steps, CountCodec>("save_steps", "updates", "Updates between checkpoints; below 1 a share of the run, 0 is off."),
      field<&P::save_final_model>("save_final_model", "", "Write the model into output_dir at the end."),
      field<&P::seed>("seed", "", "Seed of initial weights, dropout and everything not listed elsewhere."),
      field<&P::data_seed>("data_seed", "", "Seed of the sample order."),
      field<&P::use_deterministic>("use_deterministic", "", "Only deterministic algorithms."),
      field<&P::full_determinism>("full_determinism", "", "The same, and fail where there is none."),
      field<&P::run_name>("run_name", "", "Name of the run in logs."),
      field<&P::metrics_function>("metrics_function", "", "Registered metric for evaluation."),
      field<&P::reward_functions>("reward_functions", "", "Registered rewards; TRL_GRPO and VERL_GRPO alone."),
      field<&P::reward_function_kwargs>("reward_function_kwargs", "", "Arguments of the rewards."),
      field<&P::grpo>("grpo", "", "Settings of TRL_GRPO and VERL_GRPO."),
      field<&P::gkd>("gkd", "", "Settings of TRL_GKD."),
      field<&P::gold>("gold", "", "Settings of TRL_GOLD."),
      field<&P::log_level>("log_level", "", "Least severe message shown: debug, info, warning, error, critical."),
      field<&P::dep_log_level>("dep_log_level", "", "The same for libraries."),
      field<&P::log_examples>("log_examples", "", "Log a few training samples as the model gets them."),
      field<&P::enable_wandb>("enable_wandb", "", "Mapped: metrics go to TensorBoard and JSONL files."),
      field<&P::enable_mlflow>("enable_mlflow", "", "Mapped: metrics go to TensorBoard and JSONL files."),
      field<&P::enable_tensorboard>("enable_tensorboard", "", "Write event files for TensorBoard."),
      field<&P::logging_strategy>("logging_strategy", "", "When metrics are logged: no, steps or epoch."),
      field<&P::logging_dir>("logging_dir", "", "Folder of the event files; unset is output_dir/tensorboard."),
      field<&P::logging_steps, CountCodec>("logging_steps", "updates", "Updates between log lines; below 1 a share of the run."),
      field<&P::logging_first_step>("logging_first_step", "", "Log the first update too."),
      field<&P::eval_strategy>("eval_strategy", "", "When evaluation runs: no, steps or epoch."),
      field<&P::eval_steps, CountCodec>("eval_steps", "updates", "Updates between evaluations; below 1 a share of the run."),
      field<&P::learning_rate>("learning_rate", "", "Peak learning rate."),
      field<&P::lr_scheduler_type>("lr_scheduler_type", "", "linear, cosine, cosine_with_min_lr, constant, polynomial, ..."),
      field<&P::lr_scheduler_kwargs>("lr_scheduler_kwargs", "", "Arguments of the schedule."),
      field<&P::warmup_ratio>("warmup_ratio", "", "Share of the updates that warm up, 0 to 1; not together with warmup_steps."),
      field<&P::warmup_steps, OptionalCountCodec>("warmup_steps", "updates", "Updates that warm up; below 1 a share of the run."),
      field<&P::optimizer>("optimizer", "", "adamw_torch, adamw_torch_fused, adam, sgd, adagrad, rmsprop, adafactor, lion."),
      field<&P::weight_decay>("weight_decay", "", "Decoupled weight decay; biases and norms are left out."),
      field<&P::adam_beta1>("adam_beta1", "", "Decay of Adam's first moment."),
      field<&P::adam_beta2>("adam_beta2", "", "Decay of Adam's second moment."),
      field<&P::adam_epsilon>("adam_epsilon", "", "Added to Adam's denominator."),
      field<&P::sgd_momentum>("sgd_momentum", "", "Momentum of SGD."),
      field<&P::mixed_precision_dtype>("mixed_precision_dtype", "", "Compute in 16 bits over float32 weights."),
      field<&P::compile>("compile", "", "Met natively: there is nothing left to compile."),
      field<&P::include_performance_metrics>("include_performance_metrics", "", "Log token rates and model FLOPs utilisation."),
      field<&P::include_alternative_mfu_metrics>("include_alternative_mfu_metrics", "", "Log further definitions of that utilisation."),
      field<&P::log_model_summary>("log_model_summary", "", "Log the module tree with parameter counts."),
      field<&P::resume_from_checkpoint>("resume_from_checkpoint", "", "checkpoint-N folder to go on from."),
      field<&P::try_resume_from_last_checkpoint>("try_resume_from_last_checkpoint", "", "Go on from the newest whole checkpoint, where there is one."),
      field<&P::dataloader_num_workers>("dataloader_num_workers", "threads", "Threads that prepare batches, or auto; 0 is the main thread."),
      field<&P::dataloader_persistent_workers>("dataloader_persistent_workers", "", "Keep the threads between epochs."),
      field<&P::dataloader_prefetch_factor>("dataloader_prefetch_factor", "batches", "Batches prepared ahead by each thread."),
      field<&P::dataloader_main_process_only>("dataloader_main_process_only", "", "Read on rank 0 and send to the others."),
      field<&P::ddp_find_unused_parameters>("ddp_find_unused_parameters", "", "Search for parameters without a gradient; costs a walk a step."),
      field<&P::max_grad_norm>("max_grad_norm", "", "Gradients are scaled down to this L2 norm; 0 or null is off."),
      field<&P::trainer_kwargs>("trainer_kwargs", "", "Further arguments of the trainer, by Hugging Face's or TRL's names."),
      field<&P::verl_config_overrides>("verl_config_overrides", "", "Settings of VERL_GRPO."),
      field<&P::profiler>("profiler", "", "Traces of operators."),
      field<&P::telemetry>("telemetry", "", "What the run records about itself."),
      field<&P::empty_device_cache_steps>("empty_device_cache_steps", "updates", "Updates between emptyings of the GPU's memory cache."),
      field<&P::nccl_default_timeout_minutes>("nccl_default_timeout_minutes", "minutes", "How long a collective may take; wins over ddp_timeout."),
      field<&P::label_ignore_index>("label_ignore_index", "", "Label that is left out of the loss; unset is -100."),

      field<&P::optim_args>("optim_args", "", "Further arguments of the optimizer: name=value, comma-separated."),
      field<&P::label_smoothing_factor>("label_smoothing_factor", "", "Share of the target spread over all classes, 0 to 1."),
      field<&P::average_tokens_across_devices>("average_tokens_across_devices", "", "Weigh each rank's loss by its number of tokens."),
      field<&P::neftune_noise_alpha>("neftune_noise_alpha", "", "Scale of NEFTune's noise on embeddings."),
      field<&P::auto_find_batch_size>("auto_find_batch_size", "", "Lower the batch size when memory runs out."),
      field<&P::bf16_full_eval>("bf16_full_eval", "", "Evaluate wholly in bfloat16."),
      field<&P::fp16_full_eval>("fp16_full_eval", "", "Evaluate wholly in float16."),
      field<&P::tf32>("tf32", "", "TF32 products on GPUs; unset keeps the library's default."),
      field<&P::use_cpu>("use_cpu", "", "Train on the CPU though there is a GPU."),
      field<&P::logging_nan_inf_filter>("logging_nan_inf_filter", "", "Hide non-finite losses from the log (Hugging Face's default is true)."),
      field<&P::include_num_input_tokens_seen>("include_num_input_tokens_seen", "", "Count tokens: no, all or non_padding."),
      field<&P::log_level_replica>("log_level_replica", "", "Least severe message shown by ranks other than 0."),
      field<&P::disable_tqdm>("disable_tqdm", "", "No progress bar; unset hides it where output is no terminal."),
      field<&P::eval_delay, CountCodec>("eval_delay", "updates or epochs", "No evaluation before, in the unit of eval_strategy."),
      field<&P::eval_on_start>("eval_on_start", "", "Evaluate before the first update too."),
      field<&P::prediction_loss_only>("prediction_loss_only", "", "Evaluate the loss alone."),
      field<&P::save_strategy>("save_strategy", "", "When checkpoints are saved: no, steps, epoch or best; unset follows save_steps and save_epoch."),
      field<&P::save_total_limit>("save_total_limit", "checkpoints", "Checkpoints kept; the newest and the best always are."),
      field<&P::save_only_model>("save_only_model", "", "Save weights without the state that resuming needs."),
      field<&P::overwrite_output_dir>("overwrite_output_dir", "", "Start anew in an output_dir that isn't empty."),
      field<&P::enable_jit_checkpoint>("enable_jit_checkpoint", "", "Save on SIGTERM; ours always does."),
      field<&P::load_best_model_at_end>("load_best_model_at_end", "", "End with the best checkpoint's weights."),
      field<&P::metric_for_best_model>("metric_for_best_model", "", "Metric that decides; unset is the evaluation loss."),
      field<&P::greater_is_better>("greater_is_better", "", "Unset: false for names that end in loss."),
      field<&P::ignore_data_skip>("ignore_data_skip", "", "Resume at the start of the data instead of where it stopped."),
      field<&P::restore_callback_states_from_checkpoint>("restore_callback_states_from_checkpoint", "", "Give callbacks their saved state on resume."),
      field<&P::dataloader_drop_last>("dataloader_drop_last", "", "Leave out a short last batch."),
      field<&P::dataloader_pin_memory>("dataloader_pin_memory", "", "Page-lock batches for faster copies to a GPU."),
      field<&P::dataloader_in_order>("dataloader_in_order", "", "Hand out batches in sampling order."),
      field<&P::remove_unused_columns>("remove_unused_columns", "", "Drop columns that the model does not take."),
      field<&P::label_names>("label_names", "", "Fields that hold labels; unset is labels."),
      field<&P::train_sampling_strategy>("train_sampling_strategy", "", "random, sequential, group_by_length or batch_rebalance."),
      field<&P::length_column_name>("length_column_name", "", "Field that holds a sample's length."),
      field<&P::accelerator_config>("accelerator_config", "", "split_batches, dispatch_batches, even_batches, use_seedable_sampler."),
      field<&P::ddp_bucket_cap_mb>("ddp_bucket_cap_mb", "MiB", "Gradients reduced at once."),
      field<&P::ddp_broadcast_buffers>("ddp_broadcast_buffers", "", "Send rank 0's buffers to every rank before forward."),
      field<&P::ddp_static_graph>("ddp_static_graph", "", "Every step uses the same parameters."),
      field<&P::ddp_backend>("ddp_backend", "", "gloo or nccl; unset follows the device."),
      field<&P::ddp_timeout>("ddp_timeout", "seconds", "How long a collective may take."),

      field<&P::early_stopping_patience>("early_stopping_patience", "evaluations", "Stop after this many without an improvement; unset is off."),
      field<&P::early_stopping_threshold>("early_stopping_threshold", "", "Smallest change of the metric that counts as one."),
      field<&P::class_weights>("class_weights", "", "Weight of each class in the cross entropy."),
      field<&P::ema_decay>("ema_decay", "", "Keep an exponential moving average of the weights with this decay."),
      field<&P::parameter_groups>("parameter_groups", "", "Learning rate, decay or freezing by parameter name; the first match counts."),
      field<&P::nan_policy>("nan_policy", "", "On a loss or gradient that isn't finite: stop, or leave the update out."),
      field<&P::save_hf_optimizer>("save_hf_optimizer", "", "Write Hugging Face's optimizer.pt and scheduler.pt too."),
      field<&P::log_histograms>("log_histograms", "", "Log histograms of weights and gradients."),
      field<&P::unused_hf_arguments>("unused_hf_arguments", "", "Arguments of Hugging Face's Trainer that mean nothing here; reported by config check."),
  };
  return kFields;
}

std::string effective_save_strategy(const TrainingParams& training) {
  if (training.save_strategy) return to_lower(*training.save_strategy);
  if (training.save_steps > 0) return "steps";
  return training.save_epoch ? "epoch" : "no";
}

}  // namespace oumi
