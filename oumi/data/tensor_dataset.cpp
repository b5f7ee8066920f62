#include "oumi/data/tensor_dataset.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/stack.h>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

Table table_of(const TensorDict& fields, const std::string& origin) {
  std::vector<Column> columns;
  for (const auto& [name, values] : fields) columns.push_back({name, values, {}});
  return Table(std::move(columns), origin);
}

}  // namespace

TensorDataset::TensorDataset(const TensorDict& fields, TensorDatasetOptions options)
    : TensorDataset(table_of(fields, options.name), std::move(options)) {}

TensorDataset::TensorDataset(Table table, TensorDatasetOptions options)
    : table_(std::move(table)), options_(std::move(options)), names_(table_.names()), transformed_(table_.size()) {
  if (options_.transforms.empty()) return;
  transformed_ = table_.find(options_.transform_field);
  if (transformed_ == table_.size()) {
    throw UserError(options_.name,
                    "transforms want a field '" + options_.transform_field + "': got [" + join(names_, ", ") + "]",
                    "set transform_field to one of them");
  }
  is_random_ = options_.transforms.is_random();
  const Column& column = table_.column(transformed_);
  if (column.values.scalar_type() != c10::kByte || column.is_ragged()) return;
  byte_table_ = options_.transforms.byte_table(table_.row_sizes(transformed_));
  if (!byte_table_.defined()) return;
  byte_values_ = byte_table_.const_data_ptr<float>();
  channels_ = byte_table_.size(0);
  channel_size_ = channels_ == 0 ? 0 : table_.row_bytes(transformed_) / channels_;
}

void TensorDataset::look_up(const std::byte* row, float* out) const {
  for (std::int64_t channel = 0; channel < channels_; ++channel) {
    const float* const values = byte_values_ + 256 * channel;
    const auto* const bytes = reinterpret_cast<const unsigned char*>(row) + channel * channel_size_;
    float* const to = out + channel * channel_size_;
    for (std::int64_t i = 0; i < channel_size_; ++i) to[i] = values[bytes[i]];
  }
}

Tensor TensorDataset::transformed_row(std::int64_t index) const {
  if (byte_values_ == nullptr) return options_.transforms.apply(table_.cell(transformed_, index), epoch(), index);
  Tensor value = at::detail::empty_cpu(table_.row_sizes(transformed_), c10::kFloat);
  look_up(table_.row_data(transformed_, index), value.mutable_data_ptr<float>());
  return value;
}

Tensor TensorDataset::transformed_batch(std::span<const std::int64_t> indices) const {
  if (byte_values_ != nullptr) {
    c10::SmallVector<std::int64_t, 5> sizes{static_cast<std::int64_t>(indices.size())};
    const auto row_sizes = table_.row_sizes(transformed_);
    sizes.append(row_sizes.begin(), row_sizes.end());
    Tensor batch = at::detail::empty_cpu(sizes, c10::kFloat);
    float* out = batch.mutable_data_ptr<float>();
    for (const std::int64_t index : indices) {
      look_up(table_.row_data(transformed_, index), out);
      out += channels_ * channel_size_;
    }
    return batch;
  }
  if (!is_random_) return options_.transforms.apply_to_batch(table_.gather(transformed_, indices));
  std::vector<Tensor> rows;
  rows.reserve(indices.size());
  for (const std::int64_t index : indices) rows.push_back(transformed_row(index));
  return at::stack(rows);
}

Sample TensorDataset::get(std::int64_t index) {
  table_.check_index(index);
  Sample sample;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    sample.set(names_[i], i == transformed_ ? transformed_row(index) : table_.cell(i, index));
  }
  return sample;
}

Batch TensorDataset::get_batch(std::span<const std::int64_t> indices) {
  Batch batch;
  batch.sample_ids.assign(indices.begin(), indices.end());
  if (indices.empty()) return batch;
  for (const std::int64_t index : indices) table_.check_index(index);
  for (std::size_t i = 0; i < names_.size(); ++i) {
    batch.set(names_[i], i == transformed_ ? transformed_batch(indices) : table_.gather(i, indices));
  }
  return batch;
}

std::string TensorDataset::fingerprint() const {
  const std::string source = options_.fingerprint.empty() ? table_.content_hash() : options_.fingerprint;
  const std::string parts =
      cat(source, "|", table_.rows(), "|", options_.transform_field, "|", options_.transforms.description());
  return hash_bytes(parts.data(), parts.size());
}

std::optional<std::int64_t> TensorDataset::sample_length(std::int64_t index) const {
  if (table_.size() == 0) return std::nullopt;
  table_.check_index(index);
  const Column& column = table_.column(0);
  if (column.is_ragged()) return column.offsets[index + 1] - column.offsets[index];
  if (column.values.dim() < 2) return std::nullopt;
  return column.values.size(1);
}

std::string find_image_field(const Table& table, const std::string& origin) {
  for (const char* name : {"images", "image", "pixel_values", "inputs"}) {
    if (table.find(name) != table.size()) return name;
  }
  std::string found;
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table.row_sizes(i).size() != 3) continue;
    if (!found.empty())
      found = "?";
    else
      found = table.column(i).name;
  }
  if (found.empty() || found == "?") {
    throw UserError(origin, "cannot tell which field the transforms are for: got [" + join(table.names(), ", ") + "]",
                    "set transform_field to one of them");
  }
  return found;
}

}  // namespace oumi
