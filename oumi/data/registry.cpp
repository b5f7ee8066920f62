#include "oumi/data/registry.h"

#include <array>

#include "oumi/base/registry.h"
#include "oumi/data/formats/idx.h"
#include "oumi/data/formats/image_folder.h"
#include "oumi/data/formats/npz.h"
#include "oumi/data/formats/tabular.h"

namespace oumi {
namespace {

// Datasets of conversations and documents that recipes name.
constexpr std::array kTextDatasets = {
    "text_sft",
    "text_sft_jsonl",
    "PromptResponseDataset",
    "HuggingFaceDataset",
    "yahma/alpaca-cleaned",
    "tatsu-lab/alpaca",
    "HuggingFaceFW/fineweb-edu",
    "mlabonne/orpo-dpo-mix-40k",
    "HuggingFaceH4/Multilingual-Thinking",
    "debug_sft",
    "debug_pretraining",
    "debug_dpo",
};

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
    filled->add("pretokenized", make_pretokenized_dataset);
    return filled;
  }();
  return *table;
}

// Every text dataset is answered here until it has a factory. A name with a slash is one on the Hugging Face Hub.
void refuse_text(const DatasetRequest& request) {
  const std::string lower = to_lower(request.name);
  bool is_text = request.name.find('/') != std::string::npos;
  for (const char* name : kTextDatasets) is_text = is_text || lower == to_lower(name);
  if (!is_text) return;
  throw UserError(request.key + ".dataset_name",
                  "'" + request.name + "': text datasets need the tokenizer and chat templates, which are not built yet",
                  "built in: " + join(registry().names(), ", "));
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

DatasetPtr make_dataset(const DatasetRequest& request) {
  if (registry().find(request.name) == nullptr) refuse_text(request);
  const DatasetFactory& factory = registry().at(request.name, request.key + ".dataset_name");
  DatasetPtr dataset = factory(request);
  if (dataset == nullptr)
    throw UserError(request.key + ".dataset_name", "the factory of '" + request.name + "' returned nothing");
  request.kwargs.check_all_read();
  return dataset;
}

}  // namespace oumi
