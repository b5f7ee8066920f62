// Map-style datasets made of others: chosen samples, and several datasets in a row.
#pragma once

#include <vector>

#include "oumi/data/dataset.h"

namespace oumi {

// Samples `indices` of another map-style dataset, in that order, repeats allowed. Random transforms keep to the sample's
// index in the other dataset.
class SubsetDataset : public MapDataset {
 public:
  // Throws UserError when the dataset is not map-style or an index is out of range. A subset of a subset is flattened.
  SubsetDataset(DatasetPtr dataset, std::vector<std::int64_t> indices);

  std::optional<std::int64_t> length() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample get(std::int64_t index) override;
  Batch get_batch(std::span<const std::int64_t> indices) override;
  void set_epoch(std::int64_t epoch) override;
  std::string name() const override { return dataset_->name(); }
  std::string fingerprint() const override;
  std::optional<std::int64_t> sample_length(std::int64_t index) const override;
  std::optional<TokenCounts> token_counts(std::int64_t index) const override;
  std::vector<std::string> class_names() const override { return dataset_->class_names(); }

  const std::vector<std::int64_t>& indices() const noexcept { return indices_; }

 private:
  std::int64_t translate(std::int64_t index) const;

  DatasetPtr dataset_;
  std::vector<std::int64_t> indices_;
};

// All samples of the first dataset, then all of the second, and so on.
class ConcatDataset : public MapDataset {
 public:
  // Throws UserError when there is none, or one is not map-style.
  explicit ConcatDataset(std::vector<DatasetPtr> datasets);

  std::optional<std::int64_t> length() const override { return ends_.back(); }
  Sample get(std::int64_t index) override;
  // Each part is asked once; the rows are then put back in order. Samples of one batch need the same fields.
  Batch get_batch(std::span<const std::int64_t> indices) override;
  void set_epoch(std::int64_t epoch) override;
  std::string name() const override;
  std::string fingerprint() const override;
  std::optional<std::int64_t> sample_length(std::int64_t index) const override;
  std::optional<TokenCounts> token_counts(std::int64_t index) const override;
  std::vector<std::string> class_names() const override;

 private:
  struct Place {
    std::size_t part;
    std::int64_t index;
  };
  Place find(std::int64_t index) const;

  std::vector<DatasetPtr> datasets_;
  std::vector<std::int64_t> ends_;
};

}  // namespace oumi
