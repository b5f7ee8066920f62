#include "oumi/models/adapters/adapters.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>
#include <map>
#include <regex>
#include <set>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/adapters/linear_layers.h"
#include "oumi/models/language_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/tensor_parallel_state.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

const char* const kPrefix = "base_model.model.";
const char* const kWeights = "adapter_model.safetensors";
const char* const kConfig = "adapter_config.json";

// The modules that PEFT adapts when nothing is asked for, by model_type; families that its table lacks must say.
std::vector<std::string> usual_targets(const Model& model) {
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  const std::string type = language == nullptr ? "" : language->config().value("model_type", std::string());
  static const std::set<std::string> kQueryAndValue = {"llama", "mistral", "gemma2", "gemma3_text", "qwen2", "qwen3"};
  if (kQueryAndValue.contains(type)) return {"q_proj", "v_proj"};
  if (type == "gpt2") return {"c_attn"};
  throw UserError("peft.lora_target_modules",
                  cat("expected the modules to adapt: there is no usual choice for ", type.empty() ? model.model_type() : type,
                      ", got none"),
                  "all-linear adapts every linear layer");
}

// Router and experts of a mixture of experts, which are no linear layers in Transformers.
bool is_expert(const std::string& name, const std::set<std::string>& modules) {
  if (name.find(".experts.") != std::string::npos) return true;
  const auto dot = name.rfind('.');
  return dot != std::string::npos && name.substr(dot) == ".gate" && modules.contains(name.substr(0, dot) + ".experts");
}

bool is_saved_module(const LoraConfig& config, const std::string& name) {
  return std::any_of(config.modules_to_save.begin(), config.modules_to_save.end(), [&](const std::string& saved) {
    return name == saved || name.ends_with("." + saved) || name.find("." + saved + ".") != std::string::npos ||
           name.starts_with(saved + ".");
  });
}

std::vector<LinearLayer> choose_layers(const Model& model, const LoraConfig& config) {
  const LanguageModel* language = dynamic_cast<const LanguageModel*>(&model);
  const nn::LinearImpl* head = language == nullptr ? nullptr : const_cast<LanguageModel*>(language)->output_head().get();
  std::set<std::string> names;
  for (const auto& item : model.named_modules("", false)) names.insert(item.key());
  std::optional<std::regex> exclude;
  if (!config.exclude.empty()) exclude.emplace(config.exclude);
  std::vector<LinearLayer> chosen;
  for (const auto& item : model.named_modules("", false)) {
    const std::string& name = item.key();
    auto* linear = dynamic_cast<nn::LinearImpl*>(item.value().get());
    if (config.targets.all_linear ? linear == nullptr || linear == head || is_expert(name, names)
                                  : !config.targets.matches(name))
      continue;
    if ((exclude && std::regex_match(name, *exclude)) || is_saved_module(config, name)) continue;
    if (linear == nullptr) {
      throw UserError(
          "peft.lora_target_modules",
          cat("expected linear layers of oumi::nn, got '", name, "', a module of class ", class_name(typeid(*item.value()))),
          "adapters on other layers are not built");
    }
    if (linear == head && language->dimensions().tie_word_embeddings) {
      throw UserError(
          "peft.lora_target_modules",
          cat("expected layers with weights of their own, got '", name, "', the head, which is tied to the embedding"),
          "leave it out, or load the model with tie_word_embeddings: false in model.model_kwargs");
    }
    chosen.push_back({name, linear});
  }
  if (!chosen.empty()) return chosen;
  std::set<std::string> linears;
  for (const LinearLayer& layer : linear_layers(model)) linears.insert(layer.name.substr(layer.name.rfind('.') + 1));
  throw UserError("peft.lora_target_modules", "expected names of linear layers of the model, got none that matches",
                  linears.empty() ? "the model has no linear layer of oumi::nn"
                                  : "the model's are " + join({linears.begin(), linears.end()}, ", "));
}

void freeze(const Model& model) {
  for (Tensor& parameter : model.parameters()) parameter.requires_grad_(false);
}

