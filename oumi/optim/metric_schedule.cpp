#include "oumi/optim/metric_schedule.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/kwargs.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const char* const kScheduleKwargs = "training.lr_scheduler_kwargs";

const Json& field(const Json& state, const std::string& name) {
  const auto found = state.find(name);
  if (found == state.end()) throw UserError("scheduler state", cat("field '", name, "': expected a value, got none"));
  return *found;
}

double number(const Json& state, const std::string& name) { return number_from_json(field(state, name), name); }

std::int64_t integer(const Json& state, const std::string& name) {
  const Json& value = field(state, name);
  if (!value.is_number_integer()) {
    throw UserError("scheduler state", cat("field '", name, "': expected int, got ", json_type_name(value)));
  }
  return value.get<std::int64_t>();
}

bool boolean(const Json& state, const std::string& name) {
  const Json& value = field(state, name);
  if (!value.is_boolean()) {
    throw UserError("scheduler state", cat("field '", name, "': expected bool, got ", json_type_name(value)));
  }
  return value.get<bool>();
}

std::string word(const Json& state, const std::string& name) {
  const Json& value = field(state, name);
  if (!value.is_string()) {
    throw UserError("scheduler state", cat("field '", name, "': expected str, got ", json_type_name(value)));
  }
  return value.get<std::string>();
}

Json json_numbers(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(number_to_json(value));
  return list;
}

// `size`: what the list must hold; negative for any number.
std::vector<double> numbers(const Json& state, const std::string& name, std::ptrdiff_t size) {
  const Json& list = field(state, name);
  if (!list.is_array() || (size >= 0 && static_cast<std::ptrdiff_t>(list.size()) != size)) {
    throw UserError("scheduler state", cat("field '", name, "': expected a list of ", size, " numbers, got ", list.dump()),
                    "the optimizer's parameter groups must be those of the saved run");
  }
  std::vector<double> values;
  for (const Json& value : list) values.push_back(number_from_json(value, name));
  return values;
}

// One value for all groups, or a list with one a group.
std::vector<double> per_group(const Kwargs& kwargs, const std::string& name, double fallback, std::size_t groups) {
  const Json* value = kwargs.find(name);
  if (value == nullptr || !value->is_array()) return std::vector<double>(groups, kwargs.get<double>(name, fallback));
  const auto values = kwargs.require<std::vector<double>>(name);
  if (values.size() != groups) {
    throw UserError(cat(kScheduleKwargs, ".", name),
                    cat("expected ", groups, " values, one a parameter group, got ", values.size()));
  }
  return values;
}

// What both schedules share: when is a metric better than the best so far.
struct Comparison {
  Comparison(const Kwargs& kwargs, double default_threshold, const std::string& default_threshold_mode)
      : mode(kwargs.get<std::string>("mode", "min")),
        threshold(kwargs.get<double>("threshold", default_threshold)),
        threshold_mode(kwargs.get<std::string>("threshold_mode", default_threshold_mode)) {
    check(kScheduleKwargs);
  }

  void check(const std::string& where) const {
    if (mode != "min" && mode != "max") throw UserError(cat(where, ".mode"), cat("expected min or max, got '", mode, "'"));
    if (threshold_mode != "rel" && threshold_mode != "abs") {
      throw UserError(cat(where, ".threshold_mode"), cat("expected rel or abs, got '", threshold_mode, "'"));
    }
  }

  double worst() const { return mode == "min" ? kInfinity : -kInfinity; }

  bool is_better(double current, double best) const {
    if (mode == "min") return current < (threshold_mode == "rel" ? best * (1.0 - threshold) : best - threshold);
    return current > (threshold_mode == "rel" ? best * (1.0 + threshold) : best + threshold);
  }

  void load(const Json& state) {
    mode = word(state, "mode");
    threshold = number(state, "threshold");
    threshold_mode = word(state, "threshold_mode");
    check("scheduler state");
  }

  std::string mode;
  double threshold;
  std::string threshold_mode;
};

