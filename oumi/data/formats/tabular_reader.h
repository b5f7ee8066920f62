// CSV, JSONL, Parquet and Arrow IPC files in blocks of rows, through Arrow C++. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oumi/data/formats/tabular_files.h"

namespace arrow {
class Table;
}

namespace oumi {

struct TabularReadOptions {
  std::vector<std::string> columns;       // to read; all when empty. Parquet and CSV skip the others
  std::vector<std::string> column_names;  // CSV without a header line
  char delimiter = ',';                   // CSV
  std::int64_t block_size = 4 << 20;      // bytes of text per block; a longer line makes a longer block
};

// One file. A block is as much as is held in memory at a time: so many bytes of text, up to 8192 rows of a Parquet row
// group, one Arrow record batch. `unit` names a block: seeking to it reads nothing before it that is not in its row group.
class TabularReader {
 public:
  virtual ~TabularReader() = default;
  // The next block, never empty of rows; nullptr at the end of the file. Throws UserError naming the file.
  virtual std::shared_ptr<arrow::Table> next() = 0;
  // The block that next() reads.
  virtual std::int64_t unit() const = 0;
  virtual void seek(std::int64_t unit) = 0;
  // Rows of the file where that is cheap to know.
  virtual std::optional<std::int64_t> rows() { return std::nullopt; }
};

std::unique_ptr<TabularReader> open_tabular(const std::filesystem::path& path, TabularFormat format,
                                            const TabularReadOptions& options);

}  // namespace oumi
