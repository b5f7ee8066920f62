#include "oumi/trainer/finetuning.h"

#include <torch/nn/modules/container/modulelist.h>

#include <algorithm>
#include <deque>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/adapters/quantize_model.h"
#include "oumi/models/language_model.h"
#include "oumi/nn/activation_checkpointing.h"
#include "oumi/nn/neftune.h"
#include "oumi/telemetry/logging.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::string parameter_counts(const Model& model) {
  std::int64_t trained = 0, all = 0;
  for (const Tensor& parameter : model.parameters()) {
    all += parameter.numel();
    if (parameter.requires_grad()) trained += parameter.numel();
  }
  return cat(trained, " of ", all, " parameters are trained");
}

void checkpoint_layers(Model& model, const TrainingParams& training) {
  const Kwargs kwargs(training.gradient_checkpointing_kwargs, "training.gradient_checkpointing_kwargs");
  // Accepted: recomputation here is exact in either of PyTorch's ways, and host memory is where activations are.
  for (const char* name : {"use_reentrant", "preserve_rng_state", "determinism_check", "offload"}) kwargs.find(name);
  const auto every_n = kwargs.get<std::int64_t>("every_n_layers", 1);
  const auto classes = kwargs.get<std::vector<std::string>>("layer_classes", block_classes(model));
  kwargs.check_all_read();
  if (classes.empty()) {
    throw UserError("training.enable_gradient_checkpointing",
                    "expected a model with a list of layers, got " + model.model_type() + ", which has none",
                    "name its layers' classes in training.gradient_checkpointing_kwargs.layer_classes, or set it to false");
  }
  const std::int64_t count = nn::checkpoint_activations(model, classes, {.every_n = every_n});
  log_info(cat("activations of ", count, " layers are computed again in backward (", join(classes, ", "), ")"));
}

void add_neftune(Model& model, double alpha) {
  nn::EmbeddingImpl* embedding = nullptr;
  if (auto* language = dynamic_cast<LanguageModel*>(&model)) {
    embedding = language->input_embeddings().get();
  } else {
    for (const auto& module : model.modules()) {
      embedding = dynamic_cast<nn::EmbeddingImpl*>(module.get());
      if (embedding != nullptr) break;
    }
  }
  if (embedding == nullptr) {
    throw UserError("training.neftune_noise_alpha",
                    "expected a model with an embedding layer of oumi::nn, got " + model.model_type(), "unset it");
  }
  embedding->add_call_hook(std::make_shared<nn::NeftuneHook>(alpha));
}

}  // namespace

std::vector<std::string> block_classes(const Model& model) {
  // Breadth first: the outermost list is the stack of layers, lists inside of it (experts) are theirs.
  std::deque<const torch::nn::Module*> queue{&model};
  std::vector<std::string> classes;
  while (!queue.empty() && classes.empty()) {
    const torch::nn::Module* module = queue.front();
    queue.pop_front();
    for (const auto& child : module->children()) {
      if (dynamic_cast<const torch::nn::ModuleListImpl*>(child.get()) == nullptr) {
        queue.push_back(child.get());
        continue;
      }
      for (const auto& layer : child->children()) {
        const std::string name = class_name(typeid(*layer));
        if (dynamic_cast<const Module*>(layer.get()) != nullptr &&
            std::find(classes.begin(), classes.end(), name) == classes.end())
          classes.push_back(name);
      }
    }
  }
  return classes;
}

void prepare_for_training(Model& model, const TrainingConfig& config) {
  const TrainingParams& training = config.training;
  if (config.peft.q_lora) {
    if (!training.use_peft) {
      throw UserError("peft.q_lora", "quantised weights can't be trained: expected training.use_peft: true with it, got false",
                      "set training.use_peft: true");
    }
    log_info(
        cat(quantize_model(model, config.peft), " linear layers are held in 4 bits (", config.peft.bnb_4bit_quant_type, ")"));
  }
  if (config.model.adapter_model) {
    load_adapter(model, *config.model.adapter_model, {.trainable = training.use_peft || config.model.adapter_trainable});
    if (!training.use_peft && !config.model.adapter_trainable) {
      merge_adapters(model);
      log_info("the adapter " + *config.model.adapter_model + " is merged; the whole model is trained");
    }
  } else if (training.use_peft) {
    LoraConfig lora = lora_config(config.peft);
    lora.base_model = config.model.model_name;
    add_lora(model, std::move(lora));
  }
  if (has_adapters(model)) log_info("LoRA: " + parameter_counts(model));
  if (training.enable_gradient_checkpointing) checkpoint_layers(model, training);
  if (training.neftune_noise_alpha.value_or(0) > 0) add_neftune(model, *training.neftune_noise_alpha);
}

fs::path trained_adapter(const TrainingConfig& config) {
  if (config.model.adapter_model) return *config.model.adapter_model;
  const fs::path output = config.training.output_dir;
  for (const fs::path& folder : {output, output / "adapter"}) {
    if (config.training.use_peft && is_adapter_folder(folder)) return folder;
  }
  return {};
}

void apply_trained_adapter(Model& model, const TrainingConfig& config) {
  const fs::path directory = trained_adapter(config);
  if (directory.empty()) return;
  load_adapter(model, directory);
  merge_adapters(model);
}

void save_trained_model(Model& model, const fs::path& directory, PeftSaveMode mode) {
  if (!has_adapters(model) || mode == PeftSaveMode::kAdapterOnly) return save_weights(model, directory);
  if (mode == PeftSaveMode::kAdapterAndBaseModel) {
    save_base_model(model, directory, AdapterSaving::kWithout);
    return save_adapter(model, directory);
  }
  // The merged model is complete by itself; the adapter goes into a folder of its own, where nothing would apply it twice.
  save_adapter(model, directory / "adapter");
  save_base_model(model, directory, AdapterSaving::kMerged);
}

}  // namespace oumi
