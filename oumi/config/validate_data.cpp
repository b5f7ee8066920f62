#include <cstdlib>
#include <set>

#include "oumi/config/rules.h"

namespace oumi {
namespace {

// kwargs must not repeat what a field of the section says.
void check_reserved(const std::string& key, const Json& kwargs, FieldList fields) {
  for (const Field& field : fields) {
    if (kwargs.contains(field.name)) {
      throw UserError(key + "." + field.name, "expected an argument that is no field of its own, got the name of one",
                      "set " + key.substr(0, key.rfind('.')) + "." + field.name + " instead");
    }
  }
}

void validate_dataset(const std::string& key, const DatasetParams& dataset) {
  if (dataset.dataset_name.empty()) throw UserError(key + ".dataset_name", "is required and missing", "name a dataset");
  if (dataset.sample_count) check_at_least<std::int64_t>(key + ".sample_count", *dataset.sample_count, 0);
  if (dataset.mixture_proportion) check_interval(key + ".mixture_proportion", *dataset.mixture_proportion, {});
  check_at_least<std::int64_t>(key + ".shuffle_buffer_size", dataset.shuffle_buffer_size, 1);
  if (dataset.transform_num_workers) {
    if (const auto* word = std::get_if<std::string>(&*dataset.transform_num_workers)) {
      if (*word != "auto") throw_rule(key + ".transform_num_workers", "a positive int or auto", shown(*word));
    } else {
      check_at_least<std::int64_t>(key + ".transform_num_workers", std::get<std::int64_t>(*dataset.transform_num_workers), 1);
    }
  }
  check_reserved(key + ".dataset_kwargs", dataset.dataset_kwargs, fields_of(&dataset));
}

void validate_split(const std::string& key, const DatasetSplitParams& split) {
  double sum = 0;
  std::size_t with_proportion = 0;
  for (std::size_t i = 0; i < split.datasets.size(); ++i) {
    validate_dataset(cat(key, ".datasets[", i, "]"), split.datasets[i]);
    if (split.datasets[i].mixture_proportion) {
      sum += *split.datasets[i].mixture_proportion;
      ++with_proportion;
    }
  }
  if (with_proportion > 0 && with_proportion < split.datasets.size()) {
    throw_rule(key + ".datasets", "mixture_proportion for every dataset or for none",
               cat(with_proportion, " of ", split.datasets.size()));
  }
  // Python's math.isclose, by which Oumi judges.
  if (with_proportion > 0 && !(std::abs(sum - 1) <= 1e-9 * std::max(1.0, std::abs(sum)))) {
    throw_rule(key + ".datasets", "mixture_proportion values that sum to 1", shown(sum));
  }
  if (split.mixture_strategy != "first_exhausted" && split.mixture_strategy != "all_exhausted") {
    throw_rule(key + ".mixture_strategy", "first_exhausted or all_exhausted", shown(split.mixture_strategy));
  }
  if (split.train_target && split.collator_name != "text_completions_only_with_padding") {
    throw_rule(key + ".collator_name", "text_completions_only_with_padding with train_target",
               split.collator_name ? shown(*split.collator_name) : "null");
  }
}

}  // namespace

void validate_data(const DataParams& data) {
  if (data.train.datasets.empty()) {
    throw_rule("data.train.datasets", "at least one dataset", "none", "add data.train.datasets with a dataset_name");
  }
  validate_split("data.train", data.train);
  validate_split("data.test", data.test);
  validate_split("data.validation", data.validation);
  const std::pair<const char*, const DatasetSplitParams*> others[] = {{"data.validation", &data.validation},
                                                                      {"data.test", &data.test}};
  for (const auto& [key, split] : others) {
    const std::string name = split->collator_name.value_or("");
    if (name.empty() || name == data.train.collator_name) continue;
    throw_rule(std::string(key) + ".collator_name",
               "the same collator as data.train, " + (data.train.collator_name ? shown(*data.train.collator_name) : "null"),
               shown(name), "set data.train.collator_name to the same, or remove this one");
  }
}

void validate_model(const ModelParams& model) {
  if (model.model_name.empty())
    throw UserError("model.model_name", "is required and missing", "name a registered model, a folder or a model on the Hub");
  if (model.model_max_length) check_at_least<std::int64_t>("model.model_max_length", *model.model_max_length, 1);
  check_word(
      "model.torch_dtype_str", model.torch_dtype_str,
      {"auto", "float32", "f32", "float", "bfloat16", "bf16", "float16", "f16", "half", "float64", "f64", "double", "uint8"});
  check_reserved("model.processor_kwargs", model.processor_kwargs, fields_of(&model));
}

}  // namespace oumi
