// Map-style dataset over tensors in memory: what most file formats load into, and what a user's own tensors become.
#pragma once

#include <memory>

#include "oumi/data/dataset.h"
#include "oumi/data/table.h"
#include "oumi/data/transforms/transform.h"

namespace oumi {

struct TensorDatasetOptions {
  std::string name = "tensors";
  // What the samples are made from; empty: a hash of the tensors' contents, computed when asked for.
  std::string fingerprint{};
  std::vector<std::string> class_names{};
  // Run on the field `transform_field`.
  TransformPipeline transforms{};
  std::string transform_field{};
};

class TensorDataset : public MapDataset {
 public:
  // Each tensor is [samples, ...]. Throws UserError when lengths differ or transform_field is not there.
  explicit TensorDataset(const TensorDict& fields, TensorDatasetOptions options = {});
  explicit TensorDataset(Table table, TensorDatasetOptions options = {});

  std::optional<std::int64_t> length() const override { return table_.rows(); }
  Sample get(std::int64_t index) override;
  // One pass over the rows: bytes are gathered, scaled and normalised without a tensor per sample, and give the same bits
  // as get() and collate.
  Batch get_batch(std::span<const std::int64_t> indices) override;

  std::string name() const override { return options_.name; }
  std::string fingerprint() const override;
  // First dimension of the sample's first field; nullopt where samples have no dimensions.
  std::optional<std::int64_t> sample_length(std::int64_t index) const override;
  std::vector<std::string> class_names() const override { return options_.class_names; }
  const Table& table() const noexcept { return table_; }

 private:
  Tensor transformed_row(std::int64_t index) const;
  Tensor transformed_batch(std::span<const std::int64_t> indices) const;
  void look_up(const std::byte* row, float* out) const;

  Table table_;
  TensorDatasetOptions options_;
  std::vector<std::string> names_;
  std::size_t transformed_;  // position of transform_field; table_.size() when nothing is transformed
  Tensor byte_table_;        // float32 [channels, 256] when the transforms are a function of the byte
  const float* byte_values_ = nullptr;
  std::int64_t channels_ = 1, channel_size_ = 0;
  bool is_random_ = false;
};

// The field that image transforms apply to when none is named: images, image, pixel_values, inputs, or the only field whose
// samples have three dimensions. Throws UserError naming `origin` when none fits.
std::string find_image_field(const Table& table, const std::string& origin);

}  // namespace oumi
