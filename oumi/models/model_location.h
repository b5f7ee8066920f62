// From what a config calls a model to files on this machine.
#pragma once

#include <filesystem>

#include "oumi/config/model_params.h"
#include "oumi/hub/repository_files.h"

namespace oumi {

// True when model.model_name has to come from the Hub: no registered model or family to be trained from scratch, no path here,
// and a name with an organisation ("org/name") or one of the old ones without ("gpt2").
bool is_on_hub(const ModelParams& params);

// `params` with model_name, tokenizer_name and adapter_model made local paths: downloaded (hub/hub.h) where they are on the
// Hub, else unchanged. Throws as resolve_model.
ModelParams with_local_files(ModelParams params);

// The same for model_name alone.
ModelParams with_local_model(ModelParams params);

}  // namespace oumi
