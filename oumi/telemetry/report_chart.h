// Line charts as SVG.
#pragma once

#include <string>
#include <vector>

#include "oumi/telemetry/report_input.h"

namespace oumi {

struct ChartCurve {
  std::string name;
  const MetricSeries* series;
};

struct ChartOptions {
  std::size_t points_per_curve = 1500;
};

// A <figure> with axes, grid, legend, the raw values and, for long curves, a smoothed line over them. The curve breaks where a
// value is not finite, and red marks at the bottom show where that was. Steps go to the right.
std::string draw_chart(const std::string& title, const std::vector<ChartCurve>& curves, const ChartOptions& options);

// Thins a curve to at most about `limit` points: each stretch keeps its first, lowest, highest and last point, and one
// non-finite point where it has any. Order is kept.
std::vector<MetricPoint> thin_out(const std::vector<MetricPoint>& points, std::size_t limit);

// Between 4 and 8 round values that cover [low, high]; strictly rising. Works for low == high.
std::vector<double> axis_ticks(double low, double high);

}  // namespace oumi
