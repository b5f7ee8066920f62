// LoRA adapters on a model: putting them on, which parameters are trained, PEFT's files both ways, merging.
#pragma once

#include <filesystem>
#include <memory>

#include "oumi/models/adapters/lora_config.h"
#include "oumi/models/model.h"

namespace oumi {

// Puts adapters on the linear layers that `config` targets and freezes everything else but its modules_to_save and biases.
// Layers are chosen as PEFT does: names by their end or an expression, all-linear = every linear layer but a language model's
// head (and, of mixtures of experts, router and experts), unset = the family's own. Throws UserError when nothing matches, when
// a match is no linear layer of ours, and when the model has adapters already.
void add_lora(Model& model, LoraConfig config);

bool has_adapters(const Model& model);
// Null without adapters.
const LoraConfig* adapter_config(const Model& model);

// A folder with adapter_config.json, as PEFT's save_pretrained and ours write it.
bool is_adapter_folder(const std::filesystem::path& directory);

struct LoadAdapterOptions {
  bool trainable = false;  // goes on training it; otherwise everything is frozen
};
// Puts the saved adapter on the model. Throws UserError naming the file and tensor when it does not fit.
void load_adapter(Model& model, const std::filesystem::path& directory, const LoadAdapterOptions& options = {});
// Copies a saved adapter's tensors into the one that the model has; both must be the same in shape.
void load_adapter_weights(Model& model, const std::filesystem::path& directory);

// The adapter's tensors by PEFT's names (base_model.model.<module>.lora_A.weight, ...): the model's own, no copy.
StateDict adapter_state_dict(const Model& model);
// adapter_model.safetensors and adapter_config.json. Of a tensor-parallel group all ranks call it, and rank 0 writes.
void save_adapter(const Model& model, const std::filesystem::path& directory);

// What a checkpoint or a finished run of `model` holds: the adapter where it has one, else the whole model. And back.
void save_weights(const Model& model, const std::filesystem::path& directory);
void load_weights_into(Model& model, const std::filesystem::path& directory);

// The whole model without its adapters, or with them merged in, as Model::save_pretrained writes it. Quantised weights are
// written dense. Merging takes the memory of the adapted weights once more while it saves; the model is left as it was.
enum class AdapterSaving { kWithout, kMerged };
void save_base_model(Model& model, const std::filesystem::path& directory, AdapterSaving how);

// Merges the adapters for good: the model is a plain one afterwards, all of it trainable.
void merge_adapters(Model& model);

}  // namespace oumi
