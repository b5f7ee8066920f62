#include "oumi/data/views.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

void require_map_style(const Dataset& dataset) {
  if (!dataset.is_map_style())
    throw UserError(dataset.name(), "expected a map-style dataset, got an iterable one", "set stream: false");
}

[[noreturn]] void throw_out_of_range(const Dataset& dataset, std::int64_t index, std::int64_t size) {
  throw UserError(dataset.name(), oumi::cat("sample ", index, " is out of range: expected an index in [0, ", size, ")"));
}

}  // namespace

SubsetDataset::SubsetDataset(DatasetPtr dataset, std::vector<std::int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  require_map_style(*dataset_);
  const std::int64_t size = dataset_->size();
  for (const std::int64_t index : indices_) {
    if (index < 0 || index >= size) throw_out_of_range(*dataset_, index, size);
  }
  if (const auto inner = std::dynamic_pointer_cast<SubsetDataset>(dataset_)) {
    for (std::int64_t& index : indices_) index = inner->indices_[index];
    dataset_ = inner->dataset_;
  }
}

std::int64_t SubsetDataset::translate(std::int64_t index) const {
  if (static_cast<std::uint64_t>(index) >= indices_.size())
    throw_out_of_range(*this, index, static_cast<std::int64_t>(indices_.size()));
  return indices_[index];
}

Sample SubsetDataset::get(std::int64_t index) { return dataset_->get(translate(index)); }

Batch SubsetDataset::get_batch(std::span<const std::int64_t> indices) {
  std::vector<std::int64_t> inner(indices.size());
  std::transform(indices.begin(), indices.end(), inner.begin(), [this](std::int64_t index) { return translate(index); });
  Batch batch = dataset_->get_batch(inner);
  batch.sample_ids.assign(indices.begin(), indices.end());
  return batch;
}

void SubsetDataset::set_epoch(std::int64_t epoch) {
  Dataset::set_epoch(epoch);
  dataset_->set_epoch(epoch);
}

std::string SubsetDataset::fingerprint() const {
  const std::string parts = dataset_->fingerprint() + hash_bytes(indices_.data(), indices_.size() * sizeof(std::int64_t));
  return hash_bytes(parts.data(), parts.size());
}

std::optional<TokenCounts> SubsetDataset::token_counts(std::int64_t index) const {
  return dataset_->token_counts(translate(index));
}

std::optional<std::int64_t> SubsetDataset::sample_length(std::int64_t index) const {
  return dataset_->sample_length(translate(index));
}

ConcatDataset::ConcatDataset(std::vector<DatasetPtr> datasets) : datasets_(std::move(datasets)) {
  if (datasets_.empty()) throw UserError("dataset", "expected at least one dataset to put in a row, got none");
  std::int64_t end = 0;
  for (const DatasetPtr& dataset : datasets_) {
    require_map_style(*dataset);
    ends_.push_back(end += dataset->size());
  }
}

ConcatDataset::Place ConcatDataset::find(std::int64_t index) const {
  if (index < 0 || index >= ends_.back()) throw_out_of_range(*this, index, ends_.back());
  const auto part = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
  return {part, index - (part == 0 ? 0 : ends_[part - 1])};
}

Sample ConcatDataset::get(std::int64_t index) {
  const Place place = find(index);
  return datasets_[place.part]->get(place.index);
}

Batch ConcatDataset::get_batch(std::span<const std::int64_t> indices) {
  std::vector<std::vector<std::int64_t>> inner(datasets_.size()), positions(datasets_.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const Place place = find(indices[i]);
    inner[place.part].push_back(place.index);
    positions[place.part].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<Batch> parts;
  std::vector<std::int64_t> order;  // batch position of each row of the parts in a row
  for (std::size_t part = 0; part < inner.size(); ++part) {
    if (inner[part].empty()) continue;
    parts.push_back(datasets_[part]->get_batch(inner[part]));
    order.insert(order.end(), positions[part].begin(), positions[part].end());
  }
  Batch batch;
  if (parts.size() == 1) {
    batch = std::move(parts.front());
  } else if (!parts.empty()) {
    std::vector<std::int64_t> inverse(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<std::int64_t>(i);
    const Tensor places = at::tensor(inverse);
    for (const auto& [name, first] : parts.front()) {
      std::vector<Tensor> pieces;
      for (const Batch& part : parts) {
        const Tensor* piece = part.size() == parts.front().size() ? part.find(name) : nullptr;
        if (piece == nullptr) {
          throw UserError(this->name(),
                          "datasets of one batch have different fields: expected [" + join(parts.front().names(), ", ") +
                              "], got [" + join(part.names(), ", ") + "]",
                          "rename or drop columns so that they agree");
        }
        if (piece->sizes().slice(1) != first.sizes().slice(1) || piece->scalar_type() != first.scalar_type()) {
          throw UserError(this->name() + "." + name,
                          oumi::cat("datasets of one batch differ: expected ", first.sizes().slice(1), " ", first.scalar_type(),
                                    ", got ", piece->sizes().slice(1), " ", piece->scalar_type()));
        }
        pieces.push_back(*piece);
      }
      batch.set(name, at::index_select(at::cat(pieces), 0, places));
    }
  }
  batch.sample_ids.assign(indices.begin(), indices.end());
  return batch;
}

void ConcatDataset::set_epoch(std::int64_t epoch) {
  Dataset::set_epoch(epoch);
  for (const DatasetPtr& dataset : datasets_) dataset->set_epoch(epoch);
}

std::string ConcatDataset::name() const {
  std::vector<std::string> names;
  for (const DatasetPtr& dataset : datasets_) names.push_back(dataset->name());
  return join(names, "+");
}

std::string ConcatDataset::fingerprint() const {
  std::string parts;
  for (const DatasetPtr& dataset : datasets_) parts += dataset->fingerprint() + ";";
  return hash_bytes(parts.data(), parts.size());
}

std::optional<TokenCounts> ConcatDataset::token_counts(std::int64_t index) const {
  const Place place = find(index);
  return datasets_[place.part]->token_counts(place.index);
}

std::optional<std::int64_t> ConcatDataset::sample_length(std::int64_t index) const {
  const Place place = find(index);
  return datasets_[place.part]->sample_length(place.index);
}

std::vector<std::string> ConcatDataset::class_names() const {
  for (const DatasetPtr& dataset : datasets_) {
    if (dataset->class_names() != datasets_.front()->class_names()) return {};
  }
  return datasets_.front()->class_names();
}

}  // namespace oumi
