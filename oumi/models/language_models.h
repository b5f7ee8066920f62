// Language models from Hugging Face's folders and configs: which families there are, and how one of them is made.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/registry.h"
#include "oumi/models/decoder/hf_config.h"
#include "oumi/models/language_model.h"

namespace oumi {

// One kind of model: what config.json calls it, and how it is built from one.
struct LanguageModelFamily {
  std::string model_type;    // config.json "model_type"
  std::string architecture;  // config.json "architectures": [this]
  std::function<LanguageModelPtr(const HfConfig& config)> make;
  // The config of the text part of a multimodal folder, whose model_type is `multimodal_type`.
  std::string multimodal_type{};
  std::function<Json(const Json& config)> text_config{};
};

// All families by model_type. A new one is one folder and one line in families.cpp.
Registry<LanguageModelFamily>& language_model_families();

struct LanguageModelOptions {
  Json overrides = Json::object();         // keys that win over config.json's; null takes a key out
  bool load_weights = true;                // false: HF's initial values, from the generator's state
  std::optional<c10::ScalarType> dtype{};  // absent: what config.json says, else the weights' own, else float32
  std::optional<c10::Device> device{};     // kMeta: shapes alone, neither weights nor initial values
  TensorParallelPtr tensor_parallel{};     // this rank's part of the model, of the dense families alone
  bool defer_weights = false;              // Model::weights_deferred: made when they are taken
};

// True when `path` is a config.json, or a folder with one, that Hugging Face wrote: it has no init_kwargs, which our custom
// models have.
bool is_hf_model(const std::filesystem::path& path);

// From a folder with config.json and weights (safetensors or pytorch_model.bin, whole or sharded), or a path to a config.json
// alone when load_weights is false. Weights are mapped and copied tensor by tensor. Throws UserError naming file, key or
// tensor.
LanguageModelPtr load_language_model(const std::filesystem::path& path, const LanguageModelOptions& options = {});

// From a config's values, with initial weights. `origin` names where they came from.
LanguageModelPtr make_language_model(const Json& config, const LanguageModelOptions& options, const std::string& origin);

}  // namespace oumi
