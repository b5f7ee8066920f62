#include <algorithm>
#include <filesystem>
#include <iostream>

#include "cli/process_memory.h"
#include "cli/train_commands.h"
#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/config/overrides.h"
#include "oumi/distributed/rank_layout.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/trained_language_model.h"

namespace oumi::cli {
namespace {

void print(const MetricValues& metrics, bool as_json) {
  if (read_rank_layout().rank != 0) return;
  Json json = Json::object();
  for (const auto& [name, value] : metrics) {
    json[name] = value;
    if (!as_json) std::cout << name << ": " << Json(value).dump() << '\n';
  }
  if (as_json) std::cout << json.dump() << '\n';
}

}  // namespace

int evaluate_command(const CommandLine& line) {
  choose_memory(FreedMemory::kStaysInHeap);
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  const std::vector<std::string> overrides = parse_overrides(line.overrides);
  const bool named = std::any_of(overrides.begin(), overrides.end(),
                                 [](const std::string& text) { return text.starts_with("model.model_name="); });
  const TrainedModelChoice choice{.prefer_output_dir = !named};
  if (!is_language_model(config, choice)) {
    if (!line.multiple_choice.empty())
      throw UserError("command line", "--multiple-choice: expected a language model, got '" + config.model.model_name + "'");
    print(evaluate_from_config(config), line.json);
    return 0;
  }
  const LanguageEvaluationOptions options{.choice = choice,
                                          .multiple_choice = line.multiple_choice,
                                          .notice = [](const std::string& text) { std::cerr << text << '\n'; }};
  print(evaluate_language_from_config(config, options), line.json);
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
