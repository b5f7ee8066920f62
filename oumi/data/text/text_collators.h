// Collators of tokens: rows padded to the batch's longest.
#pragma once

#include <cstdint>
#include <optional>

#include "oumi/data/collators.h"
#include "oumi/data/text/label_masks.h"

namespace oumi {

// `text_with_padding`, and what text datasets use when no collator is named.
struct TokenPaddingOptions {
  std::int32_t pad_id = 0;
  std::int32_t label_ignore_index = kIgnoredLabel;
  PaddingSide padding_side = PaddingSide::kRight;
  std::int64_t pad_to_multiple_of = 1;
  std::optional<std::int64_t> max_length = std::nullopt;  // cuts longer rows at their end
};

// input_ids, attention_mask and labels, int64 [batch, longest]; attention_mask is made where the samples have none. input_ids
// are padded with pad_id, attention_mask with 0, labels with label_ignore_index, position_ids with 0, segment_ids with -1,
// other one-dimensional fields with 0. Throws UserError when a sample has no input_ids.
CollateFn token_collator(TokenPaddingOptions options);

// Reads what collator_kwargs say of it: label_ignore_index or ignore_index, pad_token_id, padding_side, pad_to_multiple_of,
// max_length. `truncation`, `debug` and `max_variable_sized_dims` are accepted and have no effect.
void read_token_padding(const Kwargs& kwargs, TokenPaddingOptions& options);

// `text_completions_only_with_padding`: labels by turns first. Rows that are packed (segment_ids) keep the labels they have.
CollateFn completions_collator(TurnMaskOptions masks, TokenPaddingOptions options);

// A sample's labels by its turns.
Sample with_turn_labels(Sample sample, const TurnMaskOptions& masks);

}  // namespace oumi
