#include "oumi/telemetry/rate_meter.h"

namespace oumi {

RateMeter::RateMeter(std::function<Clock::time_point()> now) : now_(std::move(now)), since_(now_()) {}

void RateMeter::add_step(std::int64_t samples, std::int64_t tokens) {
  ++steps_;
  samples_ += samples;
  tokens_ += tokens;
}

void RateMeter::pause() {
  if (pauses_++ == 0) measured_ += now_() - since_;
}

void RateMeter::resume() {
  if (pauses_ > 0 && --pauses_ == 0) since_ = now_();
}

Rates RateMeter::take() {
  const Clock::time_point now = now_();
  if (pauses_ == 0) measured_ += now - since_;
  since_ = now;
  Rates rates;
  rates.seconds = std::chrono::duration<double>(measured_).count();
  if (rates.seconds > 0) {
    rates.samples_per_second = static_cast<double>(samples_) / rates.seconds;
    rates.tokens_per_second = static_cast<double>(tokens_) / rates.seconds;
    rates.steps_per_second = static_cast<double>(steps_) / rates.seconds;
  }
  measured_ = {};
  samples_ = tokens_ = steps_ = 0;
  return rates;
}

}  // namespace oumi
