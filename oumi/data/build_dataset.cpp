#include "oumi/data/build_dataset.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randperm.h>

#include <algorithm>
#include <limits>

#include "oumi/data/mixture.h"
#include "oumi/data/registry.h"
#include "oumi/data/split.h"
#include "oumi/data/stream.h"
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

const char* section_name(DatasetSplitKind split) {
  switch (split) {
    case DatasetSplitKind::kTrain: return "data.train";
    case DatasetSplitKind::kValidation: return "data.validation";
    case DatasetSplitKind::kTest: return "data.test";
  }
  return "data";
}

}  // namespace

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
    datasets.push_back(build_unwrapped(params.datasets[i], {.seed = context.seed, .stream = params.stream, .key = key}));
    if (params.datasets[i].mixture_proportion) proportions.push_back(*params.datasets[i].mixture_proportion);
  }
  if (proportions.empty()) return streamed_if(params.stream, put_in_a_row(std::move(datasets)));

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
  return streamed_if(params.stream,
                     std::make_shared<SubsetDataset>(std::make_shared<ConcatDataset>(std::move(datasets)), std::move(indices)));
}

}  // namespace oumi
