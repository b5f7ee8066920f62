// Learning-rate factors as functions of the step, computed in double in the order of operations of transformers 5.23, so
// that the learning rates are the same doubles. No torch.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

struct ScheduleOptions {
  std::string type = "linear";    // case-insensitive
  std::int64_t warmup_steps = 0;  // resolve_warmup_steps gives it from Hugging Face's number-or-ratio
  std::int64_t total_steps = 0;   // updates of the whole run
  Json kwargs = Json::object();   // lr_scheduler_kwargs
};

// step (from 0) -> factor on the base learning rate.
using LrCurve = std::function<double(std::int64_t)>;

// All schedule names.
const std::vector<std::string>& schedule_names();

// The lower-cased name. Throws UserError with the nearest one for a name that does not exist.
std::string checked_schedule_name(const std::string& name);

// True for reduce_lr_on_plateau and greedy, which follow a metric and have no curve.
bool is_metric_schedule(const std::string& name);

// The curve of a schedule of the step. `learning_rate` is the optimizer's default one, to which min_lr and lr_end relate.
// Throws UserError: unknown name, unknown or missing kwarg, value out of range.
//   cosine                      num_cycles 0.5
//   cosine_with_restarts        num_cycles 1
//   polynomial                  lr_end 1e-7, power 1
//   inverse_sqrt                timescale (warm-up steps, or 10000)
//   cosine_with_min_lr          num_cycles 0.5; one of min_lr, min_lr_rate
//   cosine_warmup_with_min_lr   as above, and warmup_lr_rate
//   warmup_stable_decay         num_decay_steps (required), num_stable_steps, warmup_type linear, decay_type cosine (linear,
//                               cosine, 1-sqrt), min_lr_ratio 0, num_cycles 0.5
LrCurve make_lr_curve(const ScheduleOptions& options, double learning_rate);

// Hugging Face's warmup_steps: a count from 1 on, a share of `total_steps` (rounded up) below 1.
std::int64_t resolve_warmup_steps(double warmup_steps, std::int64_t total_steps);

// Oumi's warmup_ratio, in [0, 1]: a share of `total_steps` rounded down; 1 is the whole run.
std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps);

}  // namespace oumi
