// Columns in memory: what IDX, NPZ, CSV, JSONL, Parquet and Arrow files become, and what a block of a streamed file is.
#pragma once

#include <c10/util/SmallVector.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "oumi/tensors/batch.h"

namespace oumi {

// One column. Dense: values is [rows, ...]. Ragged (rows of different lengths): values is [total, ...] and row i is
// values[offsets[i] .. offsets[i + 1]).
struct Column {
  std::string name;
  Tensor values;
  std::vector<std::int64_t> offsets;

  bool is_ragged() const noexcept { return !offsets.empty(); }
  std::int64_t rows() const;
};

// Columns of equal length, which become the fields of samples. Rows are copied out with plain memory copies: no tensor
// operation runs per row.
class Table {
 public:
  Table() = default;
  // `origin` names the source in errors. Throws UserError when the columns' lengths differ, a name repeats or a tensor is
  // not on the CPU.
  Table(std::vector<Column> columns, std::string origin);

  std::int64_t rows() const noexcept { return rows_; }
  std::size_t size() const noexcept { return slots_.size(); }
  const Column& column(std::size_t position) const { return slots_[position].column; }
  // Position of the column called `name`; size() when absent.
  std::size_t find(const std::string& name) const;
  std::vector<std::string> names() const;

  // A copy of one cell: the row without its leading dimension.
  Tensor cell(std::size_t position, std::int64_t row) const;
  // [indices.size(), ...]. Ragged rows must be of one length here; throws UserError naming both rows otherwise.
  Tensor gather(std::size_t position, std::span<const std::int64_t> indices) const;
  Sample row(std::int64_t index) const;

  // First byte of a dense row, and bytes per row.
  const std::byte* row_data(std::size_t position, std::int64_t row) const {
    return slots_[position].data + row * slots_[position].row_bytes;
  }
  std::int64_t row_bytes(std::size_t position) const { return slots_[position].row_bytes; }
  c10::IntArrayRef row_sizes(std::size_t position) const { return slots_[position].row_sizes; }

  // Rows [begin, end) without copying dense columns. Needs 0 <= begin <= end <= rows().
  Table slice(std::int64_t begin, std::int64_t end) const;
  // XXH3 over all columns' names, shapes, dtypes and bytes.
  std::string content_hash() const;

  // Throws UserError naming the source, the index and the number of rows.
  void check_index(std::int64_t index) const {
    if (static_cast<std::uint64_t>(index) >= static_cast<std::uint64_t>(rows_)) throw_out_of_range(index);
  }
  const std::string& origin() const noexcept { return origin_; }

 private:
  struct Slot {
    Column column;
    const std::byte* data = nullptr;
    std::int64_t row_bytes = 0;                   // dense: of a row; ragged: of one element along the first dimension
    c10::SmallVector<std::int64_t, 5> row_sizes;  // without the leading dimension
  };
  [[noreturn]] void throw_out_of_range(std::int64_t index) const;

  std::vector<Slot> slots_;
  std::int64_t rows_ = 0;
  std::string origin_;
};

}  // namespace oumi
