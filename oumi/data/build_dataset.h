// Recipes' `data:` sections -> datasets.
#pragma once

#include <cstdint>
#include <string>

#include "oumi/config/training_config.h"
#include "oumi/data/collate.h"
#include "oumi/data/dataset.h"
#include "oumi/data/text/packing.h"
#include "oumi/data/text/text_context.h"

namespace oumi {

enum class DatasetSplitKind { kTrain, kValidation, kTest };

struct DatasetBuildContext {
  // Stands in wherever the recipe gives no seed (training.data_seed): no order is ever left to chance.
  std::uint64_t seed = 42;
  // Which section is built: errors name data.train, data.validation or data.test.
  DatasetSplitKind split = DatasetSplitKind::kTrain;
  // Of datasets of text: their tokenizer, longest length and where notices go.
  TextContext text = {};
  PackingStrategy packing = PackingStrategy::kBestFit;  // of `pack: true`
  std::int64_t pack_length = 1024;                      // tokens in a packed row
  std::int32_t label_ignore_index = -100;               // of padded labels
};

// All datasets of a section: each loaded, sliced, shuffled and sampled, then put in a row or, where they have mixture
// proportions, interleaved. Map-style, or iterable with `stream: true`. Texts get their labels by the section's collator and,
// with `pack: true`, share rows. Throws UserError naming the dotted key or the file.
DatasetPtr build_dataset(const DatasetSplitParams& params, const DatasetBuildContext& context = {});

// How the section's samples become a batch: by the collator that it names; where it names none, texts are padded, and for other
// data the result is empty: the dataset makes its batches itself. Throws UserError naming the dotted key.
CollateFn collator_for(const DatasetSplitParams& params, const DatasetBuildContext& context = {});

// Whether every dataset of the section is one of text.
bool is_text(const DatasetSplitParams& params);
// "data.train", ...
const char* section_name(DatasetSplitKind split);

struct SingleDatasetOptions {
  std::uint64_t seed = 42;
  bool stream = false;
  std::string key = "dataset";  // what errors call it
  TextContext text = {};
};

// One dataset: its split expression, shuffle and sample_count applied.
DatasetPtr build_dataset(const DatasetParams& params, const SingleDatasetOptions& options = {});

}  // namespace oumi