double checked_factor(const Kwargs& kwargs, double fallback) {
  const double factor = kwargs.get<double>("factor", fallback);
  if (!(factor > 0.0 && factor < 1.0)) {
    throw UserError(cat(kScheduleKwargs, ".factor"), cat("expected a value between 0 and 1, got ", factor));
  }
  return factor;
}

class ReduceOnPlateau final : public MetricSchedule {
 public:
  ReduceOnPlateau(const Kwargs& kwargs, const std::vector<double>& rates)
      : comparison_(kwargs, 1e-4, "rel"),
        factor_(checked_factor(kwargs, 0.1)),
        patience_(kwargs.get<std::int64_t>("patience", 10)),
        cooldown_(kwargs.get<std::int64_t>("cooldown", 0)),
        eps_(kwargs.get<double>("eps", 1e-8)),
        minimum_(per_group(kwargs, "min_lr", 0.0, rates.size())),
        best_(comparison_.worst()) {
    const Json* minimum = kwargs.find("min_lr");
    default_minimum_ = minimum != nullptr && minimum->is_array() ? Json() : Json(minimum_.empty() ? 0.0 : minimum_.front());
  }

  void step(double metric, std::vector<double>& rates) override {
    ++last_epoch_;
    if (comparison_.is_better(metric, best_)) {
      best_ = metric;
      bad_epochs_ = 0;
    } else {
      ++bad_epochs_;
    }
    if (cooldown_counter_ > 0) {
      --cooldown_counter_;
      bad_epochs_ = 0;
    }
    if (bad_epochs_ <= patience_) return;
    for (std::size_t group = 0; group < rates.size(); ++group) {
      const double reduced = std::max(rates[group] * factor_, minimum_[group]);
      if (rates[group] - reduced > eps_) rates[group] = reduced;
    }
    cooldown_counter_ = cooldown_;
    bad_epochs_ = 0;
  }

  Json state_dict() const override {
    Json state;
    state["factor"] = factor_;
    state["default_min_lr"] = default_minimum_;
    state["min_lrs"] = json_numbers(minimum_);
    state["patience"] = patience_;
    state["cooldown"] = cooldown_;
    state["eps"] = eps_;
    state["last_epoch"] = last_epoch_;
    state["mode_worse"] = number_to_json(comparison_.worst());
    state["mode"] = comparison_.mode;
    state["threshold"] = comparison_.threshold;
    state["threshold_mode"] = comparison_.threshold_mode;
    state["best"] = number_to_json(best_);
    state["cooldown_counter"] = cooldown_counter_;
    state["num_bad_epochs"] = bad_epochs_;
    return state;
  }

  void load_state_dict(const Json& state) override {
    ReduceOnPlateau loaded = *this;
    loaded.comparison_.load(state);
    loaded.factor_ = number(state, "factor");
    loaded.minimum_ = numbers(state, "min_lrs", static_cast<std::ptrdiff_t>(minimum_.size()));
    loaded.default_minimum_ = state.value("default_min_lr", Json());  // PyTorch before 2.6 has none
    loaded.patience_ = integer(state, "patience");
    loaded.cooldown_ = integer(state, "cooldown");
    loaded.eps_ = number(state, "eps");
    loaded.last_epoch_ = integer(state, "last_epoch");
    loaded.best_ = number(state, "best");
    loaded.cooldown_counter_ = integer(state, "cooldown_counter");
    loaded.bad_epochs_ = integer(state, "num_bad_epochs");
    *this = std::move(loaded);
  }

 private:
  Comparison comparison_;
  double factor_;
  std::int64_t patience_, cooldown_;
  double eps_;
  std::vector<double> minimum_;
  Json default_minimum_;  // null when given by group
  double best_;
  std::int64_t last_epoch_ = 0, cooldown_counter_ = 0, bad_epochs_ = 0;
};

