#include "oumi/telemetry/progress_rate.h"

#include <algorithm>
#include <cmath>

namespace oumi {

namespace {

constexpr double kMemorySeconds = 15;  // the time after which an observation weighs 1/e

double seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void ProgressRate::start(TimePoint now, std::int64_t step) {
  *this = ProgressRate{};
  started_ = true;
  start_ = last_ = now;
  first_step_ = step_ = step;
}

void ProgressRate::update(TimePoint now, std::int64_t step) {
  if (!started_) start(now, step);
  if (step <= step_) return;
  const double passed = std::max(seconds(now - last_), 0.0);
  const double kept = std::exp(-passed / kMemorySeconds);
  seconds_ = seconds_ * kept + passed;
  steps_ = steps_ * kept + static_cast<double>(step - step_);
  last_ = now;
  step_ = step;
}

void ProgressRate::pause(TimePoint now) {
  if (!started_ || paused_) return;
  paused_ = true;
  paused_at_ = now;
}

void ProgressRate::resume(TimePoint now) {
  if (!paused_) return;
  paused_ = false;
  start_ += now - paused_at_;
  last_ += now - paused_at_;
}

std::optional<double> ProgressRate::steps_per_second() const {
  if (steps_ <= 0 || seconds_ <= 0) return std::nullopt;
  return steps_ / seconds_;
}

std::optional<double> ProgressRate::seconds_left(std::int64_t total) const {
  const auto rate = steps_per_second();
  if (!rate.has_value() || total <= 0) return std::nullopt;
  return static_cast<double>(std::max<std::int64_t>(total - step_, 0)) / *rate;
}

double ProgressRate::elapsed_seconds(TimePoint now) const {
  if (!started_) return 0;
  return std::max(seconds((paused_ ? paused_at_ : now) - start_), 0.0);
}

}  // namespace oumi
