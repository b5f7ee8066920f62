// How many updates a run has, and when it logs, evaluates and saves: HF Trainer's arithmetic, free of tensors.
#pragma once

#include <cstdint>
#include <optional>

#include "oumi/trainer/training_arguments.h"

namespace oumi {

struct StepPlan {
  std::int64_t max_steps = 0;          // updates in the run
  std::int64_t num_train_epochs = 0;   // epochs that are begun
  std::int64_t batches_per_epoch = 0;  // micro-batches; of an iterable dataset without a length: max_steps * accumulation
  std::int64_t updates_per_epoch = 0;  // the last one of an epoch takes the micro-batches that are left
  std::int64_t warmup_steps = 0;
  std::int64_t logging_steps = 0, eval_steps = 0, save_steps = 0;
};

// `batches_per_epoch` is nullopt for an iterable dataset without a length, which needs args.max_steps.
// Throws UserError when there is nothing to train on.
StepPlan plan_steps(const TrainingArguments& args, std::optional<std::int64_t> batches_per_epoch);

}  // namespace oumi
