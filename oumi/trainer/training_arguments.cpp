#include "oumi/trainer/training_arguments.h"

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

void require(bool condition, const char* field, const std::string& expected, const std::string& got,
             const std::string& hint = "") {
  if (!condition) throw UserError(std::string("training.") + field, "expected " + expected + ", got " + got, hint);
}

void require_one_of(const std::string& value, const char* field, const std::vector<std::string>& choices) {
  for (const std::string& choice : choices) {
    if (value == choice) return;
  }
  throw UserError(std::string("training.") + field, "expected one of " + join(choices, ", ") + ", got '" + value + "'",
                  suggestion(value, choices));
}

// A count (whole, >= 1) or a share (0 < x < 1).
void require_ratio(double value, const char* field, bool zero_allowed) {
  const bool ok = (zero_allowed && value == 0) || (value > 0 && (value < 1 || value == std::floor(value)));
  require(ok, field, "a whole number of steps, or a share of the run below 1", cat(value));
}

}  // namespace

void validate(const TrainingArguments& args) {
  require(!args.output_dir.empty(), "output_dir", "a folder", "an empty string");
  require(args.per_device_train_batch_size >= 1, "per_device_train_batch_size", "at least 1",
          cat(args.per_device_train_batch_size));
  require(args.per_device_eval_batch_size >= 1, "per_device_eval_batch_size", "at least 1",
          cat(args.per_device_eval_batch_size));
  require(args.gradient_accumulation_steps >= 1, "gradient_accumulation_steps", "at least 1",
          cat(args.gradient_accumulation_steps));
  require(args.max_steps > 0 || args.num_train_epochs > 0, "num_train_epochs", "more than 0, or training.max_steps above 0",
          cat(args.num_train_epochs));
  require(std::isfinite(args.learning_rate) && args.learning_rate >= 0, "learning_rate", "a finite number of at least 0",
          cat(args.learning_rate));
  require(args.weight_decay >= 0, "weight_decay", "at least 0", cat(args.weight_decay));
  require(args.max_grad_norm >= 0, "max_grad_norm", "at least 0", cat(args.max_grad_norm));
  require(args.warmup_steps >= 0 && (args.warmup_steps < 1 || args.warmup_steps == std::floor(args.warmup_steps)),
          "warmup_steps", "a whole number of steps, or a share of the run below 1", cat(args.warmup_steps));
  require(args.label_smoothing_factor >= 0 && args.label_smoothing_factor < 1, "label_smoothing_factor", "a number in [0, 1)",
          cat(args.label_smoothing_factor));
  require(!args.ema_decay || (*args.ema_decay > 0 && *args.ema_decay < 1), "ema_decay", "a number in (0, 1)",
          cat(args.ema_decay.value_or(0)));
  for (const double weight : args.class_weights)
    require(weight >= 0 && std::isfinite(weight), "class_weights", "finite numbers of at least 0", cat(weight));
  require_one_of(args.logging_strategy, "logging_strategy", {"no", "steps", "epoch"});
  require_one_of(args.eval_strategy, "eval_strategy", {"no", "steps", "epoch"});
  require_one_of(args.save_strategy, "save_strategy", {"no", "steps", "epoch", "best"});
  require_one_of(args.include_num_input_tokens_seen, "include_num_input_tokens_seen", {"no", "all", "non_padding"});
  require_one_of(args.train_sampling_strategy, "train_sampling_strategy", {"random", "sequential", "group_by_length"});
  if (args.logging_strategy == "steps") require_ratio(args.logging_steps, "logging_steps", /*zero_allowed=*/false);
  if (args.eval_strategy == "steps" && args.eval_steps) require_ratio(*args.eval_steps, "eval_steps", /*zero_allowed=*/true);
  if (args.save_strategy == "steps") require_ratio(args.save_steps, "save_steps", /*zero_allowed=*/false);
  require(!args.save_total_limit || *args.save_total_limit >= 1, "save_total_limit", "at least 1",
          cat(args.save_total_limit.value_or(0)));

  if (args.load_best_model_at_end) {
    require(args.eval_strategy != "no", "load_best_model_at_end", "an eval_strategy other than 'no'", "'no'",
            "set training.eval_strategy");
    if (args.save_strategy != "best") {
      require(args.save_strategy == args.eval_strategy, "load_best_model_at_end",
              "save_strategy and eval_strategy to be the same",
              "'" + args.save_strategy + "' and '" + args.eval_strategy + "'");
    }
    const double eval_steps = args.eval_steps.value_or(0) > 0 ? *args.eval_steps : args.logging_steps;
    if (args.save_strategy == "steps" && args.save_steps >= 1 && eval_steps >= 1) {
      require(std::fmod(args.save_steps, eval_steps) == 0, "load_best_model_at_end",
              "save_steps to be a multiple of eval_steps", cat(args.save_steps, " and ", eval_steps));
    }
  }
  if (args.early_stopping_patience) {
    require(*args.early_stopping_patience >= 1, "early_stopping_patience", "at least 1", cat(*args.early_stopping_patience));
    require(args.eval_strategy != "no", "early_stopping_patience", "an eval_strategy other than 'no'", "'no'",
            "set training.eval_strategy");
  }
  if (args.save_strategy == "best") {
    require(args.eval_strategy != "no", "save_strategy", "an eval_strategy other than 'no' for 'best'", "'no'",
            "set training.eval_strategy");
  }
}

Json to_json(const TrainingArguments& args) {
  return Json{{"output_dir", args.output_dir},
              {"num_train_epochs", args.num_train_epochs},
              {"per_device_train_batch_size", args.per_device_train_batch_size},
              {"per_device_eval_batch_size", args.per_device_eval_batch_size},
              {"warmup_steps", args.warmup_steps},
              {"weight_decay", args.weight_decay},
              {"max_steps", args.max_steps},
              {"gradient_accumulation_steps", args.gradient_accumulation_steps},
              {"learning_rate", args.learning_rate},
              {"lr_scheduler_type", args.lr_scheduler_type},
              {"optim", args.optim},
              {"max_grad_norm", args.max_grad_norm},
              {"seed", args.seed},
              {"bf16", args.bf16}};
}

}  // namespace oumi
