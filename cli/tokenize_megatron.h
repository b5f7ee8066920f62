// oumi-cpp tokenize --megatron: the training samples as a dataset of Megatron's.
#pragma once

#include "cli/command_line.h"
#include "oumi/config/training_config.h"

namespace oumi::cli {

// Writes PREFIX.bin and PREFIX.idx (line.output): a document for each training sample, whole whatever model.model_max_length
// says. Throws UserError for files that are there already (without line.overwrite) and for samples that are rows of several
// documents.
int write_megatron(const TrainingConfig& config, const CommandLine& line);

}  // namespace oumi::cli
