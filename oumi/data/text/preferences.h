// Records of preferences: read, rendered and encoded as TRL's trainers of them take them.
#pragma once

#include <string>
#include <vector>

#include "oumi/data/dataset.h"
#include "oumi/data/text/rows.h"
#include "oumi/data/text/text_context.h"

namespace oumi {

// Rows {prompt, chosen, rejected}, each text, a message or a list of messages: prompt_ids, chosen_ids and rejected_ids, int64
// [length]. The answers are what the template renders after the prompt, with an end-of-text token.
DatasetPtr dpo_dataset(std::vector<TextRow> rows, TextContext context, const std::string& key, const std::string& name);

// Rows {prompt: text, completion: text or messages, label: bool}: prompt_ids, completion_ids, label (bool scalar).
DatasetPtr kto_dataset(std::vector<TextRow> rows, TextContext context, const std::string& key, const std::string& name);

}  // namespace oumi
