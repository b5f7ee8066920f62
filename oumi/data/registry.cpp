#include "oumi/data/registry.h"

#include "oumi/base/registry.h"
#include "oumi/data/formats/idx.h"
#include "oumi/data/formats/image_folder.h"
#include "oumi/data/formats/npz.h"
#include "oumi/data/formats/tabular.h"
#include "oumi/data/text/megatron_dataset.h"
#include "oumi/data/text/text_datasets.h"

namespace oumi {
namespace {

Registry<DatasetFactory>& registry() {
  static Registry<DatasetFactory>* const table = [] {
    auto* filled = new Registry<DatasetFactory>("dataset");
    filled->add("fashion_mnist", make_fashion_mnist);
    filled->add("idx", make_idx_dataset);
    filled->add("npz_file", make_npz_dataset);
    filled->add("image_folder", make_image_folder);
    filled->add("csv", make_csv_dataset);
    filled->add("jsonl", make_jsonl_dataset);
    filled->add("parquet", make_parquet_dataset);
    filled->add("arrow", make_arrow_dataset);
    filled->add("pretokenized", [](const DatasetRequest& request) {
      return complete_tokens(make_pretokenized_dataset(request), request.text);
    });
    filled->add("megatron_indexed", make_megatron_indexed);
    register_text_datasets([&](const std::string& name, DatasetFactory factory) { filled->add(name, std::move(factory)); });
    return filled;
  }();
  return *table;
}

}  // namespace

const std::filesystem::path& DatasetRequest::require_path() const {
  if (!path)
    throw UserError(key + ".dataset_path", "is required for dataset '" + name + "'", "set it to the file or folder to read");
  if (!std::filesystem::exists(*path)) throw UserError(key + ".dataset_path", "no such file or folder: " + path->string());
  return *path;
}

void register_dataset(const std::string& name, DatasetFactory factory) { registry().add(name, std::move(factory)); }

std::vector<std::string> registered_datasets() { return registry().names(); }

namespace {

// A name that nothing registered, with a path: rows of text by local files. When the path holds none, the name is the likelier
// slip.
DatasetPtr make_unregistered(const DatasetRequest& request) {
  try {
    return make_unnamed_text_dataset(request);
  } catch (const UserError& error) {
    if (error.component() != request.path->string()) throw;
    throw UserError(request.key + ".dataset_name",
                    "unknown dataset '" + request.name + "', and its dataset_path can't be read as rows: " + error.component() +
                        ": " + error.message(),
                    suggestion(request.name, registry().names()));
  }
}

}  // namespace

DatasetPtr make_dataset(const DatasetRequest& request) {
  const DatasetFactory* factory = registry().find(request.name);
  if (factory == nullptr && !request.path) {
    const bool on_hub = request.name.find('/') != std::string::npos;
    throw UserError(request.key + ".dataset_name", "unknown dataset '" + request.name + "'",
                    on_hub ? "datasets of the Hub are not downloaded: set dataset_path to a local copy"
                           : suggestion(request.name, registry().names()));
  }
  DatasetPtr dataset = factory == nullptr ? make_unregistered(request) : (*factory)(request);
  if (dataset == nullptr)
    throw UserError(request.key + ".dataset_name", "the factory of '" + request.name + "' returned nothing");
  request.kwargs.check_all_read();
  return dataset;
}

}  // namespace oumi