// The modules that modules_to_save names: each name must be there, and must not be tied to another.
std::vector<std::pair<std::string, torch::nn::Module*>> saved_modules(const Model& model, const LoraConfig& config) {
  std::vector<std::pair<std::string, torch::nn::Module*>> found;
  std::set<std::string> used;
  for (const auto& item : model.named_modules("", false)) {
    for (const std::string& saved : config.modules_to_save) {
      if (item.key() != saved && !item.key().ends_with("." + saved)) continue;
      found.emplace_back(item.key(), item.value().get());
      used.insert(saved);
      break;
    }
  }
  for (const std::string& saved : config.modules_to_save) {
    if (!used.contains(saved))
      throw UserError("peft.lora_modules_to_save", "expected names of the model's modules, got '" + saved + "'");
  }
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  if (language != nullptr && language->dimensions().tie_word_embeddings) {
    auto* writable = const_cast<LanguageModel*>(language);
    for (const auto& [name, module] : found) {
      if (module != writable->input_embeddings().get() && module != writable->output_head().get()) continue;
      throw UserError("peft.lora_modules_to_save",
                      "expected modules with weights of their own, got '" + name + "': the model's embedding and head are tied",
                      "load it with tie_word_embeddings: false in model.model_kwargs");
    }
  }
  return found;
}

// Trains biases and modules_to_save, as the configuration asks.
void train_beside_adapters(const Model& model, const LoraConfig& config) {
  if (config.bias == "all") {
    for (auto& item : model.named_parameters()) {
      if (item.key().find("bias") != std::string::npos) item.value().requires_grad_(true);
    }
  }
  for (const LinearLayer& layer : linear_layers(model)) {
    if (config.bias == "lora_only" && lora_of(*layer.module) != nullptr && layer.module->bias.defined())
      layer.module->bias.requires_grad_(true);
  }
  for (const auto& [name, module] : saved_modules(model, config)) {
    for (Tensor& parameter : module->parameters()) parameter.requires_grad_(true);
  }
}

// The shortest list that PEFT matches to exactly the adapted layers: the last parts of their names, or their whole names.
std::vector<std::string> adapted_names(const Model& model) {
  std::set<std::string> names, ends;
  for (const LinearLayer& layer : linear_layers(model)) {
    if (lora_of(*layer.module) == nullptr) continue;
    names.insert(layer.name);
    ends.insert(layer.name.substr(layer.name.rfind('.') + 1));
  }
  ModuleTargets by_end;
  by_end.names.emplace(ends.begin(), ends.end());
  const auto modules = model.named_modules("", false);
  const bool exact = std::all_of(modules.begin(), modules.end(),
                                 [&](const auto& item) { return names.contains(item.key()) == by_end.matches(item.key()); });
  const std::set<std::string>& shown = exact ? ends : names;
  return {shown.begin(), shown.end()};
}

StateDict read_adapter_weights(const fs::path& directory) {
  if (fs::exists(directory / kWeights)) return load_safetensors(directory / kWeights, ContentCheck::kHashesElseValues);
  if (fs::exists(directory / "adapter_model.bin"))
    return load_weights(directory / "adapter_model.bin", "", ContentCheck::kHashesElseValues);
  throw UserError(directory.string(), std::string("no adapter found: expected ") + kWeights + " or adapter_model.bin",
                  "is this the folder of a saved adapter?");
}

// How the parameters of a model that is spread over ranks are spread, by the parameter itself: adapters' files have names of
// their own.
struct Spread {
  TensorParallelPtr parallel;  // nullptr: the model is whole
  std::map<const void*, TensorSplit> splits;

