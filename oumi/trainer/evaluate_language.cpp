#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/trainer/language_evaluation.h"
#include "oumi/trainer/run_data.h"
#include "oumi/trainer/trained_language_model.h"

namespace oumi {

MetricValues evaluate_language_from_config(const TrainingConfig& config, const LanguageEvaluationOptions& options) {
  const bool has_data = !config.data.validation.datasets.empty();
  if (!has_data && options.multiple_choice.empty()) {
    throw UserError("data.validation.datasets", "there is nothing to evaluate on: expected at least one dataset, got none",
                    "add data.validation to the config, or give --multiple-choice FILE.jsonl");
  }
  // Before gigabytes of weights are read.
  const std::vector<MultipleChoiceRow> questions =
      options.multiple_choice.empty() ? std::vector<MultipleChoiceRow>() : read_multiple_choice(options.multiple_choice);
  // What the data needs it asks for itself.
  TrainedModelChoice choice = options.choice;
  choice.needs_tokenizer = !questions.empty();
  const TrainedLanguageModel loaded = load_trained_language_model(config, choice);
  for (const std::string& notice : loaded.notices) {
    if (options.notice) options.notice(notice);
  }
  MetricValues metrics;
  if (has_data) {
    const RunData data(loaded.config, {.notice = options.notice});
    const DatasetPtr dataset = data.dataset(DatasetSplitKind::kValidation);
    data.report(dataset, DatasetSplitKind::kValidation, *loaded.model);
    Json kwargs{{"batch_size", config.training.per_device_eval_batch_size}};
    for (const auto& [key, value] : config.data.validation.dataloader_kwargs.items()) kwargs[key] = value;
    DataLoaderOptions loader_options = DataLoaderOptions::from_kwargs(kwargs);
    loader_options.collate_fn = data.collator(DatasetSplitKind::kValidation);
    DataLoader loader(dataset, loader_options);
    metrics = evaluate_language_model(*loaded.model, loader);
  }
  if (!questions.empty()) {
    const MetricValues answers =
        evaluate_multiple_choice(*loaded.model, *loaded.tokenizer, questions, config.training.per_device_eval_batch_size);
    metrics.insert(metrics.end(), answers.begin(), answers.end());
  }
  return metrics;
}

}  // namespace oumi
