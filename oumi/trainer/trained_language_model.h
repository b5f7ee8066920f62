// Which model `infer` and `evaluate` use, with its tokenizer.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "oumi/config/training_config.h"
#include "oumi/metrics/metric.h"
#include "oumi/models/language_model.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

struct TrainedModelChoice {
  // What the run saved in training.output_dir, whole or as an adapter, where there is something; false: model.model_name alone.
  bool prefer_output_dir = true;
  // false: goes without where there is none, since rows may be tokenised already.
  bool needs_tokenizer = true;
};

struct TrainedLanguageModel {
  LanguageModelPtr model;                      // in evaluation mode, adapters merged
  std::shared_ptr<const Tokenizer> tokenizer;  // null only without needs_tokenizer
  TrainingConfig config;             // with model.model_name, tokenizer_name and adapter_model as they are on this machine
  std::vector<std::string> notices;  // which model it is, what its tokenizer lacked
};

// model.model_name may be a folder with a model, a folder with an adapter alone (its adapter_config.json names the base), or a
// name on the Hub. The tokenizer lies beside the model, else it is model.tokenizer_name's or model.model_name's.
// model.adapter_model is applied. Throws UserError when there is no trained model and when it is no language model.
TrainedLanguageModel load_trained_language_model(const TrainingConfig& config, const TrainedModelChoice& choice = {});

// Whether that would be a language model, from names and config.json files alone.
bool is_language_model(const TrainingConfig& config, const TrainedModelChoice& choice = {});

struct LanguageEvaluationOptions {
  TrainedModelChoice choice;
  std::filesystem::path multiple_choice = {};                // JSONL; empty: none
  std::function<void(const std::string&)> notice = nullptr;  // lines for the user
};

// Loss, perplexity and accuracy of data.validation, and the figures of multiple choice (language_evaluation.h): whichever there
// is data for.
MetricValues evaluate_language_from_config(const TrainingConfig& config, const LanguageEvaluationOptions& options);

}  // namespace oumi
