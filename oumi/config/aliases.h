// Names that the arguments of Hugging Face's Trainer have, or had, where the config calls the same thing by another name.
#pragma once

#include <span>
#include <string>

#include "oumi/config/value.h"

namespace oumi {

enum class AliasKind {
  kRename,       // the same value under `target`
  kPrecision,    // bf16, fp16: true chooses the mixed precision, false undoes that choice
  kGroupLength,  // group_by_length: true -> train_sampling_strategy group_by_length
  kReportTo,     // report_to: names -> enable_wandb, enable_tensorboard, enable_mlflow
  kAccelerator,  // dispatch_batches, split_batches -> accelerator_config
  kUnused,       // kept under training.unused_hf_arguments and reported
};

struct HfAlias {
  const char* name;  // below `training.`
  AliasKind kind;
  const char* target;  // dotted key; for kUnused, what to say about the argument
};

std::span<const HfAlias> hf_aliases();

// Rewrites the aliases in a source (a config file, or one override as a tree) into the names of the config, before it is
// merged over `current`. Throws UserError when a name and its alias are both given and differ.
void rewrite_aliases(Value& source, const Value& current);

}  // namespace oumi
