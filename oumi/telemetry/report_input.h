// What a report is made of, read from a run's folder with every damage noted instead of thrown.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/telemetry/report_data.h"

namespace oumi {

struct MetricPoint {
  double step, value;  // value may be NaN or infinite
};

// The values of one metric in rising order of step. Where a run was resumed without cutting the file back, the later values
// of a step replace the earlier ones.
struct MetricSeries {
  std::string name;
  std::vector<MetricPoint> points;
};

// Collects lines of metrics files.
class MetricTable {
 public:
  // False when `line` is not an object with a numeric "step". Bare NaN and Infinity, as Python writes them, are understood.
  bool add_line(std::string_view line);
  void add_object(const Json& object);
  void add(double step, std::string_view name, double value);

  const std::vector<MetricSeries>& series() const { return series_; }  // in order of appearance
  const MetricSeries* find(std::string_view name) const;
  double last_step() const { return last_step_; }
  std::size_t lines() const { return lines_; }

 private:
  std::vector<MetricSeries> series_;
  std::map<std::string, std::size_t, std::less<>> index_;
  double last_step_ = 0;
  std::size_t lines_ = 0;
};

struct ReportInput {
  std::filesystem::path output_dir;
  MetricTable metrics;
  std::string config_yaml;
  Json environment, trainer_state;  // null when absent
  std::optional<EvaluationReport> evaluation;
  std::vector<SamplePrediction> samples;
  std::vector<std::string> problems;  // sentences for the reader
  bool empty = true;                  // no file of a run was found
};

ReportInput read_report_input(const std::filesystem::path& output_dir);

}  // namespace oumi
