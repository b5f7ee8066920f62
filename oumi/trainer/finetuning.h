// What `training:` and `peft:` ask of a model beside its weights: quantised base, adapters, activation checkpointing, NEFTune.
#pragma once

#include <filesystem>

#include "oumi/config/training_config.h"
#include "oumi/models/model.h"

namespace oumi {

// For training, after build_model, in Oumi's order: quantise (peft.q_lora), put model.adapter_model on (training.use_peft then
// goes on training it; otherwise it is merged and the whole model is trained) or new adapters (training.use_peft), checkpoint
// activations, add noise. Throws UserError naming the key.
void prepare_for_training(Model& model, const TrainingConfig& config);

// The adapter that evaluation and inference put on the base model: model.adapter_model, or what a run with training.use_peft
// left in training.output_dir; empty when there is none.
std::filesystem::path trained_adapter(const TrainingConfig& config);

// For evaluation and inference: that adapter, merged into the weights. Does nothing when there is none.
void apply_trained_adapter(Model& model, const TrainingConfig& config);

// The decoder layers of a language model, or what stands in the outermost module list of another: the classes that activation
// checkpointing takes when gradient_checkpointing_kwargs.layer_classes names none. Empty when there is no such list.
std::vector<std::string> block_classes(const Model& model);

// A finished run's files by peft.peft_save_mode; a model without adapters is saved whole.
void save_trained_model(Model& model, const std::filesystem::path& directory, PeftSaveMode mode);

}  // namespace oumi
