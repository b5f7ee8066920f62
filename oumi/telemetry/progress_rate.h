// The pace of a phase: steps per second, smoothed over recent seconds, with interruptions left out.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace oumi {

class ProgressRate {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void start(TimePoint now, std::int64_t step);
  void update(TimePoint now, std::int64_t step);
  // Leaves out the time from pause() to the next resume().
  void pause(TimePoint now);
  void resume(TimePoint now);

  std::optional<double> steps_per_second() const;
  std::optional<double> seconds_left(std::int64_t total) const;
  double elapsed_seconds(TimePoint now) const;  // since start(), interruptions left out
  std::int64_t steps_done() const { return step_ - first_step_; }
  bool started() const { return started_; }

 private:
  bool started_ = false, paused_ = false;
  TimePoint start_{}, last_{}, paused_at_{};
  std::int64_t first_step_ = 0, step_ = 0;
  // Exponentially weighted seconds and steps; their ratio is the pace, right from the first update (no warm-up bias).
  double seconds_ = 0, steps_ = 0;
};

}  // namespace oumi
