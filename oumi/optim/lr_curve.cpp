#include "oumi/optim/lr_curve.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "oumi/base/error.h"
#include "oumi/base/kwargs.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr double kPi = std::numbers::pi;

// The place that errors name.
const char* const kKwargs = "training.lr_scheduler_kwargs";

double count(std::int64_t steps) { return static_cast<double>(steps); }
double at_least_one(std::int64_t steps) { return count(std::max<std::int64_t>(1, steps)); }

// Python's float % float: the result has the divisor's sign.
double python_modulo(double value, double divisor) {
  const double remainder = std::fmod(value, divisor);
  return remainder != 0.0 && (remainder < 0.0) != (divisor < 0.0) ? remainder + divisor : remainder;
}

template <class T>
std::optional<T> optional(const Kwargs& kwargs, const std::string& name) {
  const Json* value = kwargs.find(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  return kwargs.require<T>(name);
}

[[noreturn]] void bad_kwarg(const std::string& name, const std::string& expected, const std::string& got) {
  throw UserError(cat(kKwargs, ".", name), cat("expected ", expected, ", got ", got));
}

// The linear ramp that most schedules begin with; `after` gives the rest.
LrCurve with_warmup(std::int64_t warmup, LrCurve after) {
  return [warmup, after = std::move(after)](std::int64_t step) {
    return step < warmup ? count(step) / at_least_one(warmup) : after(step);
  };
}

LrCurve linear(const ScheduleOptions& options) {
  return with_warmup(options.warmup_steps, [warmup = options.warmup_steps, total = options.total_steps](std::int64_t step) {
    return std::max(0.0, count(total - step) / at_least_one(total - warmup));
  });
}

// min_lr or min_lr_rate as a share of the base rate; exactly one must be given.
double minimum_rate(const Kwargs& kwargs, double learning_rate) {
  const auto minimum = optional<double>(kwargs, "min_lr");
  const auto rate = optional<double>(kwargs, "min_lr_rate");
  if (minimum.has_value() == rate.has_value()) {
    throw UserError(kKwargs, cat("expected one of min_lr and min_lr_rate, got ", minimum ? "both" : "neither"));
  }
  return minimum ? *minimum / learning_rate : *rate;
}

LrCurve cosine(const ScheduleOptions& options, double cycles, double minimum) {
  return with_warmup(options.warmup_steps,
                     [warmup = options.warmup_steps, total = options.total_steps, cycles, minimum](std::int64_t step) {
                       const double progress = count(step - warmup) / at_least_one(total - warmup);
                       double factor = 0.5 * (1.0 + std::cos(kPi * cycles * 2.0 * progress));
                       factor = factor * (1 - minimum) + minimum;
                       return std::max(0.0, factor);
                     });
}

LrCurve cosine_with_restarts(const ScheduleOptions& options, double cycles) {
  return with_warmup(options.warmup_steps,
                     [warmup = options.warmup_steps, total = options.total_steps, cycles](std::int64_t step) {
                       const double progress = count(step - warmup) / at_least_one(total - warmup);
                       if (progress >= 1.0) return 0.0;
                       return std::max(0.0, 0.5 * (1.0 + std::cos(kPi * python_modulo(cycles * progress, 1.0))));
                     });
}

LrCurve polynomial(const ScheduleOptions& options, const Kwargs& kwargs, double initial) {
  const double end = kwargs.get<double>("lr_end", 1e-7);
  const double power = kwargs.get<double>("power", 1.0);
  if (!(initial > end)) bad_kwarg("lr_end", cat("a value below the learning rate ", initial), cat(end));
  return with_warmup(options.warmup_steps,
                     [warmup = options.warmup_steps, total = options.total_steps, end, power, initial](std::int64_t step) {
                       // A run that is all warm-up has no step in between: Transformers divides by zero there.
                       if (step > total || total <= warmup) return end / initial;
                       const double range = initial - end;
                       const double remaining = 1 - count(step - warmup) / count(total - warmup);
                       const double decay = range * std::pow(remaining, power) + end;
                       return decay / initial;
                     });
}

LrCurve inverse_sqrt(const ScheduleOptions& options, const Kwargs& kwargs) {
  const std::int64_t warmup = options.warmup_steps;
  const double timescale = optional<double>(kwargs, "timescale").value_or(count(warmup != 0 ? warmup : 10'000));
  if (!(timescale > 0)) bad_kwarg("timescale", "a positive number", cat(timescale));
  return with_warmup(warmup, [warmup, timescale](std::int64_t step) {
    const double shift = timescale - count(warmup);
    return 1.0 / std::sqrt((count(step) + shift) / timescale);
  });
}

LrCurve cosine_warmup_with_min_lr(const ScheduleOptions& options, const Kwargs& kwargs, double learning_rate) {
  const double cycles = kwargs.get<double>("num_cycles", 0.5);
  const double minimum = minimum_rate(kwargs, learning_rate);
  const auto start = optional<double>(kwargs, "warmup_lr_rate");
  return [warmup = count(options.warmup_steps), total = count(options.total_steps), cycles, minimum, start](std::int64_t at) {
    const double step = count(at);
    if (step < warmup) {
      if (!start) return (step + 1.0) / std::max(1.0, warmup);
      return *start + (1.0 - *start) * step / std::max(1.0, warmup - 1);
    }
    const double progress = (step - warmup + 1.0) / std::max(1.0, total - warmup);
    double factor = 0.5 * (1.0 + std::cos(kPi * cycles * 2.0 * progress));
    factor = factor * (1 - minimum) + minimum;
    return std::max(0.0, factor);
  };
}

enum class Shape { kLinear, kCosine, kOneMinusSqrt };

Shape shape_of(const Kwargs& kwargs, const std::string& name, const std::string& fallback) {
  const std::string value = kwargs.get<std::string>(name, fallback);
  if (value == "linear") return Shape::kLinear;
  if (value == "cosine") return Shape::kCosine;
  if (value == "1-sqrt") return Shape::kOneMinusSqrt;
  bad_kwarg(name, "linear, cosine or 1-sqrt", "'" + value + "'");
}

LrCurve warmup_stable_decay(const ScheduleOptions& options, const Kwargs& kwargs) {
  const std::int64_t warmup = options.warmup_steps;
  const std::int64_t decay = kwargs.require<std::int64_t>("num_decay_steps");
  const std::int64_t stable = optional<std::int64_t>(kwargs, "num_stable_steps").value_or(options.total_steps - warmup - decay);
  const Shape rise = shape_of(kwargs, "warmup_type", "linear");
  const Shape fall = shape_of(kwargs, "decay_type", "cosine");
  const double minimum = kwargs.get<double>("min_lr_ratio", 0.0);
  const double cycles = kwargs.get<double>("num_cycles", 0.5);
  if (decay < 0) bad_kwarg("num_decay_steps", "a count of 0 or more", cat(decay));
  return [=](std::int64_t step) {
    double factor = 0.0;
    if (step < warmup) {
      const double progress = count(step) / at_least_one(warmup);
      if (rise == Shape::kLinear) factor = progress;
      if (rise == Shape::kCosine) factor = 0.5 * (1.0 - std::cos(kPi * progress));
      if (rise == Shape::kOneMinusSqrt) factor = 1.0 - std::sqrt(1.0 - progress);
    } else if (step < warmup + stable) {
      return 1.0;
    } else if (step < warmup + stable + decay) {
      const double progress = count(step - warmup - stable) / at_least_one(decay);
      if (fall == Shape::kLinear) factor = 1.0 - progress;
      if (fall == Shape::kCosine) factor = 0.5 * (1.0 + std::cos(kPi * cycles * 2.0 * progress));
      if (fall == Shape::kOneMinusSqrt) factor = 1.0 - std::sqrt(progress);
    } else {
      return minimum;
    }
    factor = factor * (1.0 - minimum) + minimum;
    return std::max(0.0, factor);
  };
}

LrCurve curve_named(const std::string& name, const ScheduleOptions& options, const Kwargs& kwargs, double learning_rate) {
  if (name == "constant") return [](std::int64_t) { return 1.0; };
  if (name == "constant_with_warmup") return with_warmup(options.warmup_steps, [](std::int64_t) { return 1.0; });
  if (name == "inverse_sqrt") return inverse_sqrt(options, kwargs);
  if (name == "warmup_stable_decay") return warmup_stable_decay(options, kwargs);
  if (name == "linear") return linear(options);
  if (name == "cosine") return cosine(options, kwargs.get<double>("num_cycles", 0.5), 0.0);
  if (name == "cosine_with_restarts") return cosine_with_restarts(options, kwargs.get<double>("num_cycles", 1.0));
  if (name == "polynomial") return polynomial(options, kwargs, learning_rate);
  if (name == "cosine_with_min_lr") {
    const double cycles = kwargs.get<double>("num_cycles", 0.5);
    return cosine(options, cycles, minimum_rate(kwargs, learning_rate));
  }
  if (name == "cosine_warmup_with_min_lr") return cosine_warmup_with_min_lr(options, kwargs, learning_rate);
  throw InternalError(cat("no learning-rate curve for '", name, "'"));
}

}  // namespace

const std::vector<std::string>& schedule_names() {
  static const std::vector<std::string> names = {"linear",
                                                 "cosine",
                                                 "polynomial",
                                                 "cosine_with_restarts",
                                                 "constant",
                                                 "constant_with_warmup",
                                                 "inverse_sqrt",
                                                 "reduce_lr_on_plateau",
                                                 "greedy",
                                                 "cosine_with_min_lr",
                                                 "warmup_stable_decay",
                                                 "cosine_warmup_with_min_lr"};
  return names;
}

std::string checked_schedule_name(const std::string& name) {
  const std::string lower = to_lower(name);
  const auto& names = schedule_names();
  if (std::find(names.begin(), names.end(), lower) == names.end()) {
    throw UserError("training.lr_scheduler_type", cat("unknown schedule '", name, "'"), suggestion(lower, names));
  }
  return lower;
}

bool is_metric_schedule(const std::string& name) {
  const std::string lower = to_lower(name);
  return lower == "reduce_lr_on_plateau" || lower == "greedy";
}

LrCurve make_lr_curve(const ScheduleOptions& options, double learning_rate) {
  if (options.warmup_steps < 0) {
    throw UserError("training.warmup_steps", cat("expected 0 or more, got ", options.warmup_steps));
  }
  if (options.total_steps < 0) throw InternalError(cat("a run of ", options.total_steps, " steps"));
  const Kwargs kwargs(options.kwargs.is_null() ? Json::object() : options.kwargs, kKwargs);
  LrCurve curve = curve_named(checked_schedule_name(options.type), options, kwargs, learning_rate);
  kwargs.check_all_read();
  return curve;
}

std::int64_t resolve_warmup_steps(double warmup_steps, std::int64_t total_steps) {
  if (!(warmup_steps >= 0) || !std::isfinite(warmup_steps)) {
    throw UserError("training.warmup_steps", cat("expected a count, or a share of the run below 1, got ", warmup_steps));
  }
  if (warmup_steps >= 1) return static_cast<std::int64_t>(warmup_steps);
  return static_cast<std::int64_t>(std::ceil(count(total_steps) * warmup_steps));
}

std::int64_t warmup_steps_from_ratio(double ratio, std::int64_t total_steps) {
  if (!(ratio >= 0 && ratio <= 1)) {
    throw UserError("training.warmup_ratio", cat("expected a value from 0 to 1, got ", ratio));
  }
  return static_cast<std::int64_t>(ratio * count(total_steps));
}

}  // namespace oumi
