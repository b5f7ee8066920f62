// Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): a unit's activations are not kept for backward; its forward
// runs again there, with the random state and autocast of the first time, so gradients are the same bit for bit. Costs one
// more forward; memory falls to the units' inputs and the activations of one unit.
#pragma once

#include <string>
#include <vector>

#include "oumi/tensors/module.h"

namespace oumi::nn {

struct CheckpointOptions {
  std::int64_t every_n = 1;  // of the units in order, the first of every n is checkpointed
};

// Checkpoints every module below `root` whose class is one of `classes` ("LlamaDecoderLayer"; a module's own name below root
// ("layers.0") counts too) and returns how many. Units must be oumi::Modules called through their holders. Gradients flow
// through tensors in arguments and results (Tensor, optional, pair, tuple, TensorDict), not through those in other structs.
// Throws UserError when nothing matches or a match is a plain torch module, naming the classes that there are.
std::int64_t checkpoint_activations(torch::nn::Module& root, const std::vector<std::string>& classes,
                                    const CheckpointOptions& options = {});

// Takes checkpointing off everything below `root`.
void keep_activations(torch::nn::Module& root);

}  // namespace oumi::nn