  explicit Spread(const Model& model) {
    const auto* language = dynamic_cast<const LanguageModel*>(&model);
    if (language == nullptr || !language->tensor_parallel()) return;
    parallel = language->tensor_parallel();
    const std::map<std::string, TensorSplit> by_name = tensor_splits(model);
    for (const auto& item : model.named_parameters()) {
      if (const auto split = by_name.find(item.key()); split != by_name.end())
        splits.emplace(item.value().unsafeGetTensorImpl(), split->second);
    }
  }
  // nullptr for what every rank has whole.
  const TensorSplit* of(const Tensor& own) const {
    const auto split = splits.find(own.unsafeGetTensorImpl());
    return split == splits.end() ? nullptr : &split->second;
  }
};

void check_loaded(const StateDict& own, const Spread& spread, const StateDict& state, const std::string& origin) {
  for (const auto& [name, tensor] : own) {
    const Tensor* saved = state.find(name);
    if (saved == nullptr)
      throw UserError(origin, "tensor '" + name + "' is missing", "the adapter belongs to another model or other settings");
    const TensorSplit* split = spread.of(tensor);
    const std::vector<std::int64_t> whole = split == nullptr ? tensor.sizes().vec() : split->whole_shape(tensor.sizes());
    if (saved->sizes() != c10::IntArrayRef(whole)) {
      throw UserError(origin, cat("tensor '", name, "': expected shape ", c10::IntArrayRef(whole), ", got ", saved->sizes()),
                      "the adapter belongs to another model or other settings");
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!own.contains(name))
      throw UserError(origin, "tensor '" + name + "' has no place in the model",
                      "the adapter belongs to another model or other settings");
  }
}

void copy_adapter_weights(const Model& model, const StateDict& state, const std::string& origin) {
  const StateDict own = adapter_state_dict(model);
  const Spread spread(model);
  check_loaded(own, spread, state, origin);
  const c10::AutoGradMode no_grad(false);
  for (const auto& [name, tensor] : own) {
    const TensorSplit* split = spread.of(tensor);
    const Tensor& whole = state.at(name);
    Tensor(tensor).copy_(split == nullptr ? whole : split->slice(whole, spread.parallel->rank(), spread.parallel->size()));
  }
}

}  // namespace

void add_lora(Model& model, LoraConfig config) {
  if (has_adapters(model)) throw UserError("training.use_peft", "expected a model without adapters, got one that has them");
  if (config.targets.empty()) config.targets.names = usual_targets(model);
  const std::vector<LinearLayer> layers = choose_layers(model, config);
  saved_modules(model, config);  // checks them
  freeze(model);
  for (const LinearLayer& layer : layers) nn::add_lora(*layer.module, config.options_for(layer.name));
  train_beside_adapters(model, config);
  model.set_adapter(std::make_shared<const LoraConfig>(std::move(config)));
}

bool has_adapters(const Model& model) { return model.adapter() != nullptr; }

const LoraConfig* adapter_config(const Model& model) { return model.adapter().get(); }

bool is_adapter_folder(const fs::path& directory) { return fs::exists(directory / kConfig); }

void load_adapter(Model& model, const fs::path& directory, const LoadAdapterOptions& options) {
  if (!is_adapter_folder(directory)) {
    throw UserError(
        directory.string(), std::string("no adapter found: expected ") + kConfig,
        fs::exists(directory) ? "is this the folder of a saved adapter?" : "the folder does not exist; check the path");
  }
  if (has_adapters(model)) throw UserError(directory.string(), "expected a model without adapters, got one that has them");
  LoraConfig config = read_adapter_config(directory / kConfig);
  const StateDict state = read_adapter_weights(directory);
  const std::string origin = directory.string();
  std::map<std::string, nn::LinearImpl*> layers;
  for (const LinearLayer& layer : linear_layers(model)) layers[layer.name] = layer.module;

  freeze(model);
  bool any = false;
  for (const auto& [name, tensor] : state) {
    const std::string end = ".lora_A.weight";
    if (!name.ends_with(end)) continue;
    const std::string module = name.substr(0, name.size() - end.size());
    const auto found = module.starts_with(kPrefix) ? layers.find(module.substr(std::string(kPrefix).size())) : layers.end();
    if (found == layers.end())
      throw UserError(origin, "tensor '" + name + "': the model has no linear layer of that name",
                      "the adapter belongs to another model");
    nn::LoraOptions lora = config.options_for(found->first);
    if (tensor.dim() != 2 || tensor.size(0) != lora.rank) {
      throw UserError(
          origin,
          cat("tensor '", name, "': expected [", lora.rank, ", ", found->second->in_features(), "], got ", tensor.sizes()),
          "adapter_config.json and the weights do not belong together");
    }
    nn::add_lora(*found->second, lora);
    any = true;
  }
  if (!any) throw UserError(origin, "expected LoRA weights (names that end in .lora_A.weight), got none");
  train_beside_adapters(model, config);
  model.set_adapter(std::make_shared<const LoraConfig>(std::move(config)));
  copy_adapter_weights(model, state, origin);
  if (!options.trainable) freeze(model);
}

