#include "oumi/data/table.h"

#include <ATen/EmptyTensor.h>

#include <cstring>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// Tensors of the loader's hot path skip the dispatcher: at::empty costs more than copying a small row.
Tensor allocate(c10::IntArrayRef sizes, c10::ScalarType dtype) { return at::detail::empty_cpu(sizes, dtype); }

}  // namespace

std::int64_t Column::rows() const { return is_ragged() ? static_cast<std::int64_t>(offsets.size()) - 1 : values.size(0); }

Table::Table(std::vector<Column> columns, std::string origin) : origin_(std::move(origin)) {
  for (Column& column : columns) {
    if (!column.values.defined() || column.values.dim() == 0) {
      throw UserError(origin_, cat("column '", column.name, "': expected a tensor with a leading sample dimension, got ",
                                   column.values.defined() ? "a scalar" : "nothing"));
    }
    if (!column.values.device().is_cpu()) {
      throw UserError(origin_, cat("column '", column.name, "': expected a CPU tensor, got one on ", column.values.device()),
                      "move it with .cpu(); the loader copies batches to the device");
    }
    if (find(column.name) != slots_.size()) throw UserError(origin_, cat("column '", column.name, "' is there twice"));
    if (!slots_.empty() && column.rows() != rows_) {
      throw UserError(origin_, cat("columns differ in length: expected ", rows_, " rows as in '", slots_.front().column.name,
                                   "', got ", column.rows(), " in '", column.name, "'"));
    }
    rows_ = column.rows();
    Slot slot;
    column.values = column.values.detach().contiguous();
    slot.row_sizes.assign(column.values.sizes().begin() + 1, column.values.sizes().end());
    slot.data = static_cast<const std::byte*>(column.values.const_data_ptr());
    slot.row_bytes = static_cast<std::int64_t>(column.values.element_size());
    for (const std::int64_t extent : slot.row_sizes) slot.row_bytes *= extent;
    slot.column = std::move(column);
    slots_.push_back(std::move(slot));
  }
}

std::size_t Table::find(const std::string& name) const {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].column.name == name) return i;
  }
  return slots_.size();
}

std::vector<std::string> Table::names() const {
  std::vector<std::string> all;
  for (const Slot& slot : slots_) all.push_back(slot.column.name);
  return all;
}

void Table::throw_out_of_range(std::int64_t index) const {
  throw UserError(origin_, cat("sample ", index, " is out of range: expected an index in [0, ", rows_, ")"));
}

Tensor Table::cell(std::size_t position, std::int64_t row) const {
  check_index(row);
  const Slot& slot = slots_[position];
  const auto dtype = slot.column.values.scalar_type();
  std::int64_t begin = row, count = 1;
  Tensor value;
  if (slot.column.is_ragged()) {
    begin = slot.column.offsets[row];
    count = slot.column.offsets[row + 1] - begin;
    c10::SmallVector<std::int64_t, 5> sizes{count};
    sizes.append(slot.row_sizes.begin(), slot.row_sizes.end());
    value = allocate(sizes, dtype);
  } else {
    value = allocate(slot.row_sizes, dtype);
  }
  if (const std::int64_t bytes = count * slot.row_bytes; bytes > 0) {
    std::memcpy(value.mutable_data_ptr(), slot.data + begin * slot.row_bytes, bytes);
  }
  return value;
}

Tensor Table::gather(std::size_t position, std::span<const std::int64_t> indices) const {
  const Slot& slot = slots_[position];
  const auto& offsets = slot.column.offsets;
  c10::SmallVector<std::int64_t, 5> sizes{static_cast<std::int64_t>(indices.size())};
  std::int64_t bytes = slot.row_bytes;
  for (const std::int64_t index : indices) check_index(index);
  if (slot.column.is_ragged()) {
    const auto length = [&](std::int64_t row) { return offsets[row + 1] - offsets[row]; };
    const std::int64_t expected = indices.empty() ? 0 : length(indices.front());
    for (const std::int64_t index : indices) {
      if (length(index) != expected) {
        throw UserError(origin_,
                        cat("column '", slot.column.name, "': rows of one batch differ in length: expected ", expected,
                            " as in sample ", indices.front(), ", got ", length(index), " in sample ", index),
                        "use a padding collator");
      }
    }
    sizes.push_back(expected);
    bytes *= expected;
  }
  sizes.append(slot.row_sizes.begin(), slot.row_sizes.end());
  Tensor result = allocate(sizes, slot.column.values.scalar_type());
  if (bytes == 0 || indices.empty()) return result;
  auto* out = static_cast<std::byte*>(result.mutable_data_ptr());
  for (const std::int64_t index : indices) {
    const std::int64_t begin = slot.column.is_ragged() ? offsets[index] : index;
    std::memcpy(out, slot.data + begin * slot.row_bytes, bytes);
    out += bytes;
  }
  return result;
}

Sample Table::row(std::int64_t index) const {
  Sample sample;
  for (std::size_t i = 0; i < slots_.size(); ++i) sample.set(slots_[i].column.name, cell(i, index));
  return sample;
}

Table Table::slice(std::int64_t begin, std::int64_t end) const {
  if (begin < 0 || end < begin || end > rows_) throw InternalError(cat("slice [", begin, ", ", end, ") of ", rows_, " rows"));
  std::vector<Column> columns;
  for (const Slot& slot : slots_) {
    const Column& whole = slot.column;
    Column part{whole.name, {}, {}};
    if (whole.is_ragged()) {
      const std::int64_t first = whole.offsets[begin];
      part.values = whole.values.narrow(0, first, whole.offsets[end] - first);
      for (std::int64_t i = begin; i <= end; ++i) part.offsets.push_back(whole.offsets[i] - first);
    } else {
      part.values = whole.values.narrow(0, begin, end - begin);
    }
    columns.push_back(std::move(part));
  }
  return Table(std::move(columns), origin_);
}

std::string Table::content_hash() const {
  std::string parts;
  for (const Slot& slot : slots_) {
    const Tensor& values = slot.column.values;
    parts += cat(slot.column.name, values.sizes(), values.scalar_type(), hash_bytes(slot.data, values.nbytes()));
    if (slot.column.is_ragged()) {
      parts += hash_bytes(slot.column.offsets.data(), slot.column.offsets.size() * sizeof(std::int64_t));
    }
  }
  return hash_bytes(parts.data(), parts.size());
}

}  // namespace oumi
