// Samples, tokens and steps per second since the last log line, with evaluation and saving left out.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

namespace oumi {

struct Rates {
  double samples_per_second = 0;
  double tokens_per_second = 0;  // tokens that are not padding, as counted by the caller
  double steps_per_second = 0;
  double seconds = 0;  // measured time, pauses left out
};

// Not thread-safe. Time comes from the steady clock: changes of the wall clock do not show.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;
  // `now` replaces the clock in tests.
  explicit RateMeter(std::function<Clock::time_point()> now = &Clock::now);

  // Counts one finished update step.
  void add_step(std::int64_t samples, std::int64_t tokens = 0);

  // Pauses nest: the clock runs again after as many resume() as pause().
  void pause();
  void resume();

  // Rates since the last take() or construction (0 when no time has passed), and a fresh start.
  Rates take();

  // Leaves its scope's time out: `const RateMeter::Pause pause(meter);` around an evaluation or a save.
  class [[nodiscard]] Pause {
   public:
    explicit Pause(RateMeter& meter) : meter_(meter) { meter_.pause(); }
    ~Pause() { meter_.resume(); }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    RateMeter& meter_;
  };

 private:
  std::function<Clock::time_point()> now_;
  Clock::time_point since_;     // start of the running stretch; meaningful while not paused
  Clock::duration measured_{};  // stretches that have ended since the last take()
  int pauses_ = 0;
  std::int64_t samples_ = 0, tokens_ = 0, steps_ = 0;
};

}  // namespace oumi
