// The data of a run: tokenizer, datasets, collators, and what is told of them before training.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "oumi/config/training_config.h"
#include "oumi/data/build_dataset.h"
#include "oumi/models/model.h"

namespace oumi {

struct RunDataOptions {
  std::function<void(const std::string&)> notice = nullptr;  // lines for the user
  // Preference records can be looked at; training on them is refused.
  bool allow_preferences = false;
  // The training set is trained by epochs unless training.max_steps is set: its length is needed.
  bool plans_training = false;
  // At the longest length of model and tokenizer; false: samples are whole.
  bool cut_samples = true;
};

class RunData {
 public:
  // Loads the tokenizer where a dataset, a collator or model.tokenizer_name asks for one: model.tokenizer_name, else the folder
  // model.model_name, else what an earlier run saved in training.output_dir. A custom or tokenised run has none.
  explicit RunData(const TrainingConfig& config, RunDataOptions options = {});

  bool has(DatasetSplitKind kind) const { return !section(kind).datasets.empty(); }
  DatasetPtr dataset(DatasetSplitKind kind) const;
  CollateFn collator(DatasetSplitKind kind) const;
  const std::shared_ptr<const Tokenizer>& tokenizer() const noexcept { return context_.text.tokenizer; }

  // For texts: says how many samples and tokens there are and how many of them are trained on, and checks every token id
  // against the vocabulary of `model` where it is a language model. Streams are not read ahead. Throws UserError.
  void report(const DatasetPtr& dataset, DatasetSplitKind kind, const Model& model) const;

  // Writes the tokenizer's files into a folder of weights; nothing without a tokenizer.
  void save_tokenizer(const std::filesystem::path& folder) const;

 private:
  const DatasetSplitParams& section(DatasetSplitKind kind) const;
  DatasetBuildContext context(DatasetSplitKind kind) const;
  void load_tokenizer();

  const TrainingConfig& config_;
  RunDataOptions options_;
  DatasetBuildContext context_;
};

}  // namespace oumi