class Greedy final : public MetricSchedule {
 public:
  Greedy(const Kwargs& kwargs, const std::vector<double>& rates)
      : comparison_(kwargs, 1e-6, "abs"),
        factor_(checked_factor(kwargs, 0.95)),
        patience_(kwargs.get<std::int64_t>("patience", 10)),
        cooldown_(kwargs.get<std::int64_t>("cooldown", 0)),
        warmup_(kwargs.get<std::int64_t>("warmup", 0)),
        eps_(kwargs.get<double>("eps", 1e-8)),
        verbose_(kwargs.get<bool>("verbose", false)),
        smooth_(kwargs.get<bool>("smooth", false)),
        window_size_(kwargs.get<std::int64_t>("window_size", 50)),
        reset_start_(kwargs.get<std::int64_t>("reset_start", 500)),
        reset_start_original_(reset_start_),
        minimum_(per_group(kwargs, "min_lr", 1e-3, rates.size())),
        maximum_(per_group(kwargs, "max_lr", 1.0, rates.size())),
        initial_(rates),
        best_(comparison_.worst()) {
    if (window_size_ < 1) {
      throw UserError(cat(kScheduleKwargs, ".window_size"), cat("expected 1 or more, got ", window_size_));
    }
  }

  void step(double metric, std::vector<double>& rates) override {
    const double current = smooth_ ? smoothed(metric) : metric;
    ++last_epoch_;
    if (cooldown_counter_ > 0) {
      --cooldown_counter_;
      bad_epochs_ = good_epochs_ = 0;
      return;
    }
    if (warmup_counter_ > 0) {
      --warmup_counter_;
      bad_epochs_ = good_epochs_ = 0;
      return;
    }
    if (comparison_.is_better(current, best_)) {
      best_ = current;
      bad_epochs_ = 0;
      ++good_epochs_;
    } else {
      ++bad_epochs_;
      good_epochs_ = 0;
    }
    if (good_epochs_ > patience_) {
      increase(rates);
      warmup_counter_ = warmup_;
      good_epochs_ = 0;
    } else if (bad_epochs_ > patience_) {
      reduce(rates);
      cooldown_counter_ = cooldown_;  // also right after a reset, as Transformers does
      bad_epochs_ = 0;
    }
  }

  Json state_dict() const override {
    Json state;
    state["factor"] = factor_;
    state["min_lrs"] = json_numbers(minimum_);
    state["max_lrs"] = json_numbers(maximum_);
    state["patience"] = patience_;
    state["verbose"] = verbose_;
    state["cooldown"] = cooldown_;
    state["warmup"] = warmup_;
    state["cooldown_counter"] = cooldown_counter_;
    state["warmup_counter"] = warmup_counter_;
    state["mode"] = comparison_.mode;
    state["threshold"] = comparison_.threshold;
    state["threshold_mode"] = comparison_.threshold_mode;
    state["best"] = number_to_json(best_);
    state["num_bad_epochs"] = bad_epochs_;
    state["num_good_epochs"] = good_epochs_;
    state["eps"] = eps_;
    state["last_epoch"] = last_epoch_;
    state["smooth"] = smooth_;
    state["window_size"] = window_size_;
    state["reset_start"] = reset_start_;
    state["reset_start_original"] = reset_start_original_;
    state["_init_lrs"] = json_numbers(initial_);
    if (smooth_) {
      Json average;
      average["window_size"] = window_size_;
      average["values"] = json_numbers(std::vector<double>(window_.begin(), window_.end()));
      average["sum"] = number_to_json(window_sum_);
      state["_streaming_avg"] = average;
    }
    return state;
  }

