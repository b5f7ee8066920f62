// Parts of validate(), one per group of sections, and the checks that they share.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/scalars.h"
#include "oumi/config/training_config.h"

namespace oumi {

void validate_data(const DataParams& data);
void validate_model(const ModelParams& model);
void validate_training(const TrainingParams& training);
void validate_rl(const TrainingParams& training);  // grpo, gkd, gold and rewards
void validate_peft(const PeftParams& peft);
void validate_parallel(const TrainingConfig& config);  // fsdp, deepspeed, parallel

inline std::string shown(double value) { return python_repr(value); }
inline std::string shown(std::int64_t value) { return std::to_string(value); }
inline std::string shown(const std::string& value) { return "'" + value + "'"; }

[[noreturn]] inline void throw_rule(const std::string& key, const std::string& expected, const std::string& got,
                                    const std::string& hint = "") {
  throw UserError(key, "expected " + expected + ", got " + got, hint);
}

template <class T>
void check_at_least(const std::string& key, T value, T least) {
  if (!(value >= least) || (std::is_floating_point_v<T> && !std::isfinite(static_cast<double>(value)))) {
    throw_rule(key, "at least " + shown(least), shown(value));
  }
}

// [low, high], or (low, high] and so on where an end is left out.
struct Interval {
  double low = 0, high = 1;
  bool with_low = true, with_high = true;
};

inline void check_interval(const std::string& key, double value, const Interval& interval) {
  const bool above = interval.with_low ? value >= interval.low : value > interval.low;
  const bool below = interval.with_high ? value <= interval.high : value < interval.high;
  if (above && below) return;  // false for NaN as well
  throw_rule(key,
             cat("a number in ", interval.with_low ? "[" : "(", shown(interval.low), ", ", shown(interval.high),
                 interval.with_high ? "]" : ")"),
             shown(value));
}

inline void check_word(const std::string& key, const std::string& word, const std::vector<std::string>& known) {
  const std::string lower = to_lower(word);
  for (const std::string& candidate : known) {
    if (lower == candidate) return;
  }
  const std::string near = nearest_match(word, known);
  throw_rule(key, "one of " + join(known, ", "), shown(word), near.empty() ? "" : "did you mean '" + near + "'?");
}

// Steps: a whole number, or a share of the run below 1.
inline void check_count(const std::string& key, double value) {
  if (value >= 0 && std::isfinite(value) && (value < 1 || value == std::floor(value))) return;
  throw_rule(key, "a whole number of at least 0, or a share of the run below 1", shown(value));
}

}  // namespace oumi
