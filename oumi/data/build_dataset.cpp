#include "oumi/data/build_dataset.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randperm.h>

#include <algorithm>
#include <limits>

#include "oumi/data/mixture.h"
#include "oumi/data/registry.h"
#include "oumi/data/split.h"
#include "oumi/data/stream.h"
#include "oumi/data/text/packed_dataset.h"
#include "oumi/data/text/packed_stream.h"
#include "oumi/data/text/text_collators.h"
#include "oumi/data/text/text_datasets.h"
#include "oumi/data/text/token_dataset.h"
#include "oumi/data/text/turn_markers.h"
#include "oumi/data/views.h"

namespace oumi {
namespace {

std::vector<std::int64_t> range(IndexRange bounds) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(bounds.end - bounds.begin));
  for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = bounds.begin + static_cast<std::int64_t>(i);
  return indices;
}

// The order of torch.randperm(size, generator=torch.Generator().manual_seed(seed)).
std::vector<std::int64_t> torch_permutation(std::int64_t size, std::uint64_t seed) {
  const Tensor order = at::randperm(size, at::detail::createCPUGenerator(seed), at::TensorOptions(c10::kLong));
  const auto* data = order.const_data_ptr<std::int64_t>();
  return {data, data + size};
}

DatasetRequest request_of(const DatasetParams& params, const SingleDatasetOptions& options) {
  DatasetRequest request;
  request.name = params.dataset_name;
  if (params.dataset_path) request.path = *params.dataset_path;
  request.subset = params.subset;
  request.kwargs = Kwargs(params.dataset_kwargs, options.key + ".dataset_kwargs");
  request.seed = params.seed ? static_cast<std::uint64_t>(*params.seed) : options.seed;
  request.stream = options.stream;
  request.key = options.key;
  request.text = options.text;
  return request;
}

// One term of the split expression. `dataset_kwargs.split_seed` shuffles the whole split before the slice is cut, so that
// train[:90%] and train[90%:] share no sample and keep the proportions of classes.
DatasetPtr build_slice(const DatasetParams& params, const SingleDatasetOptions& options, const SplitSlice& slice) {
  DatasetRequest request = request_of(params, options);
  request.split = slice.name;
  const bool is_seeded = request.kwargs.contains("split_seed");
  const auto split_seed = is_seeded ? request.kwargs.require<std::int64_t>("split_seed") : 0;
  DatasetPtr dataset = make_dataset(request);
  if (slice.is_whole() && !is_seeded) return dataset;
  if (!dataset->is_map_style()) {
    if (is_seeded)
      throw UserError(options.key + ".dataset_kwargs.split_seed", "needs a map-style dataset, got a stream",
                      "set stream: false");
    const bool needs_length = slice.percent || slice.from.value_or(0) < 0 || slice.to.value_or(0) < 0;
    if (needs_length && !dataset->length()) {
      throw UserError(
          options.key + ".split",
          "'" + params.split + "' of a stream: its length is not known, so expected bounds in samples from the start",
          "use name[from:to] with numbers of samples, or stream: false");
    }
    const std::int64_t unbounded = std::numeric_limits<std::int64_t>::max();
    const IndexRange bounds = resolve_slice(slice, dataset->length().value_or(unbounded));
    return slice_stream(as_stream(std::move(dataset)), bounds);
  }
  const IndexRange bounds = resolve_slice(slice, dataset->size());
  std::vector<std::int64_t> indices;
  if (is_seeded) {
    const auto order = torch_permutation(dataset->size(), static_cast<std::uint64_t>(split_seed));
    indices.assign(order.begin() + bounds.begin, order.begin() + bounds.end);
  } else {
    indices = range(bounds);
  }
  return std::make_shared<SubsetDataset>(std::move(dataset), std::move(indices));
}

}  // namespace

const char* section_name(DatasetSplitKind split) {
  switch (split) {
    case DatasetSplitKind::kTrain: return "data.train";
    case DatasetSplitKind::kValidation: return "data.validation";
    case DatasetSplitKind::kTest: return "data.test";
  }
  return "data";
}

