#include "oumi/models/language_models.h"

#include <torch/types.h>

#include <algorithm>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/models/config_overrides.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/models/state.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::string list_families() {
  std::vector<std::string> names;
  for (const std::string& type : language_model_families().names()) {
    names.push_back(type + " (" + language_model_families().find(type)->architecture + ")");
  }
  return "families: " + join(names, ", ");
}

// The family, and the config that it is built from: for a multimodal one, that of its text part.
const LanguageModelFamily& resolve_family(Json& config, const std::string& origin) {
  const std::string type =
      config.contains("model_type") && config["model_type"].is_string() ? config["model_type"].get<std::string>() : "";
  std::string architecture;
  if (config.contains("architectures") && config["architectures"].is_array() && !config["architectures"].empty() &&
      config["architectures"][0].is_string()) {
    architecture = config["architectures"][0].get<std::string>();
  }
  for (const std::string& name : language_model_families().names()) {
    const LanguageModelFamily& family = *language_model_families().find(name);
    if (!family.multimodal_type.empty() && type == family.multimodal_type) {
      config = family.text_config(config);
      return family;
    }
  }
  const LanguageModelFamily* family = type.empty() ? nullptr : language_model_families().find(type);
  if (family == nullptr) {
    throw UserError(origin + ":model_type",
                    "unknown model family '" + type + "'" + (architecture.empty() ? "" : " (" + architecture + ")"),
                    list_families());
  }
  // The bare decoder of the family is its weights without a head of another task; a classifier is not.
  const std::string stem =
      family->architecture.substr(0, std::min(family->architecture.find("For"), family->architecture.find("LMHead")));
  const bool fits = architecture.empty() || architecture == family->architecture || architecture == stem + "Model";
  if (!fits)
    throw UserError(origin + ":architectures", "expected " + family->architecture + ", got '" + architecture + "'",
                    list_families());
  return *family;
}

std::optional<c10::ScalarType> config_dtype(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!config.contains(key) || !config[key].is_string()) continue;
    std::string name = config[key].get<std::string>();
    if (name.starts_with("torch.")) name.erase(0, 6);
    if (name == "bfloat16") return at::kBFloat16;
    if (name == "float16") return at::kHalf;
    if (name == "float32") return at::kFloat;
    if (name == "float64") return at::kDouble;
  }
  return std::nullopt;
}

std::optional<c10::ScalarType> weights_dtype(const StateDict& weights) {
  for (const auto& [name, tensor] : weights) {
    if (tensor.is_floating_point()) return tensor.scalar_type();
  }
  return std::nullopt;
}

struct BuildRequest {
  Json config;
  std::string origin;  // of the config
  Json generation_config{};
  std::shared_ptr<const StateDict> weights{};  // nullptr: initial values
  std::string weights_origin{};
};

LanguageModelPtr build(BuildRequest request, const LanguageModelOptions& options) {
  Json& config = request.config;
  const LanguageModelFamily& family = resolve_family(config, request.origin);
  apply_overrides(config, options.overrides, family.model_type);
  config["model_type"] = family.model_type;
  HfConfig reader(config, request.origin);
  reader.mark_overrides(options.overrides);
  std::optional<c10::ScalarType> dtype = options.dtype ? options.dtype : config_dtype(config);
  if (!dtype && request.weights != nullptr) dtype = weights_dtype(*request.weights);
  LanguageModelPtr model;
  {
    const nn::ParameterScope scope({.initialize = false,
                                    .dtype = dtype.value_or(at::kFloat),
                                    .device = options.device,
                                    .tensor_parallel = options.tensor_parallel});
    model = family.make(reader);
  }
  reader.check_all_read();
  model->set_identity(family.architecture, {});
  model->set_config(config, std::move(request.generation_config));
  if (options.device && options.device->is_meta()) return model;
  if (options.defer_weights) {
    model->defer_weights(LanguageModel::WeightsToCome{.files = std::move(request.weights),
                                                      .origin = std::move(request.weights_origin),
                                                      .rng_state = cpu_rng_state(),
                                                      .dtype = dtype.value_or(at::kFloat)});
  } else if (request.weights == nullptr) {
    model->initialize_weights();
  } else {
    model->load_own_state_dict(model->from_hf_state_dict(*request.weights, request.weights_origin), request.weights_origin);
  }
  return model;
}

fs::path config_path(const fs::path& path) { return fs::is_directory(path) ? path / "config.json" : path; }

}  // namespace

bool is_hf_model(const fs::path& path) {
  const fs::path file = config_path(path);
  if (!fs::is_regular_file(file) || file.extension() != ".json") return false;
  const Json config = read_json_file(file);
  if (!config.is_object() || config.contains("init_kwargs")) return false;
  const auto type = config.find("model_type");
  if (type != config.end() && type->is_string() && model_registry().find(type->get<std::string>()) != nullptr) return false;
  return type != config.end() || config.contains("architectures");
}

LanguageModelPtr load_language_model(const fs::path& path, const LanguageModelOptions& options) {
  const fs::path file = config_path(path), folder = file.parent_path();
  BuildRequest request{.config = read_json_file(file), .origin = file.string(), .weights_origin = folder.string()};
  if (!request.config.is_object())
    throw UserError(file.string(), "expected a JSON object, got " + json_type_name(request.config));
  if (fs::exists(folder / "generation_config.json"))
    request.generation_config = read_json_file(folder / "generation_config.json");
  if (!options.load_weights || (options.device && options.device->is_meta())) return build(std::move(request), options);
  request.weights = std::make_shared<const StateDict>(load_language_weights(folder));
  return build(std::move(request), options);
}

LanguageModelPtr make_language_model(const Json& config, const LanguageModelOptions& options, const std::string& origin) {
  return build({.config = config, .origin = origin}, options);
}

}  // namespace oumi
