// What an update's batches of text hold.
#pragma once

#include <cstdint>
#include <vector>

#include "oumi/tensors/batch.h"

namespace oumi {

// Tokens that are not padding, by segment_ids, else attention_mask; 0 for data that is not text.
std::int64_t count_tokens(const Batch& batch);

// Tokens whose prediction counts in a shifted loss: labels[:, 1:] other than -100, over all batches (Hugging Face's
// num_items_in_batch), but for the first token of a packed sample (segment_ids). A field "shift_labels" is counted as it is.
std::int64_t count_predicted_tokens(const std::vector<Batch>& batches);

}  // namespace oumi
