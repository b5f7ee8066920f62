#include "oumi/data/formats/tabular_reader.h"

#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>

#include <algorithm>

#include "oumi/data/formats/arrow_status.h"
#include "oumi/data/formats/text_blocks.h"

namespace oumi {
namespace {

constexpr const char* kDamagedHint = "the file is damaged or truncated; write or download it again";

// Offsets and text are checked: Arrow's readers take them as they are, and a damaged file's would point anywhere.
std::shared_ptr<arrow::Table> table_of(std::shared_ptr<arrow::RecordBatch> batch, const std::string& origin) {
  check_arrow(batch->ValidateFull(), origin, kDamagedHint);
  return check_arrow(arrow::Table::FromRecordBatches({std::move(batch)}), origin);
}

// unit = row group << 32 | block within it.
class ParquetReader : public TabularReader {
 public:
  ParquetReader(const std::filesystem::path& path, const TabularReadOptions& options) : origin_(path.string()) {
    parquet::ArrowReaderProperties properties;
    properties.set_batch_size(8192);
    properties.set_use_threads(false);
    parquet::arrow::FileReaderBuilder builder;
    check_arrow(builder.OpenFile(origin_, /*memory_map=*/true), origin_, kDamagedHint);
    reader_ = check_arrow(builder.properties(properties)->Build(), origin_, kDamagedHint);
    const auto& schema = *reader_->parquet_reader()->metadata()->schema();
    std::vector<std::string> names;
    for (int i = 0; i < schema.num_columns(); ++i) {
      // A list column's leaf is called name.list.element: columns are chosen by the name at the root.
      const std::string name = schema.GetColumnRoot(i)->name();
      names.push_back(name);
      if (options.columns.empty() || std::find(options.columns.begin(), options.columns.end(), name) != options.columns.end())
        columns_.push_back(i);
    }
    for (const std::string& wanted : options.columns) {
      if (std::find(names.begin(), names.end(), wanted) == names.end())
        throw UserError(origin_, "no column '" + wanted + "'", suggestion(wanted, names));
    }
  }

  std::shared_ptr<arrow::Table> next() override {
    while (group_ < reader_->num_row_groups()) {
      if (batches_ == nullptr) open_group();
      std::shared_ptr<arrow::RecordBatch> batch;
      check_arrow(batches_->ReadNext(&batch), where(), kDamagedHint);
      if (batch != nullptr) {
        ++block_;
        if (batch->num_rows() > 0) return table_of(batch, where());
        continue;
      }
      ++group_;
      block_ = 0;
      batches_ = nullptr;
    }
    return nullptr;
  }
  std::int64_t unit() const override { return static_cast<std::int64_t>(group_) << 32 | block_; }
  void seek(std::int64_t unit) override {
    group_ = static_cast<int>(unit >> 32);
    block_ = 0;
    batches_ = nullptr;
    const std::int64_t target = unit & 0xFFFFFFFF;
    if (target == 0 || group_ >= reader_->num_row_groups()) return;
    open_group();
    std::shared_ptr<arrow::RecordBatch> skipped;
    for (; block_ < target; ++block_) check_arrow(batches_->ReadNext(&skipped), where(), kDamagedHint);
  }
  std::optional<std::int64_t> rows() override { return reader_->parquet_reader()->metadata()->num_rows(); }

 private:
  void open_group() { batches_ = check_arrow(reader_->GetRecordBatchReader({group_}, columns_), where(), kDamagedHint); }
  std::string where() const { return cat(origin_, ": row group ", group_); }

  std::string origin_;
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::vector<int> columns_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  int group_ = 0;
  std::int64_t block_ = 0;
};

std::shared_ptr<arrow::io::MemoryMappedFile> map_file(const std::string& path) {
  return check_arrow(arrow::io::MemoryMappedFile::Open(path, arrow::io::FileMode::READ), path);
}

// The IPC file format: batches by index.
class ArrowFileReader : public TabularReader {
 public:
  explicit ArrowFileReader(const std::string& path)
      : origin_(path), reader_(check_arrow(arrow::ipc::RecordBatchFileReader::Open(map_file(path)), path, kDamagedHint)) {}
  std::shared_ptr<arrow::Table> next() override {
    while (unit_ < reader_->num_record_batches()) {
      auto batch =
          check_arrow(reader_->ReadRecordBatch(static_cast<int>(unit_)), cat(origin_, ": record batch ", unit_), kDamagedHint);
      ++unit_;
      if (batch->num_rows() > 0) return table_of(std::move(batch), cat(origin_, ": record batch ", unit_ - 1));
    }
    return nullptr;
  }
  std::int64_t unit() const override { return unit_; }
  void seek(std::int64_t unit) override { unit_ = unit; }
  std::optional<std::int64_t> rows() override { return check_arrow(reader_->CountRows(), origin_, kDamagedHint); }

 private:
  std::string origin_;
  std::shared_ptr<arrow::ipc::RecordBatchFileReader> reader_;
  std::int64_t unit_ = 0;
};

// The IPC stream format, which datasets.save_to_disk writes. Passing over a batch of a mapped file reads its header alone.
class ArrowStreamReader : public TabularReader {
 public:
  explicit ArrowStreamReader(const std::string& path) : origin_(path) { open(); }
  std::shared_ptr<arrow::Table> next() override {
    while (auto batch = read()) {
      if (batch->num_rows() > 0) return table_of(std::move(batch), cat(origin_, ": record batch ", unit_ - 1));
    }
    return nullptr;
  }
  std::int64_t unit() const override { return unit_; }
  void seek(std::int64_t unit) override {
    if (unit < unit_) open();
    while (unit_ < unit && read()) {
    }
  }
  std::optional<std::int64_t> rows() override {
    ArrowStreamReader other(origin_);
    std::int64_t total = 0;
    while (const auto batch = other.read()) total += batch->num_rows();
    return total;
  }

 private:
  void open() {
    reader_ = check_arrow(arrow::ipc::RecordBatchStreamReader::Open(map_file(origin_)), origin_, kDamagedHint);
    unit_ = 0;
  }
  std::shared_ptr<arrow::RecordBatch> read() {
    std::shared_ptr<arrow::RecordBatch> batch;
    check_arrow(reader_->ReadNext(&batch), cat(origin_, ": record batch ", unit_), kDamagedHint);
    if (batch != nullptr) ++unit_;
    return batch;
  }

  std::string origin_;
  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> reader_;
  std::int64_t unit_ = 0;
};

std::unique_ptr<TabularReader> open_arrow(const std::string& path) {
  const auto file = map_file(path);
  const auto magic = check_arrow(file->ReadAt(0, 6), path);
  if (magic->ToString() == "ARROW1") return std::make_unique<ArrowFileReader>(path);
  return std::make_unique<ArrowStreamReader>(path);
}

}  // namespace

std::unique_ptr<TabularReader> open_tabular(const std::filesystem::path& path, TabularFormat format,
                                            const TabularReadOptions& options) {
  if (std::filesystem::file_size(path) == 0)
    throw UserError(path.string(), cat("expected a ", format_name(format), " file, got an empty one"));
  switch (format) {
    case TabularFormat::kParquet: return std::make_unique<ParquetReader>(path, options);
    case TabularFormat::kArrow: return open_arrow(path.string());
    case TabularFormat::kCsv:
    case TabularFormat::kJsonl: return open_text(path, format, options);
  }
  throw InternalError("unknown tabular format");
}

}  // namespace oumi
