// Collators by name: what `collate_fn` and `collator_name` of a config refer to.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/base/kwargs.h"
#include "oumi/data/collate.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

struct PaddingOptions {
  double pad_value = 0;
  double label_pad_value = -100;                  // of `labels` and fields whose name ends in "_labels"
  std::map<std::string, double> pad_values = {};  // of a field by its name, before the two above
  PaddingSide padding_side = PaddingSide::kRight;
  std::int64_t pad_to_multiple_of = 1;                    // of the first dimension
  std::optional<std::int64_t> max_length = std::nullopt;  // cuts the first dimension of longer fields (at the end)
};

// Stacks the samples' fields after padding each to the batch's largest size in every dimension. padding_side,
// pad_to_multiple_of and max_length concern the first dimension of one-dimensional fields (a text's tokens) and of fields that
// are ragged there; other dimensions are padded at the end, and fields of equal shape are stacked as they are. Throws UserError
// naming the field when samples differ in fields, number of dimensions or dtype.
CollateFn padding_collator(PaddingOptions options = {});

// Builds a collator from keyword arguments. `padding` reads: pad_value (int or float for all fields, or a dict by field),
// label_pad_value, padding_side ("right" or "left"), pad_to_multiple_of, max_length. `default` reads none.
// `kwargs` is a dict or null. Throws UserError for an unknown name (with the nearest one) and for keys that were not read.
CollateFn build_collator(const std::string& name, const Json& kwargs = Json::object());

// Adds a collator under a name; case does not matter. Throws UserError when the name is taken.
using CollatorFactory = std::function<CollateFn(const Kwargs& kwargs)>;
void register_collator(const std::string& name, CollatorFactory factory);
std::vector<std::string> collator_names();

}  // namespace oumi
