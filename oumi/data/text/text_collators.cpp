#include "oumi/data/text/text_collators.h"

#include <ATen/ops/ones_like.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {
namespace {

CollateFn padding_of(const TokenPaddingOptions& options) {
  PaddingOptions padding;
  padding.label_pad_value = options.label_ignore_index;
  padding.pad_values = {{"input_ids", options.pad_id}, {"attention_mask", 0}, {"position_ids", 0}, {"segment_ids", -1}};
  padding.padding_side = options.padding_side;
  padding.pad_to_multiple_of = options.pad_to_multiple_of;
  padding.max_length = options.max_length;
  return padding_collator(std::move(padding));
}

void require_ids(const Sample& sample) {
  if (sample.contains("input_ids")) return;
  throw UserError("collator", "expected samples with input_ids, got [" + join(sample.names(), ", ") + "]",
                  "text collators are for tokenised text");
}

}  // namespace

void read_token_padding(const Kwargs& kwargs, TokenPaddingOptions& options) {
  for (const char* name : {"label_ignore_index", "ignore_index"})
    options.label_ignore_index = kwargs.get<std::int32_t>(name, options.label_ignore_index);
  options.pad_id = kwargs.get<std::int32_t>("pad_token_id", options.pad_id);
  options.pad_to_multiple_of = kwargs.get<std::int64_t>("pad_to_multiple_of", options.pad_to_multiple_of);
  if (kwargs.contains("max_length")) options.max_length = kwargs.require<std::int64_t>("max_length");
  const std::string side =
      to_lower(kwargs.get<std::string>("padding_side", options.padding_side == PaddingSide::kLeft ? "left" : "right"));
  if (side != "left" && side != "right")
    throw UserError(kwargs.origin() + ".padding_side", "expected right or left, got '" + side + "'");
  options.padding_side = side == "left" ? PaddingSide::kLeft : PaddingSide::kRight;
  for (const char* name : {"truncation", "debug", "max_variable_sized_dims"}) kwargs.find(name);
}

CollateFn token_collator(TokenPaddingOptions options) {
  return [pad = padding_of(options)](const std::vector<Sample>& samples) {
    std::vector<Sample> whole = samples;
    for (Sample& sample : whole) {
      require_ids(sample);
      if (!sample.contains("attention_mask")) sample.set("attention_mask", at::ones_like(sample.at("input_ids")));
    }
    return pad(whole);
  };
}

Sample with_turn_labels(Sample sample, const TurnMaskOptions& masks) {
  require_ids(sample);
  const TokenIds labels = mask_turns(token_field(sample, "input_ids", "collator"), masks);
  sample.set("labels", token_sample(labels, {}).at("input_ids"));
  return sample;
}

CollateFn completions_collator(TurnMaskOptions masks, TokenPaddingOptions options) {
  return [masks = std::move(masks), collate = token_collator(options)](const std::vector<Sample>& samples) {
    std::vector<Sample> labelled;
    for (const Sample& sample : samples)
      labelled.push_back(sample.contains("segment_ids") ? sample : with_turn_labels(sample, masks));
    return collate(labelled);
  };
}

}  // namespace oumi
