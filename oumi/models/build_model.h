// `model:` -> a model.
#pragma once

#include <functional>
#include <string>

#include "oumi/config/model_params.h"
#include "oumi/models/model.h"

namespace oumi {

class TensorParallel;

// Oumi's rules for custom models: a registered name builds that class with model_kwargs and needs
// load_pretrained_weights: false; a folder whose config.json names a registered class is loaded with its weights, and
// model_kwargs then override the saved arguments. A folder of Hugging Face's (config.json of a known family) is loaded with its
// weights, or started afresh with load_pretrained_weights: false, as is a path to a config.json or a family's name; a name on
// the Hub (org/name, at model_revision) stands for its folder in the cache, downloaded where it is missing; model_kwargs then
// override config.json's keys. Converts to torch_dtype_str and freezes freeze_layers. Throws UserError naming the dotted key.
struct ModelBuildOptions {
  std::shared_ptr<const TensorParallel> tensor_parallel = {};  // this rank's part of a language model; custom models have none
  // Model::weights_deferred: large parameters have no values until they are taken. Of a language model's these are all, of a
  // model of your own those that its constructor makes by tensor operations (init_tape.h). One whose constructor works on
  // weights' memory by itself, or whose class writes or reads files in a way of its own (make_model sees it), is made whole,
  // and `notice` is told.
  bool defer_weights = false;
  std::function<void(const std::string& message)> notice = {};
};
ModelPtr build_model(const ModelParams& params, const ModelBuildOptions& options = {});

// "float32", "fp32", "bfloat16", ... (any of Oumi's spellings); "auto" = float32 (a language model keeps its checkpoint's).
// Throws UserError naming model.torch_dtype_str.
c10::ScalarType parse_dtype(const std::string& text);

}  // namespace oumi
