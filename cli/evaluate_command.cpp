#include <filesystem>
#include <iostream>

#include "cli/train_commands.h"
#include "oumi/base/json.h"
#include "oumi/trainer/from_config.h"

namespace oumi::cli {
namespace {

void print(const MetricValues& metrics, bool as_json) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) {
    json[name] = value;
    if (!as_json) std::cout << name << ": " << Json(value).dump() << '\n';
  }
  if (as_json) std::cout << json.dump() << '\n';
}

}  // namespace

int evaluate_command(const CommandLine& line) {
  print(evaluate_from_config(load_config({line.configs.begin(), line.configs.end()}, line.overrides)), line.json);
  return 0;
}

int predict_command(const CommandLine& line) {
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  const std::filesystem::path output = line.output.empty()
                                           ? std::filesystem::path(config.training.output_dir) / "predictions.jsonl"
                                           : std::filesystem::path(line.output);
  print(predict_from_config(config, output), /*as_json=*/false);
  std::cout << "predictions are in " << output.string() << '\n';
  return 0;
}

}  // namespace oumi::cli
