// Dataset names -> factories.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "oumi/base/kwargs.h"
#include "oumi/data/dataset.h"
#include "oumi/data/text/text_context.h"

namespace oumi {

// What a dataset's factory is asked for.
struct DatasetRequest {
  std::string name;                           // as the user wrote it
  std::optional<std::filesystem::path> path;  // dataset_path
  std::optional<std::string> subset;
  std::string split = "train";  // one split's bare name: slices are cut out of what the factory returns
  Kwargs kwargs;                // dataset_kwargs; keys that the factory does not read are errors
  std::uint64_t seed = 0;       // of everything random inside, shuffles and transforms
  bool stream = false;          // wants an iterable dataset; a map-style one is wrapped by the caller
  std::string key = "dataset";  // dotted config key of this dataset, for errors
  TextContext text = {};        // tokenizer, longest length, ...: of datasets of text

  // dataset_path. Throws UserError when it was not given or is not there.
  const std::filesystem::path& require_path() const;
};

using DatasetFactory = std::function<DatasetPtr(const DatasetRequest&)>;

// Names are case-insensitive. Throws UserError when the name is taken.
void register_dataset(const std::string& name, DatasetFactory factory);

// The dataset of `request.name`. A name that isn't registered is taken for what its dataset_path holds. Throws UserError for an
// unknown name without one (with the nearest name), and for an unread keyword argument.
DatasetPtr make_dataset(const DatasetRequest& request);

std::vector<std::string> registered_datasets();

}  // namespace oumi
