#include "oumi/telemetry/report_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "oumi/base/strings.h"
#include "oumi/telemetry/html.h"

namespace oumi {

namespace {

// In units of the viewBox.
constexpr double kWidth = 640, kHeight = 300, kLeft = 64, kRight = 26, kTop = 12, kBottom = 38;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
constexpr std::size_t kColors = 6;         // .c0 to .c5 of the page's style
constexpr std::size_t kSmoothedFrom = 40;  // points; shorter curves are shown as they are
constexpr std::size_t kMaxMarks = 200;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

struct Curve {
  std::string name;
  std::size_t color;
  std::vector<MetricPoint> raw, smooth;
};

// Exponential moving average over a fiftieth of the curve, weights summing to one from the first point on.
std::vector<MetricPoint> smoothed(const std::vector<MetricPoint>& points) {
  const double keep = 1 - 1 / std::max(static_cast<double>(points.size()) / 50, 1.5);
  std::vector<MetricPoint> result;
  result.reserve(points.size());
  double sum = 0, weight = 0;
  for (const MetricPoint& point : points) {
    if (!std::isfinite(point.value)) {
      result.push_back(point);
      continue;
    }
    sum = sum * keep + point.value * (1 - keep);
    weight = weight * keep + (1 - keep);
    result.push_back({point.step, sum / weight});
  }
  return result;
}

// Whether the values jitter, so that a smoothed line says more than they do: a schedule turns rarely, a loss all the time.
bool is_noisy(const std::vector<MetricPoint>& points) {
  std::size_t turns = 0;
  for (std::size_t i = 2; i < points.size(); ++i) {
    turns += (points[i].value - points[i - 1].value) * (points[i - 1].value - points[i - 2].value) < 0;
  }
  return turns * 5 > points.size();
}

// The range that the y axis shows: all of it, unless a few spikes would press the rest flat.
Range visible_range(const std::vector<Curve>& curves) {
  Range all;
  std::vector<double> values;
  for (const Curve& curve : curves) {
    for (const MetricPoint& point : curve.raw) {
      if (!std::isfinite(point.value)) continue;
      all.include(point.value);
      values.push_back(point.value);
    }
  }
  if (values.size() < 200) return all;
  Range most;
  const std::size_t cut = values.size() / 100;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(cut), values.end());
  most.include(values[cut]);
  std::nth_element(values.begin(), values.end() - 1 - static_cast<std::ptrdiff_t>(cut), values.end());
  most.include(values[values.size() - 1 - cut]);
  for (const Curve& curve : curves) {
    for (const MetricPoint& point : curve.smooth) {
      if (std::isfinite(point.value)) most.include(point.value);
    }
  }
  const double margin = 0.1 * (most.high - most.low);
  if (most.high == most.low || all.high - all.low < 4 * (most.high - most.low)) return all;
  return {std::max(all.low, most.low - margin), std::min(all.high, most.high + margin)};
}

class Frame {
 public:
  Frame(Range x, Range y) {
    if (y.high == y.low) {
      const double margin = y.low == 0 ? 1 : std::abs(y.low) * 0.1;
      y = {y.low - margin, y.high + margin};
    }
    // Some air, so that no curve lies on the frame; never across zero, which is a limit for most metrics.
    const double air = (y.high / 2 - y.low / 2) * 0.08;
    if (y.low != 0) y.low = y.low > 0 ? std::max(y.low - air, 0.0) : y.low - air;
    if (y.high != 0) y.high = y.high < 0 ? std::min(y.high + air, 0.0) : y.high + air;
    if (!std::isfinite(y.low)) y.low = std::numeric_limits<double>::lowest();
    if (!std::isfinite(y.high)) y.high = std::numeric_limits<double>::max();
    if (x.high == x.low) x = {x.low - 1, x.high + 1};
    y_ticks = axis_ticks(y.low, y.high);
    x_ticks = axis_ticks(x.low, x.high);
    y_ = y;
    x_ = x;
  }
  double x(double step) const { return kLeft + (step - x_.low) / (x_.high - x_.low) * kPlotWidth; }
  // Halved before subtracting: the span of a double's whole range overflows.
  double y(double value) const {
    const double part = (value / 2 - y_.low / 2) / (y_.high / 2 - y_.low / 2);
    return kTop + (1 - std::clamp(part, -10.0, 11.0)) * kPlotHeight;
  }
  bool shows_x(double step) const { return step >= x_.low && step <= x_.high; }
  const Range& x_range() const { return x_; }
  const Range& y_range() const { return y_; }

  std::vector<double> x_ticks, y_ticks;