  void load_state_dict(const Json& state) override {
    const auto groups = static_cast<std::ptrdiff_t>(initial_.size());
    Greedy loaded = *this;
    loaded.comparison_.load(state);
    loaded.factor_ = number(state, "factor");
    loaded.minimum_ = numbers(state, "min_lrs", groups);
    loaded.maximum_ = numbers(state, "max_lrs", groups);
    loaded.initial_ = numbers(state, "_init_lrs", groups);
    loaded.patience_ = integer(state, "patience");
    loaded.verbose_ = boolean(state, "verbose");
    loaded.cooldown_ = integer(state, "cooldown");
    loaded.warmup_ = integer(state, "warmup");
    loaded.cooldown_counter_ = integer(state, "cooldown_counter");
    loaded.warmup_counter_ = integer(state, "warmup_counter");
    loaded.best_ = number(state, "best");
    loaded.bad_epochs_ = integer(state, "num_bad_epochs");
    loaded.good_epochs_ = integer(state, "num_good_epochs");
    loaded.eps_ = number(state, "eps");
    loaded.last_epoch_ = integer(state, "last_epoch");
    loaded.smooth_ = boolean(state, "smooth");
    loaded.window_size_ = integer(state, "window_size");
    loaded.reset_start_ = integer(state, "reset_start");
    loaded.reset_start_original_ = integer(state, "reset_start_original");
    loaded.window_.clear();
    loaded.window_sum_ = 0.0;
    if (loaded.smooth_) {
      const Json& average = field(state, "_streaming_avg");
      const auto values = numbers(average, "values", -1);
      loaded.window_.assign(values.begin(), values.end());
      loaded.window_sum_ = number(average, "sum");
    }
    *this = std::move(loaded);
  }

 private:
  double smoothed(double metric) {
    window_.push_back(metric);
    window_sum_ += metric;
    if (static_cast<std::int64_t>(window_.size()) > window_size_) {
      window_sum_ -= window_.front();
      window_.pop_front();
    }
    return window_sum_ / static_cast<double>(window_.size());
  }

  void increase(std::vector<double>& rates) {
    for (std::size_t group = 0; group < rates.size(); ++group) {
      const double increased = std::min(rates[group] / factor_, maximum_[group]);
      if (increased - rates[group] > eps_) rates[group] = increased;
    }
    reset_start_ = reset_start_original_;
  }

  void reduce(std::vector<double>& rates) {
    bool all_at_minimum = true;
    for (std::size_t group = 0; group < rates.size(); ++group) {
      const double reduced = std::max(rates[group] * factor_, minimum_[group]);
      if (rates[group] - reduced > eps_) rates[group] = reduced;
      if (rates[group] > minimum_[group]) all_at_minimum = false;
    }
    if (all_at_minimum && --reset_start_ <= 0) reset(rates);
  }

  void reset(std::vector<double>& rates) {
    rates = initial_;
    best_ = comparison_.worst();
    bad_epochs_ = good_epochs_ = cooldown_counter_ = warmup_counter_ = 0;
    reset_start_ = reset_start_original_;
    window_.clear();
    window_sum_ = 0.0;
  }

  Comparison comparison_;
  double factor_;
  std::int64_t patience_, cooldown_, warmup_;
  double eps_;
  bool verbose_, smooth_;
  std::int64_t window_size_, reset_start_, reset_start_original_;
  std::vector<double> minimum_, maximum_, initial_;
  double best_;
  std::int64_t last_epoch_ = 0, cooldown_counter_ = 0, warmup_counter_ = 0, bad_epochs_ = 0, good_epochs_ = 0;
  std::deque<double> window_;  // the last metrics when smoothing
  double window_sum_ = 0.0;
};

}  // namespace

std::unique_ptr<MetricSchedule> make_metric_schedule(const std::string& name, const Json& kwargs,
                                                     const std::vector<double>& rates) {
  const Kwargs given(kwargs.is_null() ? Json::object() : kwargs, kScheduleKwargs);
  std::unique_ptr<MetricSchedule> schedule;
  const std::string lower = to_lower(name);
  if (lower == "reduce_lr_on_plateau") schedule = std::make_unique<ReduceOnPlateau>(given, rates);
  if (lower == "greedy") schedule = std::make_unique<Greedy>(given, rates);
  if (schedule == nullptr) throw InternalError(cat("'", name, "' follows no metric"));
  given.check_all_read();
  return schedule;
}

Json number_to_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double number_from_json(const Json& value, const std::string& field) {
  if (value.is_number()) return value.get<double>();
  if (value == "inf") return kInfinity;
  if (value == "-inf") return -kInfinity;
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  throw UserError("scheduler state",
                  cat("field '", field, "': expected float, got ", json_type_name(value), " ", value.dump()));
}

}  // namespace oumi
