// From a TrainingConfig to a run: what `oumi-cpp train`, `evaluate` and `predict` do.
#pragma once

#include <filesystem>
#include <functional>

#include "oumi/config/training_config.h"
#include "oumi/trainer/trainer.h"

namespace oumi {

// Oumi's `training:` (and HF's names in it) as TrainingArguments.
TrainingArguments training_arguments(const TrainingConfig& config);

// Where a run of `config` on this machine would compute: training.use_cpu, and whether there is a GPU.
bool trains_on_cpu(const TrainingConfig& config);

struct TrainRunOptions {
  bool overwrite =
      false;  // delete an earlier run's files in output_dir; without it and without resuming, a folder with files is refused
};

// Builds model, data and trainer, trains, and writes all files of a run. Throws UserError for settings that cannot be honoured.
TrainOutput train_from_config(const TrainingConfig& config, const TrainRunOptions& options = {});

// Loss and metrics of data.validation. The weights: model.model_name where it is a saved model's folder, else what the run
// saved in training.output_dir.
MetricValues evaluate_from_config(const TrainingConfig& config);

// Writes predictions for data.test, or data.validation where there is no test set, to `output` (.jsonl or .parquet).
MetricValues predict_from_config(const TrainingConfig& config, const std::filesystem::path& output);

// The trained model that evaluate and predict use.
ModelPtr load_trained_model(const TrainingConfig& config);

}  // namespace oumi