 private:
  Range x_, y_;
};

std::string path_of(const std::vector<MetricPoint>& points, const Frame& frame) {
  std::string path;
  bool pen_down = false;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!std::isfinite(points[i].value)) {
      pen_down = false;
      continue;
    }
    fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', frame.x(points[i].step),
                   frame.y(points[i].value));
    // A lone point between gaps would be invisible.
    const bool next_is_gap = i + 1 == points.size() || !std::isfinite(points[i + 1].value);
    if (!pen_down && next_is_gap) path += "h0.01";
    pen_down = true;
  }
  return path;
}

std::string tick_text(double value, const std::vector<double>& ticks) {
  const double spacing = ticks.size() > 1 ? ticks[1] - ticks[0] : std::abs(value);
  const double largest = std::max(std::abs(ticks.front()), std::abs(ticks.back()));
  if (std::abs(value) < spacing * 1e-6) return "0";
  if (largest >= 1e6 || largest < 1e-3) {
    if (largest >= 1e6 && largest < 1e9 && spacing >= 1e4) return fmt::format("{:g}M", value / 1e6);
    return fmt::format("{:.4g}", value);
  }
  if (spacing >= 1) return display_number(std::round(value));
  int digits = 1;
  for (double scaled = spacing * 10; digits < 12 && std::abs(scaled - std::round(scaled)) > 1e-6 * scaled; scaled *= 10)
    ++digits;
  return fmt::format("{:.{}f}", value, digits);
}

std::string draw_axes(const Frame& frame) {
  std::string svg = "<g class=\"grid\">";
  for (const double tick : frame.y_ticks)
    fmt::format_to(std::back_inserter(svg), "<path d=\"M{:.1f} {:.1f}H{:.1f}\"/>", kLeft, frame.y(tick), kWidth - kRight);
  svg += "</g><g class=\"ticks\">";
  for (const double tick : frame.y_ticks) {
    fmt::format_to(std::back_inserter(svg), "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kLeft - 8,
                   frame.y(tick) + 4, tick_text(tick, frame.y_ticks));
  }
  for (const double tick : frame.x_ticks) {
    if (!frame.shows_x(tick)) continue;
    fmt::format_to(std::back_inserter(svg),
                   "<path d=\"M{:.1f} {:.1f}v4\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>",
                   frame.x(tick), kHeight - kBottom, frame.x(tick), kHeight - kBottom + 17, tick_text(tick, frame.x_ticks));
  }
  fmt::format_to(
      std::back_inserter(svg),
      "<path class=\"axis\" d=\"M{:.1f} {:.1f}H{:.1f}\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">step</text></g>",
      kLeft, kHeight - kBottom, kWidth - kRight, kWidth - kRight, kHeight - 5);
  return svg;
}

// What the page's script shows under the pointer.
std::string hover_data(const std::vector<Curve>& curves, const Frame& frame) {
  Json data = Json::object();
  data["x"] = {frame.x_range().low, frame.x_range().high};
  data["y"] = {frame.y_range().low, frame.y_range().high};
  data["curves"] = Json::array();
  for (const Curve& curve : curves) {
    Json steps = Json::array(), values = Json::array();
    // Six digits are more than a screen can show.
    const auto rounded = [](double value) {
      return std::isfinite(value) ? Json(std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr))
                                  : Json(display_number(value));
    };
    for (const MetricPoint& point : curve.raw) {
      steps.push_back(point.step);
      values.push_back(rounded(point.value));
    }
    data["curves"].push_back(
        {{"name", curve.name}, {"color", curve.color}, {"steps", std::move(steps)}, {"values", std::move(values)}});
  }
  return data.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::vector<double> axis_ticks(double low, double high) {
  if (!(high > low)) high = low + (low == 0 ? 1 : std::abs(low) * 0.1);
  double spacing = high / 6 - low / 6;
  const double magnitude = std::pow(10, std::floor(std::log10(spacing)));
  if (magnitude <= 0 || !std::isfinite(magnitude) || spacing < std::abs(low) * 1e-12 || spacing < std::abs(high) * 1e-12)
    return {low, high};
  for (const double step : {1.0, 2.0, 2.5, 5.0, 10.0}) {
    if (spacing > step * magnitude * (1 + 1e-9)) continue;
    spacing = step * magnitude;
    break;
  }
  std::vector<double> ticks;
  const double first = std::ceil(low / spacing - 1e-9), last = std::floor(high / spacing + 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * spacing);
  if (ticks.size() < 2) return {low, high};
  return ticks;
}