void load_adapter_weights(Model& model, const fs::path& directory) {
  copy_adapter_weights(model, read_adapter_weights(directory), directory.string());
}

StateDict adapter_state_dict(const Model& model) {
  StateDict state;
  const LoraConfig* config = adapter_config(model);
  if (config == nullptr) return state;
  std::set<std::string> adapted_biases;
  for (const LinearLayer& layer : linear_layers(model)) {
    const nn::LoraAdapter* adapter = lora_of(*layer.module);
    if (adapter == nullptr) continue;
    state.set(kPrefix + layer.name + ".lora_A.weight", adapter->lora_A()->weight);
    state.set(kPrefix + layer.name + ".lora_B.weight", adapter->lora_B()->weight);
    adapted_biases.insert(layer.name + ".bias");
    // PEFT's wrapper holds the layer itself as base_layer.
    if (config->bias != "none" && layer.module->bias.defined())
      state.set(kPrefix + layer.name + ".base_layer.bias", layer.module->bias);
  }
  if (config->bias == "all") {
    for (const auto& item : model.named_parameters()) {
      if (item.key().find("bias") != std::string::npos && !adapted_biases.contains(item.key()))
        state.set(kPrefix + item.key(), item.value());
    }
  }
  for (const auto& [name, module] : saved_modules(model, *config)) {
    for (const auto& [key, tensor] : state_dict(*module)) state.set(kPrefix + name + "." + key, tensor);
  }
  return state;
}

void save_adapter(const Model& model, const fs::path& directory) {
  const LoraConfig* config = adapter_config(model);
  if (config == nullptr) throw InternalError("save_adapter: the model has no adapter");
  StateDict state = adapter_state_dict(model);
  const Spread spread(model);
  if (spread.parallel) {
    StateDict whole;  // adapters are small: every rank gathers them
    for (const auto& [name, tensor] : state) {
      const TensorSplit* split = spread.of(tensor);
      whole.set(name, split == nullptr ? tensor : spread.parallel->gather(tensor, *split));
    }
    if (spread.parallel->rank() != 0) return;
    state = std::move(whole);
  }
  make_directories(directory);
  save_safetensors(directory / kWeights, state, {.keep_hashes = true});
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  const bool transposed =
      language != nullptr && language->config().value("model_type", std::string()) == "gpt2";  // Conv1D there
  write_file_atomically(directory / kConfig, adapter_config_json(*config, adapted_names(model), transposed).dump(2) + "\n");
}

void save_weights(const Model& model, const fs::path& directory) {
  if (has_adapters(model)) {
    save_adapter(model, directory);
  } else {
    model.save_pretrained(directory);
  }
}

void load_weights_into(Model& model, const fs::path& directory) {
  if (has_adapters(model)) {
    load_adapter_weights(model, directory);
  } else {
    model.load_weights_from(directory);
  }
}

void merge_adapters(Model& model) {
  for (const LinearLayer& layer : linear_layers(model)) nn::merge_lora(*layer.module);
  model.set_adapter(nullptr);
  for (Tensor& parameter : model.parameters()) parameter.requires_grad_(true);
}

}  // namespace oumi
