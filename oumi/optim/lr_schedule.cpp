#include "oumi/optim/lr_schedule.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

std::vector<double> group_rates(const torch::optim::Optimizer& optimizer) {
  std::vector<double> rates;
  for (const auto& group : optimizer.param_groups()) rates.push_back(group.options().get_lr());
  return rates;
}

Json as_json(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(number_to_json(value));
  return list;
}

[[noreturn]] void bad_field(const std::string& name, const std::string& expected, const std::string& got) {
  throw UserError("scheduler state", cat("field '", name, "': expected ", expected, ", got ", got));
}

std::vector<double> rates_field(const Json& state, const std::string& name, std::size_t groups) {
  const auto found = state.find(name);
  if (found == state.end()) bad_field(name, "a list of numbers", "none");
  if (!found->is_array() || found->size() != groups) {
    bad_field(name, cat(groups, " numbers, one a parameter group"), found->dump());
  }
  std::vector<double> rates;
  for (const Json& value : *found) rates.push_back(number_from_json(value, name));
  return rates;
}

}  // namespace

LrScheduler::LrScheduler(torch::optim::Optimizer& optimizer, ScheduleOptions options)
    : optimizer_(optimizer), options_(std::move(options)), base_lrs_(group_rates(optimizer)) {
  options_.type = checked_schedule_name(options_.type);
  if (is_metric_schedule(options_.type)) {
    metric_schedule_ = make_metric_schedule(options_.type, options_.kwargs, base_lrs_);
  } else {
    curve_ = make_lr_curve(options_, optimizer.defaults().get_lr());
    apply_curve();
  }
}

void LrScheduler::set_rates(const std::vector<double>& rates) {
  auto& groups = optimizer_.param_groups();
  if (groups.size() != rates.size()) {
    throw InternalError(
        cat("the optimizer has ", groups.size(), " parameter groups, its schedule was made for ", rates.size()));
  }
  for (std::size_t group = 0; group < rates.size(); ++group) groups[group].options().set_lr(rates[group]);
}

void LrScheduler::apply_curve() {
  const double factor = curve_(last_epoch_);
  std::vector<double> rates = base_lrs_;
  for (double& rate : rates) rate *= factor;
  set_rates(rates);
}

void LrScheduler::step() {
  if (needs_metric()) return;
  ++last_epoch_;
  apply_curve();
}

void LrScheduler::step_metric(double metric) {
  if (!needs_metric()) return;
  std::vector<double> rates = last_lr();
  metric_schedule_->step(metric, rates);
  set_rates(rates);
}

std::vector<double> LrScheduler::last_lr() const { return group_rates(optimizer_); }

Json LrScheduler::state_dict() const {
  Json state;
  state["type"] = options_.type;
  if (needs_metric()) {
    state.update(metric_schedule_->state_dict());
  } else {
    state["base_lrs"] = as_json(base_lrs_);
    state["last_epoch"] = last_epoch_;
    state["_step_count"] = last_epoch_ + 1;
  }
  state["_last_lr"] = as_json(last_lr());
  return state;
}

void LrScheduler::load_state_dict(const Json& state) {
  if (!state.is_object()) throw UserError("scheduler state", cat("expected a dict, got ", json_type_name(state)));
  if (const auto type = state.find("type"); type == state.end() || *type != options_.type) {
    bad_field("type", cat("'", options_.type, "'"), type == state.end() ? "none" : type->dump());
  }
  const std::vector<double> rates = rates_field(state, "_last_lr", base_lrs_.size());
  if (needs_metric()) {
    metric_schedule_->load_state_dict(state);
  } else {
    const auto epoch = state.find("last_epoch");
    if (epoch == state.end() || !epoch->is_number_integer() || epoch->get<std::int64_t>() < 0) {
      bad_field("last_epoch", "a step count", epoch == state.end() ? "none" : epoch->dump());
    }
    base_lrs_ = rates_field(state, "base_lrs", base_lrs_.size());
    last_epoch_ = epoch->get<std::int64_t>();
  }
  set_rates(rates);
}

std::vector<double> LrScheduler::preview(const ScheduleOptions& options, double learning_rate, std::int64_t steps) {
  std::vector<double> rates(static_cast<std::size_t>(std::max<std::int64_t>(0, steps)), learning_rate);
  if (is_metric_schedule(checked_schedule_name(options.type))) return rates;
  const LrCurve curve = make_lr_curve(options, learning_rate);
  for (std::size_t step = 0; step < rates.size(); ++step) rates[step] = learning_rate * curve(static_cast<std::int64_t>(step));
  return rates;
}

}  // namespace oumi
