#include "oumi/telemetry/progress_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "oumi/base/strings.h"
#include "oumi/base/text_bytes.h"

namespace oumi {

namespace {

struct Piece {
  std::string text;
  int priority;  // the lowest goes first
};

std::string repeat(std::string_view text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

std::string draw_bar(double fraction, int columns, const Console& console) {
  const int half_columns = static_cast<int>(std::floor(std::clamp(fraction, 0.0, 1.0) * columns * 2));
  const int full = half_columns / 2;
  if (!console.style().unicode)
    return cat("[", std::string(static_cast<std::size_t>(full), '#'),
               std::string(static_cast<std::size_t>(columns - full), '.'), "]");
  const bool half = half_columns % 2 == 1;
  const std::string done = cat(repeat("━", full), half ? "╸" : "");
  const std::string left = repeat("─", columns - full - (half ? 1 : 0));
  return cat(console.colored(done, full == columns ? "32" : "36"), left.empty() ? left : console.colored(left, "2"));
}

}  // namespace

std::string short_number(double value) {
  if (std::isnan(value)) return "nan";
  return fmt::format("{:.4g}", value);
}

std::string render_rate(double steps_per_second) {
  if (steps_per_second >= 1 || steps_per_second <= 0)
    return fmt::format("{:.{}f} it/s", steps_per_second, steps_per_second < 100 ? 1 : 0);
  return fmt::format("{:.1f} s/it", 1 / steps_per_second);
}

std::string render_bar(const BarState& state, int columns, const Console& console) {
  const bool known = state.total > 0;
  const double fraction = known ? static_cast<double>(state.step) / static_cast<double>(state.total) : 0;
  std::vector<Piece> pieces;
  // Cut down, not rounded: 100% means done.
  if (known) pieces.push_back({fmt::format("{:3d}%", static_cast<int>(std::floor(std::min(fraction, 1.0) * 100))), 90});
  pieces.push_back({known ? fmt::format("{}/{}", state.step, state.total) : fmt::format("step {}", state.step), 80});
  if (state.loss.has_value()) {
    const std::string text = "loss " + short_number(*state.loss);
    pieces.push_back({std::isfinite(*state.loss) ? text : console.colored(text, "1;31"), 70});
  }
  if (state.steps_per_second.has_value()) pieces.push_back({render_rate(*state.steps_per_second), 40});
  if (state.samples_per_second.has_value()) {
    pieces.push_back(
        {fmt::format("{:.{}f} samples/s", *state.samples_per_second, *state.samples_per_second < 100 ? 1 : 0), 30});
  }
  pieces.push_back({format_duration(state.elapsed_seconds), 20});
  if (state.seconds_left.has_value() && state.step < state.total)
    pieces.push_back({format_duration(*state.seconds_left) + " left", 60});

  constexpr int kMinBar = 8, kMaxBar = 40, kBarPriority = 50;
  const std::string separator = console.style().unicode ? " · " : " | ";
  const int frame = console.style().unicode ? 0 : 2;
  const auto text_width = [&] {
    std::size_t width = display_width(state.label);
    for (std::size_t i = 0; i < pieces.size(); ++i) width += display_width(pieces[i].text) + (i == 0 ? 1 : 3);
    return static_cast<int>(width);
  };
  int bar_need = known ? 1 + kMinBar + frame : 0;
  while (pieces.size() > 1 && text_width() + bar_need > columns) {
    const auto least =
        std::min_element(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.priority < b.priority; });
    if (least->priority >= kBarPriority && bar_need > 0)
      bar_need = 0;
    else
      pieces.erase(least);
  }
  const int room = columns - text_width() - 1 - frame;
  std::string line = state.label;
  if (bar_need > 0 && room >= kMinBar) line += " " + draw_bar(fraction, std::min(room, kMaxBar), console);
  for (std::size_t i = 0; i < pieces.size(); ++i) line += (i == 0 ? " " : separator) + pieces[i].text;
  // Narrower than the label and one number: the number alone, and at worst nothing, for a wrapped line cannot be redrawn.
  if (static_cast<int>(display_width(line)) > columns) line = pieces.front().text;
  return static_cast<int>(display_width(line)) > columns ? std::string() : line;
}

std::string render_record(const LogRecord& record, std::int64_t total_steps) {
  std::string line =
      total_steps > 0 ? fmt::format("step {}/{}", record.step, total_steps) : fmt::format("step {}", record.step);
  line += ", epoch " + short_number(record.epoch);
  for (const auto& [name, value] : record.values) {
    if (name == "step" || name == "epoch") continue;
    line += cat(", ", printable(name), " ", short_number(value));
  }
  return line;
}

}  // namespace oumi
