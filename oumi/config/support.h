// What becomes of each setting when it is asked to train: the one table behind `config check`, the notices of a run, and its
// refusals. A setting that nobody changed gives no note.
#pragma once

#include <string>
#include <vector>

#include "oumi/config/training_config.h"

namespace oumi {

enum class SupportKind {
  kHonoured,     // does what it says; noted only where that needs saying
  kMetNatively,  // what it asks for is already so
  kMapped,       // does its nearest equivalent here
  kRefused,      // would change the result and can't be done: training stops with exit code 2
};

struct SupportNote {
  std::string key;  // dotted
  SupportKind kind;
  std::string text;
};

// "honoured", "met natively", "mapped", "refused".
const char* support_word(SupportKind kind);

// In the order of the table. Looks at nothing but `config`.
std::vector<SupportNote> support_notes(const TrainingConfig& config);

// Throws UserError for the refused notes, naming each key.
void require_supported(const TrainingConfig& config);

// For a run on a GPU, which the table can't know of: throws UserError where a setting asks for weights, gradients, activations
// or optimizer state in host memory. On a CPU that is where they are.
void refuse_offloading(const TrainingConfig& config);

// The table itself as Markdown, for the docs.
std::string support_table_markdown();

}  // namespace oumi