std::vector<MetricPoint> thin_out(const std::vector<MetricPoint>& points, std::size_t limit) {
  if (points.size() <= limit || limit < 8) return points;
  const std::size_t stretches = limit / 5;
  std::vector<MetricPoint> result;
  std::vector<std::size_t> kept;
  for (std::size_t s = 0; s < stretches; ++s) {
    const std::size_t begin = points.size() * s / stretches, end = points.size() * (s + 1) / stretches;
    std::optional<std::size_t> lowest, highest, odd;
    for (std::size_t i = begin; i < end; ++i) {
      const double value = points[i].value;
      if (!std::isfinite(value)) {
        if (!odd.has_value()) odd = i;
        continue;
      }
      if (!lowest.has_value() || value < points[*lowest].value) lowest = i;
      if (!highest.has_value() || value > points[*highest].value) highest = i;
    }
    kept = {begin, end - 1};
    for (const auto& index : {lowest, highest, odd}) {
      if (index.has_value()) kept.push_back(*index);
    }
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const std::size_t index : kept) result.push_back(points[index]);
  }
  return result;
}

std::string draw_chart(const std::string& title, const std::vector<ChartCurve>& wanted, const ChartOptions& options) {
  std::vector<Curve> curves;
  Range x;
  std::string marks;
  std::size_t odd_values = 0, marked = 0;
  std::vector<double> odd_steps;
  for (const ChartCurve& entry : wanted) {
    const auto& points = entry.series->points;
    if (points.empty()) continue;
    Curve curve{entry.name, curves.size() % kColors, thin_out(points, options.points_per_curve), {}};
    if (points.size() >= kSmoothedFrom && is_noisy(points))
      curve.smooth = thin_out(smoothed(points), options.points_per_curve / 3);
    for (const MetricPoint& point : points) {
      x.include(point.step);
      if (!std::isfinite(point.value)) ++odd_values;
    }
    for (const MetricPoint& point : curve.raw) {
      if (!std::isfinite(point.value)) odd_steps.push_back(point.step);
    }
    curves.push_back(std::move(curve));
  }
  if (curves.empty()) return "";
  Range y = visible_range(curves);
  const bool nothing_finite = y.empty();
  if (nothing_finite) y = {0, 1};
  const Frame frame(x, y);
  std::size_t outside = 0;
  for (const ChartCurve& entry : wanted) {
    for (const MetricPoint& point : entry.series->points)
      outside += std::isfinite(point.value) && (point.value < frame.y_range().low || point.value > frame.y_range().high);
  }

  std::string svg =
      fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight, escape_html(title));
  svg += draw_axes(frame);
  // Nested: clips the curves to the plot without ids, which would have to be unique on the page.
  fmt::format_to(std::back_inserter(svg), "<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\">",
                 kLeft - 3, kTop - 3, kPlotWidth + 6, kPlotHeight + 6);
  for (const Curve& curve : curves) {
    const bool has_smooth = !curve.smooth.empty();
    svg += cat("<path class=\"line c", curve.color, has_smooth ? " raw" : "", "\" d=\"", path_of(curve.raw, frame), "\"/>");
    if (has_smooth) svg += cat("<path class=\"line c", curve.color, "\" d=\"", path_of(curve.smooth, frame), "\"/>");
    if (curve.raw.size() > 30) continue;
    for (const MetricPoint& point : curve.raw) {
      if (std::isfinite(point.value))
        fmt::format_to(std::back_inserter(svg), "<circle class=\"dot c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", curve.color,
                       frame.x(point.step), frame.y(point.value));
    }
  }
  svg += "</svg>";
  double last_mark = -1e9;
  std::sort(odd_steps.begin(), odd_steps.end());
  for (const double step : odd_steps) {
    if (frame.x(step) - last_mark < 2 || marked >= kMaxMarks) continue;
    last_mark = frame.x(step);
    ++marked;
    fmt::format_to(std::back_inserter(marks), "<path class=\"odd\" d=\"M{:.1f} {:.1f}v-9\"/>", last_mark, kHeight - kBottom);
  }
  svg += marks + "<path class=\"cursor\"/></svg>";

  std::string legend;
  for (const Curve& curve : curves)
    legend += cat("<span class=\"key c", curve.color, "\">", escape_html(curve.name), "</span>");
  std::vector<std::string> notes;
  if (odd_values > 0)
    notes.push_back(cat(display_number(static_cast<double>(odd_values)), odd_values == 1 ? " value is" : " values are",
                        " NaN or infinite (red marks)"));
  if (outside > 0)
    notes.push_back(cat(display_number(static_cast<double>(outside)), outside == 1 ? " value lies" : " values lie",
                        " outside of the axis"));
  const std::string note = notes.empty() ? "" : cat("<p class=\"note\">", join(notes, "; "), "</p>");
  return cat("<figure class=\"chart\" data-chart=\"", escape_html(hover_data(curves, frame)), "\"><figcaption><b>",
             escape_html(title), "</b>", legend, "</figcaption>", svg, "<div class=\"tip\" hidden></div>", note, "</figure>\n");
}

}  // namespace oumi
