// Where a chat template's turns begin and end, and which of them a config trains on.
#pragma once

#include <string>

#include "oumi/base/kwargs.h"
#include "oumi/config/data_params.h"
#include "oumi/data/text/label_masks.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

// What begins an assistant's turn in the tokenizer's template, and what ends a turn: found by rendering a conversation with
// known contents and comparing what stands around them. Throws UserError when that fails.
struct DetectedMarkers {
  std::string response_template;
  TokenIds end_of_turn;
};
DetectedMarkers detect_turn_markers(const Tokenizer& tokenizer);

// What the text_completions_only_with_padding collator masks. Reads from its kwargs: response_template, instruction_template,
// end_of_turn_template, tool_response_template, end_of_tool_response_template (text, or a list of token ids) and train_target.
// The targets are those of the config, and, without one, what the given templates imply: an end_of_turn_template all assistant
// turns, an instruction_template everything but instructions, a response_template alone the final turn. Templates that a target
// needs and that aren't given are detected. Throws UserError naming `key` (data.train).
TurnMaskOptions completion_masks(const DatasetSplitParams& split, const Kwargs& kwargs, const Tokenizer& tokenizer,
                                 const std::string& key);

}  // namespace oumi
