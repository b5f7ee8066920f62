// Recipes' `data:` sections -> datasets.
#pragma once

#include <cstdint>
#include <string>

#include "oumi/config/training_config.h"
#include "oumi/data/dataset.h"

namespace oumi {

enum class DatasetSplitKind { kTrain, kValidation, kTest };

struct DatasetBuildContext {
  // Stands in wherever the recipe gives no seed (training.data_seed): no order is ever left to chance.
  std::uint64_t seed = 42;
  // Which section is built: errors name data.train, data.validation or data.test.
  DatasetSplitKind split = DatasetSplitKind::kTrain;
};

// All datasets of a section: each loaded, sliced, shuffled and sampled, then put in a row or, where they have mixture
// proportions, interleaved. Map-style, or iterable with `stream: true`. Throws UserError naming the dotted key or the file.
DatasetPtr build_dataset(const DatasetSplitParams& params, const DatasetBuildContext& context = {});

struct SingleDatasetOptions {
  std::uint64_t seed = 42;
  bool stream = false;
  std::string key = "dataset";  // what errors call it
};

// One dataset: its split expression, shuffle and sample_count applied.
DatasetPtr build_dataset(const DatasetParams& params, const SingleDatasetOptions& options = {});

}  // namespace oumi