namespace {

bool all_map_style(const std::vector<DatasetPtr>& datasets) {
  return std::all_of(datasets.begin(), datasets.end(), [](const DatasetPtr& dataset) { return dataset->is_map_style(); });
}

std::vector<StreamPtr> as_streams(std::vector<DatasetPtr> datasets) {
  std::vector<StreamPtr> streams;
  for (DatasetPtr& dataset : datasets) streams.push_back(as_stream(std::move(dataset)));
  return streams;
}

DatasetPtr put_in_a_row(std::vector<DatasetPtr> datasets) {
  if (datasets.size() == 1) return datasets.front();
  if (all_map_style(datasets)) return std::make_shared<ConcatDataset>(std::move(datasets));
  return concat_streams(as_streams(std::move(datasets)));
}

// `shuffle` and `sample_count` of one dataset.
DatasetPtr sampled(DatasetPtr dataset, const DatasetParams& params, const SingleDatasetOptions& options) {
  SamplingOptions sampling{.shuffle = params.shuffle,
                           .seed = params.seed ? static_cast<std::uint64_t>(*params.seed) : options.seed};
  if (params.sample_count) {
    sampling.sample_count = *params.sample_count;
    if (sampling.sample_count < 0)
      throw UserError(options.key + ".sample_count", cat("expected at least 0, got ", sampling.sample_count));
  }
  if (!sampling.shuffle && sampling.sample_count < 0) return dataset;
  if (dataset->is_map_style()) {
    auto indices = sample_indices(dataset->size(), sampling, options.key + ".sample_count");
    return std::make_shared<SubsetDataset>(std::move(dataset), std::move(indices));
  }
  StreamPtr stream = as_stream(std::move(dataset));
  if (sampling.shuffle) {
    if (params.shuffle_buffer_size < 1)
      throw UserError(options.key + ".shuffle_buffer_size", cat("expected at least 1, got ", params.shuffle_buffer_size));
    stream = shuffle_stream(std::move(stream), {.buffer_size = params.shuffle_buffer_size, .seed = sampling.seed});
  }
  return sampling.sample_count < 0 ? stream : repeat_stream(std::move(stream), sampling.sample_count);
}

// By their mixture proportions.
DatasetPtr interleaved(std::vector<DatasetPtr> datasets, const std::vector<double>& proportions,
                       const DatasetSplitParams& params, const DatasetBuildContext& context) {
  const std::string section = section_name(context.split);
  if (proportions.size() != datasets.size()) {
    throw UserError(section + ".datasets", cat("expected mixture_proportion on all ", datasets.size(),
                                               " datasets or on none, got it on ", proportions.size()));
  }
  const auto strategy = parse_mixture_strategy(params.mixture_strategy, section + ".mixture_strategy");
  check_probabilities(proportions, strategy, section + ".datasets");
  const std::uint64_t seed = params.seed ? static_cast<std::uint64_t>(*params.seed) : context.seed;
  if (!all_map_style(datasets)) return interleave_streams(as_streams(std::move(datasets)), {proportions, seed, strategy});
  std::vector<std::int64_t> sizes;
  for (const DatasetPtr& dataset : datasets) sizes.push_back(dataset->size());
  auto indices = interleave_indices(sizes, proportions, seed, strategy, section + ".datasets");
  return std::make_shared<SubsetDataset>(std::make_shared<ConcatDataset>(std::move(datasets)), std::move(indices));
}

constexpr const char* kCompletions = "text_completions_only_with_padding";

bool trains_on_completions(const DatasetSplitParams& params) {
  return params.collator_name && to_lower(*params.collator_name) == kCompletions;
}

const Tokenizer& tokenizer_of(const DatasetBuildContext& context) {
  if (context.text.tokenizer == nullptr) {
    throw UserError(cat(section_name(context.split), ".collator_name"),
                    "text collators need a tokenizer, and this run has none",
                    "set model.tokenizer_name to a folder with tokenizer.json, or use the collator `padding`");
  }
  return *context.text.tokenizer;
}

Kwargs collator_kwargs(const DatasetSplitParams& params, const DatasetBuildContext& context) {
  return Kwargs(params.collator_kwargs, cat(section_name(context.split), ".collator_kwargs"));
}

// Labels by turns are set here and not in the collator, so that packed rows and the counts before training have them.
DatasetPtr labelled(DatasetPtr dataset, const DatasetSplitParams& params, const DatasetBuildContext& context) {
  if (!trains_on_completions(params)) return dataset;
  TurnMaskOptions masks =
      completion_masks(params, collator_kwargs(params, context), tokenizer_of(context), section_name(context.split));
  return change_samples(
      std::move(dataset), [masks = std::move(masks)](Sample sample) { return with_turn_labels(std::move(sample), masks); },
      cat("completions ", static_cast<int>(params.train_target.value_or(TrainTarget::kAllAssistantTurns)),
          params.collator_kwargs.dump()));
}

DatasetPtr packed(DatasetPtr dataset, const DatasetSplitParams& params, const DatasetBuildContext& context) {
  if (!params.pack) return dataset;
  std::size_t full = 0;
  for (const DatasetParams& single : params.datasets) full += is_pretraining_dataset(single.dataset_name) ? 1 : 0;
  if (full == params.datasets.size()) return dataset;
  if (full > 0) {
    throw UserError(cat(section_name(context.split), ".pack"),
                    "pretraining datasets fill their rows themselves: expected them alone, got them beside others",
                    "set pack: false, or keep to one kind");
  }
  PackOptions options{.strategy = context.packing, .seq_length = context.pack_length};
  if (context.text.tokenizer != nullptr) options.separator_id = context.text.tokenizer->eos_id().value_or(0);
  if (!dataset->is_map_style()) return pack_stream(as_stream(std::move(dataset)), options);
  return std::make_shared<PackedDataset>(std::move(dataset), options);
}

// Before it is wrapped for `stream: true`.
DatasetPtr build_unwrapped(const DatasetParams& params, const SingleDatasetOptions& options) {
  std::vector<DatasetPtr> parts;
  for (const SplitSlice& slice : parse_split(params.split, options.key + ".split"))
    parts.push_back(build_slice(params, options, slice));
  DatasetPtr dataset = sampled(put_in_a_row(std::move(parts)), params, options);
  if (dataset->length() == 0)
    throw UserError(options.key, "'" + dataset->name() + "' with split '" + params.split + "' has no samples");
  return dataset;
}

DatasetPtr streamed_if(bool stream, DatasetPtr dataset) {
  if (!stream || dataset->is_iterable()) return dataset;
  return as_stream(std::move(dataset));
}

}  // namespace

