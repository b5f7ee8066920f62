// Saved model folders: model.safetensors (or its shards, or a .pt state dict) beside config.json {model_type, init_kwargs}.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/model.h"
#include "oumi/models/state.h"

namespace oumi {

struct PretrainedOptions {
  bool strict = true;                                  // missing and unexpected tensors are errors
  std::string weights_filename = "model.safetensors";  // as Oumi's save_pretrained
  std::string config_filename = "config.json";
  Kwargs override_kwargs = {};  // wins over the saved init_kwargs
};

// What config.json says. `model_type` is empty when there is no config.json.
struct PretrainedConfig {
  std::string model_type;
  Json init_kwargs = Json::object();
};
PretrainedConfig read_pretrained_config(const std::filesystem::path& directory,
                                        const std::string& config_filename = "config.json");

// The weights in `directory`: `weights_filename`, else its sharded form, else pytorch_model.bin / model.pt; or, when
// `directory` is a file, that file. Their contents are checked: in a checkpoint of ours against its manifest, else against the
// hashes that files of ours keep; where there are neither, as `check` says. Throws UserError when there are none.
StateDict load_weights(const std::filesystem::path& directory, const std::string& weights_filename = "model.safetensors",
                       ContentCheck check = ContentCheck::kHashes);
// Of a language model, which has no tensor but weights.
inline StateDict load_language_weights(const std::filesystem::path& directory) {
  return load_weights(directory, "model.safetensors", ContentCheck::kHashesElseValues);
}

// True when the folder's config.json names a registered model, or is one of Hugging Face's.
bool is_pretrained_model(const std::filesystem::path& directory);

// Builds the registered class that config.json names and loads the weights.
ModelPtr load_pretrained(const std::filesystem::path& directory, const PretrainedOptions& options = {});

// The same for a class known at compile time. Throws UserError when config.json names another class.
template <class T>
std::shared_ptr<T> from_pretrained(const std::filesystem::path& directory, const PretrainedOptions& options = {});

namespace detail {
Kwargs merged_kwargs(const std::filesystem::path& directory, const PretrainedOptions& options,
                     const std::string& expected_type);
void load_into(Model& model, const std::filesystem::path& directory, const PretrainedOptions& options);
}  // namespace detail

template <class T>
std::shared_ptr<T> from_pretrained(const std::filesystem::path& directory, const PretrainedOptions& options) {
  auto model = make_model<T>(detail::merged_kwargs(directory, options, class_name(typeid(T))));
  detail::load_into(*model, directory, options);
  return model;
}

}  // namespace oumi
