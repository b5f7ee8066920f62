#include "oumi/data/text/packed_dataset.h"

#include <ATen/EmptyTensor.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {

PackedDataset::PackedDataset(DatasetPtr dataset, const PackOptions& options) : dataset_(std::move(dataset)), options_(options) {
  if (!dataset_->is_map_style())
    throw UserError(dataset_->name(), "packing needs samples of known lengths, got a stream", "set stream: false");
  const std::int64_t size = dataset_->size();
  if (size == 0) throw UserError(dataset_->name(), "there is nothing to pack: expected samples, got none");
  lengths_.reserve(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) {
    const auto known = dataset_->sample_length(i);
    lengths_.push_back(known ? *known : dataset_->get(i).at("input_ids").numel());
  }
  switch (options_.strategy) {
    case PackingStrategy::kBestFit: rows_ = pack_best_fit(lengths_, {.capacity = options_.seq_length}); break;
    case PackingStrategy::kBestFitSplit:
      rows_ = pack_best_fit(lengths_, {.capacity = options_.seq_length, .split = true});
      break;
    case PackingStrategy::kWrapped: rows_ = pack_wrapped(lengths_, options_.seq_length); break;
    case PackingStrategy::kConcatenated: rows_ = pack_wrapped(lengths_, options_.seq_length, /*separator=*/1); break;
  }
  if (options_.strategy == PackingStrategy::kConcatenated && !rows_.empty()) {
    // A last row of nothing but the separator is no text.
    const PackedRow& last = rows_.back();
    if (last.size() == 1 && last[0].size == 1 && last[0].begin == lengths_[static_cast<std::size_t>(last[0].sample)])
      rows_.pop_back();
  }
  report_.samples = size;
  report_.rows = static_cast<std::int64_t>(rows_.size());
  for (const PackedRow& row : rows_) {
    for (const PackedPiece& piece : row) report_.tokens += piece.size;
  }
  std::int64_t total = 0;
  for (const std::int64_t length : lengths_) total += length;
  report_.dropped_tokens = std::max<std::int64_t>(0, total - report_.tokens);
  report_.fill =
      report_.rows == 0 ? 0 : static_cast<double>(report_.tokens) / static_cast<double>(report_.rows * options_.seq_length);
}

Sample PackedDataset::get(std::int64_t index) {
  if (index < 0 || index >= report_.rows)
    throw UserError(name(), cat("row ", index, " is out of range: expected an index in [0, ", report_.rows, ")"));
  const PackedRow& row = rows_[static_cast<std::size_t>(index)];
  TokenIds ids, labels, positions, segments;
  for (std::size_t p = 0; p < row.size(); ++p) {
    const PackedPiece& piece = row[p];
    const std::string origin = cat(dataset_->name(), ", sample ", piece.sample);
    const Sample sample = dataset_->get(piece.sample);
    TokenIds sample_ids = token_field(sample, "input_ids", origin);
    TokenIds sample_labels = sample.contains("labels") ? token_field(sample, "labels", origin) : sample_ids;
    if (options_.strategy == PackingStrategy::kConcatenated) {
      sample_ids.push_back(options_.separator_id);
      sample_labels = sample_ids;
    }
    const auto begin = static_cast<std::ptrdiff_t>(piece.begin), end = static_cast<std::ptrdiff_t>(piece.begin + piece.size);
    ids.insert(ids.end(), sample_ids.begin() + begin, sample_ids.begin() + end);
    const std::size_t first = labels.size();
    labels.insert(labels.end(), sample_labels.begin() + begin, sample_labels.begin() + end);
    if (!keeps_samples_apart()) continue;
    labels[first] = kIgnoredLabel;
    for (std::int64_t i = 0; i < piece.size; ++i) {
      positions.push_back(static_cast<std::int32_t>(i));
      segments.push_back(static_cast<std::int32_t>(p));
    }
  }
  if (options_.strategy == PackingStrategy::kConcatenated) {
    ids.resize(static_cast<std::size_t>(options_.seq_length), options_.separator_id);
    labels = ids;
  }
  Sample packed = token_sample(ids, labels);
  if (keeps_samples_apart()) {
    packed.set("position_ids", token_sample(positions, {}).at("input_ids"));
    Tensor segment_ids = at::detail::empty_cpu({static_cast<std::int64_t>(segments.size())}, c10::kInt);
    std::copy(segments.begin(), segments.end(), segment_ids.mutable_data_ptr<std::int32_t>());
    packed.set("segment_ids", std::move(segment_ids));
  }
  return packed;
}

void PackedDataset::set_epoch(std::int64_t epoch) {
  Dataset::set_epoch(epoch);
  dataset_->set_epoch(epoch);
}

std::string PackedDataset::fingerprint() const {
  const std::string parts = cat(dataset_->fingerprint(), "|packed ", static_cast<int>(options_.strategy), ' ',
                                options_.seq_length, ' ', options_.separator_id);
  return hash_bytes(parts.data(), parts.size());
}

std::optional<std::int64_t> PackedDataset::sample_length(std::int64_t index) const {
  std::int64_t size = 0;
  for (const PackedPiece& piece : rows_.at(static_cast<std::size_t>(index))) size += piece.size;
  return options_.strategy == PackingStrategy::kConcatenated ? options_.seq_length : size;
}

}  // namespace oumi
