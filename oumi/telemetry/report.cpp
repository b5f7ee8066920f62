#include "oumi/telemetry/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/html.h"
#include "oumi/telemetry/report_chart.h"
#include "oumi/telemetry/report_input.h"
#include "oumi/telemetry/report_page.h"
#include "oumi/telemetry/report_sections.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxCharts = 60;
constexpr std::size_t kMaxCurvesPerChart = 6;

struct Chart {
  std::string title;
  std::vector<ChartCurve> curves;
};

bool is_evaluation(std::string_view name) { return name.starts_with("eval_") || name.starts_with("test_"); }

// Values between 0 and 1 such as accuracy and F1 share an axis.
bool is_score(const MetricSeries& series) {
  return std::all_of(series.points.begin(), series.points.end(), [](const MetricPoint& point) {
    return !std::isfinite(point.value) || (point.value >= 0 && point.value <= 1);
  });
}

// A rate that is always 0, as tokens_per_second of a run without tokens.
bool never_measured(const MetricSeries& series) {
  return series.name.ends_with("_per_second") &&
         std::all_of(series.points.begin(), series.points.end(), [](const MetricPoint& point) { return point.value == 0; });
}

std::string readable(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::vector<Chart> plan_charts(const MetricTable& metrics) {
  Chart loss{"Loss", {}}, scores{"Evaluation scores", {}};
  std::vector<Chart> middle, rest;
  static const std::set<std::string_view> kBookkeeping = {"epoch", "eval_runtime", "eval_samples_per_second",
                                                          "eval_steps_per_second", "total_flos"};
  for (const MetricSeries& series : metrics.series()) {
    const std::string& name = series.name;
    const bool evaluation = is_evaluation(name);
    if (kBookkeeping.contains(name) || name.starts_with("train_")) continue;
    if (name == "loss" || (evaluation && name.ends_with("_loss"))) {
      if (loss.curves.size() < kMaxCurvesPerChart) loss.curves.push_back({name, &series});
    } else if (series.points.size() < 2 || never_measured(series)) {
      continue;  // no curve; the value is in the table
    } else if (evaluation && is_score(series) && scores.curves.size() < kMaxCurvesPerChart) {
      scores.curves.push_back({name, &series});
    } else if (name == "learning_rate" || name == "grad_norm" || name == "samples_per_second" || name == "tokens_per_second") {
      middle.push_back({name == "grad_norm"            ? "Gradient norm"
                        : name == "learning_rate"      ? "Learning rate"
                        : name == "samples_per_second" ? "Samples per second"
                                                       : "Tokens per second",
                        {{name, &series}}});
    } else {
      rest.push_back({readable(name), {{name, &series}}});
    }
  }
  std::vector<Chart> charts;
  for (Chart* chart : {&loss, &scores}) {
    if (!chart->curves.empty()) charts.push_back(std::move(*chart));
  }
  charts.insert(charts.end(), middle.begin(), middle.end());
  charts.insert(charts.end(), rest.begin(), rest.end());
  return charts;
}

std::string tile(const std::string& value, const std::string& name) {
  return cat("<div class=\"card tile\"><b>", escape_html(value), "</b><span>", escape_html(name), "</span></div>");
}

std::string tiles(const ReportInput& input) {
  const MetricTable& metrics = input.metrics;
  std::string html;
  const auto last = [&](const char* name) -> std::optional<double> {
    const MetricSeries* series = metrics.find(name);
    return series == nullptr || series->points.empty() ? std::nullopt : std::optional(series->points.back().value);
  };
  if (metrics.lines() > 0) html += tile(display_number(metrics.last_step()), "steps");
  if (const auto epoch = last("epoch")) html += tile(display_number(std::round(*epoch * 100) / 100), "epochs");
  if (const auto loss = last("loss")) html += tile(display_number(*loss), "last training loss");
  if (const auto loss = last("eval_loss")) html += tile(display_number(*loss), "last evaluation loss");
  if (const auto accuracy = last("eval_accuracy")) html += tile(display_number(*accuracy), "last evaluation accuracy");
  if (const auto seconds = last("train_runtime");
      seconds.has_value() && std::isfinite(*seconds) && *seconds >= 0 && *seconds < 1e9)
    html += tile(format_duration(*seconds), "training time");
  if (const auto rate = last("samples_per_second"))
    html += tile(display_number(std::round(*rate * 10) / 10), "samples per second");
  if (const auto rate = last("tokens_per_second"); rate.has_value() && *rate > 0)
    html += tile(display_number(std::round(*rate)), "tokens per second");
  return html.empty() ? "" : cat("<div class=\"tiles\">", html, "</div>\n");
}

std::string problems(const std::vector<std::string>& list) {
  if (list.empty()) return "";
  std::string html = "<div class=\"card problems\"><b>About the files</b><ul>";
  for (const std::string& problem : list) html += cat("<li>", escape_html(problem), "</li>");
  return html + "</ul></div>\n";
}

}  // namespace

std::string make_report(const fs::path& output_dir, const ReportOptions& options) {
  std::error_code ignored;
  if (!fs::is_directory(output_dir, ignored)) {
    throw UserError(output_dir.string(),
                    fs::exists(output_dir, ignored) ? "expected a run's folder, got a file" : "no such folder",
                    "give the training.output_dir of a run");
  }
  ReportInput input = read_report_input(output_dir);
  if (input.empty)
    throw UserError(output_dir.string(), "holds no files of a run: no metrics_rank0000.jsonl, trainer_state.json or telemetry/",
                    "give the training.output_dir of a run");

  const fs::path absolute = fs::absolute(output_dir, ignored).lexically_normal();
  const std::string name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
  std::string body = cat("<h1>", escape_html(name), "</h1>\n<p class=\"sub\">", escape_html(absolute.string()), "</p>\n");
  body += tiles(input);
  body += problems(input.problems);

  const std::vector<Chart> charts = plan_charts(input.metrics);
  std::string curves;
  for (std::size_t i = 0; i < std::min(charts.size(), kMaxCharts); ++i)
    curves += draw_chart(charts[i].title, charts[i].curves, {options.points_per_curve});
  if (!curves.empty()) body += cat("<h2>Curves</h2><div class=\"charts\">", curves, "</div>\n");
  if (charts.size() > kMaxCharts)
    body += cat("<p class=\"note\">and ", charts.size() - kMaxCharts, " more metrics, which are in the table</p>");

  if (input.evaluation.has_value()) body += evaluation_section(*input.evaluation);
  body += samples_section(input.samples, options.max_samples);
  body += final_metrics_section(input.metrics);
  body += "<h2>The run</h2>\n" + config_section(input.config_yaml) + json_section("Environment", input.environment);
  if (input.trainer_state.is_object()) {
    input.trainer_state.erase("log_history");
    body += json_section("Trainer state", input.trainer_state);
  }
  return wrap_page(name + " · oumi.cpp report", body);
}

}  // namespace oumi
