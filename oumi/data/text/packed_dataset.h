// Several samples in one row.
#pragma once

#include <string>
#include <vector>

#include "oumi/data/dataset.h"
#include "oumi/data/text/label_masks.h"
#include "oumi/data/text/packing.h"

namespace oumi {

struct PackOptions {
  PackingStrategy strategy = PackingStrategy::kBestFit;
  std::int64_t seq_length = 1024;
  std::int32_t separator_id = 0;  // of kConcatenated
};

// How well the rows are used.
struct PackReport {
  std::int64_t samples = 0, rows = 0, tokens = 0, dropped_tokens = 0;
  double fill = 0;  // tokens / (rows x seq_length)
};

// Rows of a map-style dataset of tokens. Every row has input_ids, attention_mask and labels, int64 [tokens <= seq_length].
// kBestFit and kBestFitSplit keep the samples' labels and apart: position_ids (int64) begin at 0 in each, segment_ids (int32)
// number them, and a sample's first label is ignored, since nothing before it in the row predicts it. kWrapped keeps the
// labels; kConcatenated trains on every token.
class PackedDataset : public MapDataset {
 public:
  // Reads every sample's length. Throws UserError when the dataset is empty or not map-style.
  PackedDataset(DatasetPtr dataset, const PackOptions& options);

  std::optional<std::int64_t> length() const override { return static_cast<std::int64_t>(rows_.size()); }
  Sample get(std::int64_t index) override;
  void set_epoch(std::int64_t epoch) override;
  std::string name() const override { return dataset_->name(); }
  std::string fingerprint() const override;
  std::optional<std::int64_t> sample_length(std::int64_t index) const override;
  const PackReport& report() const noexcept { return report_; }
  const DatasetPtr& samples() const noexcept { return dataset_; }

 private:
  bool keeps_samples_apart() const {
    return options_.strategy == PackingStrategy::kBestFit || options_.strategy == PackingStrategy::kBestFitSplit;
  }

  DatasetPtr dataset_;
  PackOptions options_;
  std::vector<PackedRow> rows_;
  std::vector<std::int64_t> lengths_;
  PackReport report_;
};

}  // namespace oumi
