#include "oumi/data/collators.h"

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/registry.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/text_collators.h"

namespace oumi {
namespace {

bool is_label_name(const std::string& name) {
  constexpr std::string_view kSuffix = "_labels";
  return name == "labels" ||
         (name.size() > kSuffix.size() && name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0);
}

void check_same_fields(const std::vector<Sample>& samples) {
  for (std::size_t i = 1; i < samples.size(); ++i) {
    bool same = samples[i].size() == samples[0].size();
    for (const auto& [name, value] : samples[0]) same = same && samples[i].contains(name);
    if (!same) {
      throw UserError("collator.padding",
                      cat("samples of one batch have different fields: expected [", join(samples[0].names(), ", "), "], got [",
                          join(samples[i].names(), ", "), "] in sample ", i, " of the batch"));
    }
  }
}

double pad_value_of(const std::string& name, const PaddingOptions& options) {
  const auto found = options.pad_values.find(name);
  if (found != options.pad_values.end()) return found->second;
  return is_label_name(name) ? options.label_pad_value : options.pad_value;
}

Tensor pad_field(const std::string& name, std::vector<Tensor>& column, const PaddingOptions& options) {
  const Tensor& first = column.front();
  std::vector<std::int64_t> shape = first.sizes().vec();
  bool equal = true;
  for (std::size_t i = 0; i < column.size(); ++i) {
    Tensor& value = column[i];
    if (value.dim() != first.dim() || value.scalar_type() != first.scalar_type()) {
      throw UserError("collator.padding." + name, cat("samples of one batch differ: expected ", first.dim(), " dimensions of ",
                                                      first.scalar_type(), " as in its first sample, got ", value.dim(), " of ",
                                                      value.scalar_type(), " in sample ", i, " of the batch"));
    }
    equal = equal && value.sizes() == first.sizes();
    for (std::size_t d = 0; d < shape.size(); ++d) shape[d] = std::max(shape[d], value.size(static_cast<std::int64_t>(d)));
  }
  const bool ragged_first =
      std::any_of(column.begin(), column.end(), [&](const Tensor& v) { return v.dim() > 0 && v.size(0) != first.size(0); });
  if (first.dim() == 1 || ragged_first) {
    if (options.max_length && shape[0] > *options.max_length) {
      shape[0] = *options.max_length;
      for (Tensor& value : column) value = value.narrow(0, 0, std::min(value.size(0), shape[0]));
      equal = std::all_of(column.begin(), column.end(), [&](const Tensor& v) { return v.sizes() == at::IntArrayRef(shape); });
    }
    const std::int64_t multiple = options.pad_to_multiple_of;
    if (const std::int64_t over = shape[0] % multiple; over != 0) {
      shape[0] += multiple - over;
      equal = false;
    }
  }
  if (equal) return at::stack(column);
  shape.insert(shape.begin(), static_cast<std::int64_t>(column.size()));
  Tensor padded = at::full(shape, pad_value_of(name, options), first.options());
  for (std::size_t i = 0; i < column.size(); ++i) {
    Tensor place = padded.select(0, static_cast<std::int64_t>(i));
    for (std::int64_t d = 0; d < place.dim(); ++d) {
      const std::int64_t length = column[i].size(d);
      const bool at_end = d == 0 && options.padding_side == PaddingSide::kLeft;
      place = place.narrow(d, at_end ? place.size(d) - length : 0, length);
    }
    place.copy_(column[i]);
  }
  return padded;
}

CollateFn build_padding(const Kwargs& kwargs) {
  PaddingOptions options;
  if (const Json* value = kwargs.find("pad_value"); value != nullptr && !value->is_null()) {
    if (value->is_object()) {
      for (const auto& [field, pad] : value->items()) {
        if (!pad.is_number()) {
          throw UserError(kwargs.origin() + ".pad_value." + field,
                          cat("expected int or float, got ", json_type_name(pad), " ", pad.dump()));
        }
        options.pad_values[field] = pad.get<double>();
      }
    } else if (value->is_number()) {
      options.pad_value = value->get<double>();
    } else {
      throw UserError(kwargs.origin() + ".pad_value",
                      cat("expected a number or a dict of field: number, got ", json_type_name(*value)));
    }
  }
  options.label_pad_value = kwargs.get<double>("label_pad_value", -100);
  const std::string side = to_lower(kwargs.get<std::string>("padding_side", "right"));
  if (side != "right" && side != "left")
    throw UserError(kwargs.origin() + ".padding_side", "expected right or left, got " + side);
  options.padding_side = side == "left" ? PaddingSide::kLeft : PaddingSide::kRight;
  if (const Json* value = kwargs.find("pad_to_multiple_of"); value != nullptr && !value->is_null()) {
    options.pad_to_multiple_of = kwargs.get<std::int64_t>("pad_to_multiple_of", 1);
  }
  if (const Json* value = kwargs.find("max_length"); value != nullptr && !value->is_null()) {
    options.max_length = kwargs.get<std::int64_t>("max_length", 0);
  }
  return padding_collator(std::move(options));
}

Registry<CollatorFactory>& registry() {
  static Registry<CollatorFactory>* const table = [] {
    auto* built_in = new Registry<CollatorFactory>("collator");
    built_in->add("default", [](const Kwargs&) -> CollateFn { return default_collate; });
    built_in->add("padding", build_padding);
    // Without a config there is no tokenizer that knows the padding token: pad_token_id says it.
    built_in->add("text_with_padding", [](const Kwargs& kwargs) {
      TokenPaddingOptions options;
      read_token_padding(kwargs, options);
      return token_collator(options);
    });
    return built_in;
  }();
  return *table;
}

}  // namespace

CollateFn padding_collator(PaddingOptions options) {
  if (options.pad_to_multiple_of < 1) {
    throw UserError("collator.padding.pad_to_multiple_of", cat("expected 1 or more, got ", options.pad_to_multiple_of));
  }
  if (options.max_length && *options.max_length < 1) {
    throw UserError("collator.padding.max_length", cat("expected 1 or more, got ", *options.max_length));
  }
  return [options = std::move(options)](const std::vector<Sample>& samples) {
    Batch batch;
    if (samples.empty()) return batch;
    check_same_fields(samples);
    std::vector<Tensor> column(samples.size());
    for (const auto& [name, first] : samples.front()) {
      for (std::size_t i = 0; i < samples.size(); ++i) column[i] = samples[i].at(name);
      batch.set(name, pad_field(name, column, options));
    }
    return batch;
  };
}

CollateFn build_collator(const std::string& name, const Json& kwargs) {
  const CollatorFactory& factory = registry().at(name, "collator");
  const Kwargs arguments(kwargs.is_null() ? Json::object() : kwargs, "collator_kwargs");
  CollateFn collator = factory(arguments);
  arguments.check_all_read();
  return collator;
}

void register_collator(const std::string& name, CollatorFactory factory) { registry().add(name, std::move(factory)); }
std::vector<std::string> collator_names() { return registry().names(); }

}  // namespace oumi
