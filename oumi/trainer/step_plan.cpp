#include "oumi/trainer/step_plan.h"

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"

namespace oumi {
namespace {

std::int64_t resolve(double steps_or_share, std::int64_t max_steps) {
  if (steps_or_share >= 1) return static_cast<std::int64_t>(steps_or_share);
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(max_steps) * steps_or_share));
}

}  // namespace

StepPlan plan_steps(const TrainingArguments& args, std::optional<std::int64_t> batches_per_epoch) {
  StepPlan plan;
  const std::int64_t accumulation = args.gradient_accumulation_steps;
  if (batches_per_epoch) {
    if (*batches_per_epoch == 0) {
      throw UserError("data.train", "the training set yields no batch",
                      "it is empty, or smaller than one batch with dataloader_drop_last");
    }
    plan.batches_per_epoch = *batches_per_epoch;
    plan.updates_per_epoch = std::max<std::int64_t>((*batches_per_epoch + accumulation - 1) / accumulation, 1);
    if (args.max_steps > 0) {
      plan.max_steps = args.max_steps;
      plan.num_train_epochs = (args.max_steps + plan.updates_per_epoch - 1) / plan.updates_per_epoch;
    } else {
      plan.max_steps =
          static_cast<std::int64_t>(std::ceil(args.num_train_epochs * static_cast<double>(plan.updates_per_epoch)));
      plan.num_train_epochs = static_cast<std::int64_t>(std::ceil(args.num_train_epochs));
    }
  } else {
    if (args.max_steps <= 0) {
      throw UserError("training.max_steps",
                      "expected a number of steps, since the training set is a stream without a length, got none",
                      "set training.max_steps");
    }
    plan.max_steps = args.max_steps;
    plan.num_train_epochs = args.max_steps;  // as many as it takes: the stream starts again at its end
    plan.batches_per_epoch = args.max_steps * accumulation;
    plan.updates_per_epoch = args.max_steps;
  }
  plan.warmup_steps = resolve(args.warmup_steps, plan.max_steps);
  plan.logging_steps = resolve(args.logging_steps, plan.max_steps);
  const double eval_steps = args.eval_steps.value_or(0) > 0 ? *args.eval_steps : args.logging_steps;
  plan.eval_steps = resolve(eval_steps, plan.max_steps);
  plan.save_steps = resolve(args.save_steps, plan.max_steps);
  return plan;
}

}  // namespace oumi
