#include <regex>

#include "oumi/config/rules.h"

namespace oumi {
namespace {

void validate_length(const TrainingParams& t) {
  check_at_least<std::int64_t>("training.per_device_train_batch_size", t.per_device_train_batch_size, 1);
  check_at_least<std::int64_t>("training.per_device_eval_batch_size", t.per_device_eval_batch_size, 1);
  check_at_least<std::int64_t>("training.gradient_accumulation_steps", t.gradient_accumulation_steps, 1);
  if (!std::isfinite(t.num_train_epochs)) throw_rule("training.num_train_epochs", "a finite number", shown(t.num_train_epochs));
  if (t.max_steps <= 0 && t.num_train_epochs <= 0) {
    throw_rule("training.max_steps", "max_steps or num_train_epochs above 0",
               cat(t.max_steps, " and ", shown(t.num_train_epochs)));
  }
  check_at_least<std::int64_t>("training.seed", t.seed, 0);
  check_at_least<std::int64_t>("training.data_seed", t.data_seed, 0);
}

void validate_optimizer(const TrainingParams& t) {
  check_at_least("training.learning_rate", t.learning_rate, 0.0);
  check_at_least("training.weight_decay", t.weight_decay, 0.0);
  check_interval("training.adam_beta1", t.adam_beta1, {.with_high = false});
  check_interval("training.adam_beta2", t.adam_beta2, {.with_high = false});
  check_at_least("training.adam_epsilon", t.adam_epsilon, 0.0);
  check_at_least("training.sgd_momentum", t.sgd_momentum, 0.0);
  if (t.max_grad_norm) check_at_least("training.max_grad_norm", *t.max_grad_norm, 0.0);
  if (t.warmup_ratio) check_interval("training.warmup_ratio", *t.warmup_ratio, {});
  if (t.warmup_steps) check_count("training.warmup_steps", *t.warmup_steps);
  if (t.warmup_ratio && t.warmup_steps) {
    throw_rule("training.warmup_ratio", "warmup_ratio or warmup_steps",
               cat("both, ", shown(*t.warmup_ratio), " and ", shown(*t.warmup_steps)), "remove one of the two");
  }
  check_interval("training.label_smoothing_factor", t.label_smoothing_factor, {});
  if (t.neftune_noise_alpha) check_at_least("training.neftune_noise_alpha", *t.neftune_noise_alpha, 0.0);
  if (t.ema_decay) check_interval("training.ema_decay", *t.ema_decay, {.with_low = false, .with_high = false});
  for (std::size_t i = 0; i < t.class_weights.size(); ++i)
    check_at_least(cat("training.class_weights[", i, "]"), t.class_weights[i], 0.0);
  for (std::size_t i = 0; i < t.parameter_groups.size(); ++i) {
    const ParameterGroupParams& group = t.parameter_groups[i];
    const std::string key = cat("training.parameter_groups[", i, "]");
    if (group.pattern.empty())
      throw UserError(key + ".pattern", "is required and missing", "give a regular expression for parameter names");
    try {
      const std::regex compiled(group.pattern);
    } catch (const std::regex_error& error) {
      throw_rule(key + ".pattern", "a regular expression", shown(group.pattern), error.what());
    }
    if (group.learning_rate) check_at_least(key + ".learning_rate", *group.learning_rate, 0.0);
    if (group.weight_decay) check_at_least(key + ".weight_decay", *group.weight_decay, 0.0);
  }
}

void validate_schedule(const TrainingParams& t) {
  check_word("training.logging_strategy", t.logging_strategy, {"no", "steps", "epoch"});
  check_word("training.eval_strategy", t.eval_strategy, {"no", "steps", "epoch"});
  if (t.save_strategy) check_word("training.save_strategy", *t.save_strategy, {"no", "steps", "epoch", "best"});
  check_count("training.save_steps", t.save_steps);
  check_count("training.logging_steps", t.logging_steps);
  check_count("training.eval_steps", t.eval_steps);
  check_at_least("training.eval_delay", t.eval_delay, 0.0);
  if (t.logging_steps == 0 && to_lower(t.logging_strategy) == "steps") {
    throw_rule("training.logging_steps", "above 0 with logging_strategy steps", "0",
               "logging_strategy=no switches logging off");
  }
  if (t.save_strategy && to_lower(*t.save_strategy) == "steps" && t.save_steps == 0) {
    throw_rule("training.save_steps", "above 0 with save_strategy steps", "0", "save_strategy=no switches checkpoints off");
  }
  if (t.save_total_limit) check_at_least<std::int64_t>("training.save_total_limit", *t.save_total_limit, 1);
  if (t.early_stopping_patience) {
    check_at_least<std::int64_t>("training.early_stopping_patience", *t.early_stopping_patience, 1);
    if (to_lower(t.eval_strategy) == "no") {
      throw_rule("training.eval_strategy", "steps or epoch with early_stopping_patience", "no",
                 "nothing is measured without evaluation");
    }
  }
  check_at_least("training.early_stopping_threshold", t.early_stopping_threshold, 0.0);
}

// Hugging Face's rule: the best checkpoint must be one that was both evaluated and saved.
void validate_best_model(const TrainingParams& t) {
  const std::string save = effective_save_strategy(t);
  const std::string eval = to_lower(t.eval_strategy);
  if (save == "best" && eval == "no") throw_rule("training.eval_strategy", "steps or epoch with save_strategy best", "no");
  if (!t.load_best_model_at_end || save == "best") return;
  if (save != eval) {
    throw_rule("training.eval_strategy", "the save strategy, " + save + ", with load_best_model_at_end", eval,
               "the best model is chosen among checkpoints that were evaluated");
  }
  if (eval == "no") throw_rule("training.eval_strategy", "steps or epoch with load_best_model_at_end", "no");
  if (eval != "steps") return;
  const double eval_steps = t.eval_steps == 0 ? t.logging_steps : t.eval_steps;
  if ((eval_steps < 1) != (t.save_steps < 1)) {
    throw_rule("training.eval_steps",
               "steps or shares of the run for both eval_steps and save_steps with load_best_model_at_end", shown(eval_steps));
  }
  // Shares are compared in millionths: 0.1 and 0.3 are no exact multiples in binary.
  const double scale = eval_steps < 1 ? 1e6 : 1;
  if (std::fmod(std::round(t.save_steps * scale), std::round(eval_steps * scale)) != 0) {
    throw_rule("training.save_steps", "a multiple of eval_steps, " + shown(eval_steps) + ", with load_best_model_at_end",
               shown(t.save_steps));
  }
}

void validate_loader_and_ranks(const TrainingParams& t) {
  if (const auto* word = std::get_if<std::string>(&t.dataloader_num_workers)) {
    if (*word != "auto") throw_rule("training.dataloader_num_workers", "an int of at least 0, or auto", shown(*word));
  } else {
    check_at_least<std::int64_t>("training.dataloader_num_workers", std::get<std::int64_t>(t.dataloader_num_workers), 0);
  }
  if (t.dataloader_prefetch_factor)
    check_at_least<std::int64_t>("training.dataloader_prefetch_factor", *t.dataloader_prefetch_factor, 1);
  check_word("training.train_sampling_strategy", t.train_sampling_strategy,
             {"random", "sequential", "group_by_length", "batch_rebalance"});
  if (t.empty_device_cache_steps)
    check_at_least<std::int64_t>("training.empty_device_cache_steps", *t.empty_device_cache_steps, 1);
  if (t.nccl_default_timeout_minutes) {
    check_interval("training.nccl_default_timeout_minutes", *t.nccl_default_timeout_minutes, {0, 1e9, false, true});
  }
  check_at_least<std::int64_t>("training.ddp_timeout", t.ddp_timeout, 1);
  if (t.ddp_bucket_cap_mb) check_at_least<std::int64_t>("training.ddp_bucket_cap_mb", *t.ddp_bucket_cap_mb, 1);
  if (t.ddp_backend) check_word("training.ddp_backend", *t.ddp_backend, {"gloo", "nccl"});
}

void validate_logging(const TrainingParams& t) {
  const std::vector<std::string> levels = {"debug", "info", "warning", "error", "critical", "detail", "passive"};
  check_word("training.log_level", t.log_level, levels);
  check_word("training.dep_log_level", t.dep_log_level, levels);
  check_word("training.log_level_replica", t.log_level_replica, levels);
  check_word("training.include_num_input_tokens_seen", t.include_num_input_tokens_seen,
             {"no", "all", "non_padding", "true", "false"});
  const ProfilerScheduleParams& schedule = t.profiler.schedule;
  const std::string key = "training.profiler.schedule.";
  check_at_least<std::int64_t>(key + "wait", schedule.wait, 0);
  check_at_least<std::int64_t>(key + "warmup", schedule.warmup, 0);
  check_at_least<std::int64_t>(key + "active", schedule.active, 1);
  check_at_least<std::int64_t>(key + "repeat", schedule.repeat, 0);
  check_at_least<std::int64_t>(key + "skip_first", schedule.skip_first, 0);
}

}  // namespace

void validate_training(const TrainingParams& training) {
  validate_length(training);
  validate_optimizer(training);
  validate_schedule(training);
  validate_best_model(training);
  validate_loader_and_ranks(training);
  validate_logging(training);
}

}  // namespace oumi
