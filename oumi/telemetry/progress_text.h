// The texts of the progress bar, apart from when they are drawn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oumi/telemetry/console.h"
#include "oumi/telemetry/events.h"

namespace oumi {

struct BarState {
  std::string label;  // "train", "evaluate"
  std::int64_t step = 0, total = 0;
  std::optional<double> loss = {};
  std::optional<double> steps_per_second = {}, samples_per_second = {}, seconds_left = {};
  double elapsed_seconds = 0;
};

// One line of at most `columns` columns. What matters least is left out first where the terminal is narrow.
std::string render_bar(const BarState& state, int columns, const Console& console);

// "step 50/1000, epoch 0.12, loss 0.3121, learning_rate 5e-05, ..."
std::string render_record(const LogRecord& record, std::int64_t total_steps);

// Four significant digits: 0.3121, 5e-05, nan.
std::string short_number(double value);

// "52.3 it/s", or "1.9 s/it" for what takes longer than a second.
std::string render_rate(double steps_per_second);

}  // namespace oumi