DatasetPtr build_dataset(const DatasetParams& params, const SingleDatasetOptions& options) {
  return streamed_if(options.stream, build_unwrapped(params, options));
}

DatasetPtr build_dataset(const DatasetSplitParams& params, const DatasetBuildContext& context) {
  const std::string section = section_name(context.split);
  if (params.datasets.empty()) throw UserError(section + ".datasets", "expected at least one dataset, got none");
  std::vector<DatasetPtr> datasets;
  std::vector<double> proportions;
  for (std::size_t i = 0; i < params.datasets.size(); ++i) {
    const std::string key = cat(section, ".datasets[", i, "]");
    datasets.push_back(
        build_unwrapped(params.datasets[i], {.seed = context.seed, .stream = params.stream, .key = key, .text = context.text}));
    if (params.datasets[i].mixture_proportion) proportions.push_back(*params.datasets[i].mixture_proportion);
  }
  DatasetPtr mixed =
      proportions.empty() ? put_in_a_row(std::move(datasets)) : interleaved(std::move(datasets), proportions, params, context);
  if (is_text(params)) {
    mixed = packed(labelled(std::move(mixed), params, context), params, context);
  } else if (params.pack) {
    throw UserError(section + ".pack", "expected datasets of text to pack, got '" + params.datasets.front().dataset_name + "'",
                    "set pack: false");
  }
  return streamed_if(params.stream, std::move(mixed));
}

bool is_text(const DatasetSplitParams& params) {
  return std::all_of(params.datasets.begin(), params.datasets.end(),
                     [](const DatasetParams& dataset) { return is_text_dataset(dataset.dataset_name); });
}

CollateFn collator_for(const DatasetSplitParams& params, const DatasetBuildContext& context) {
  const std::string name = to_lower(params.collator_name.value_or(""));
  if (name.empty() && (params.datasets.empty() || !is_text(params))) return nullptr;
  TokenPaddingOptions padding{.label_ignore_index = context.label_ignore_index};
  if (const Tokenizer* tokenizer = context.text.tokenizer.get(); tokenizer != nullptr) {
    padding.pad_id = tokenizer->pad_id().value_or(0);
    padding.padding_side = tokenizer->padding_side();
  }
  if (name.empty()) return token_collator(padding);
  if (name != "text_with_padding" && name != kCompletions) return build_collator(*params.collator_name, params.collator_kwargs);
  const Tokenizer& tokenizer = tokenizer_of(context);
  if (!tokenizer.pad_id()) {
    throw UserError(cat(section_name(context.split), ".collator_name"),
                    "'" + name + "' needs a padding token, and the tokenizer has none", "set model.tokenizer_pad_token");
  }
  const Kwargs kwargs = collator_kwargs(params, context);
  const bool by_turns = name == kCompletions;
  TurnMaskOptions masks;
  if (by_turns)
    masks = completion_masks(params, kwargs, tokenizer, section_name(context.split));
  else
    padding.max_length = context.text.max_length;
  read_token_padding(kwargs, padding);
  kwargs.check_all_read();
  return by_turns ? completions_collator(std::move(masks), padding) : token_collator(padding);
}

}  // namespace oumi
