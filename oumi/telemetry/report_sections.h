// The parts of the report below the curves, each as HTML; empty where there is nothing to show.
#pragma once

#include <string>
#include <vector>

#include "oumi/telemetry/report_input.h"

namespace oumi {

std::string final_metrics_section(const MetricTable& metrics);
std::string evaluation_section(const EvaluationReport& evaluation);
std::string samples_section(const std::vector<SamplePrediction>& samples, std::size_t limit);
std::string config_section(const std::string& yaml);
// Nested JSON as a table of dotted names.
std::string json_section(const std::string& title, const Json& json);

}  // namespace oumi
