// Optimizer state of a run whose model is spread over a tensor-parallel group, in a checkpoint, and reading it at any size of it.
//   optimizer-tp-00001-of-00002.safetensors  "<parameter>.<slot>": of this rank's part of it, in its shape
//   optimizer-tp-00001-of-00002.json         {"scalars": optimizer_state.h's, "splits": {parameter: how it is spread}}
#pragma once

#include <filesystem>

#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/models/language_model.h"
#include "oumi/optim/optimizer_state.h"

namespace oumi {

// Writes this rank's files.
void add_tensor_parallel_optimizer(CheckpointFiles& files, const LanguageModel& model, const OptimizerState& state);

bool has_tensor_parallel_optimizer(const std::filesystem::path& checkpoint);

// The state for `model`, whole or spread, from such files or the optimizer.safetensors of one process. `here` is the optimizer's
// state now. Throws UserError where the checkpoint has its state in another form, or lacks a part.
OptimizerState load_tensor_parallel_optimizer(const std::filesystem::path& checkpoint, const Model& model, const OptimizerState& here);

}  // namespace oumi
