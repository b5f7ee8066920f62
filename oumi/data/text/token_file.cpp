#include "oumi/data/text/token_file.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/arrow_status.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

// Rows of one record batch: large enough that a file of millions of rows has thousands of batches, small enough to build in
// memory.
constexpr std::int64_t kBatchRows = 1024;
constexpr const char* kColumns[] = {"input_ids", "labels", "supervised", "dropped", "largest_id", "smallest_id"};

std::shared_ptr<arrow::Schema> schema() {
  const auto ids = arrow::list(arrow::field("item", arrow::int32(), false));
  return arrow::schema({arrow::field(kColumns[0], ids, false), arrow::field(kColumns[1], ids, true),
                        arrow::field(kColumns[2], arrow::int32(), false), arrow::field(kColumns[3], arrow::int64(), false),
                        arrow::field(kColumns[4], arrow::int32(), false), arrow::field(kColumns[5], arrow::int32(), false)});
}

void check_written(const arrow::Status& status, const fs::path& path) {
  if (status.ok()) return;
  // The detail has the system's reason ("No space left on device").
  const std::string reason = status.detail() ? status.message() + " " + status.detail()->ToString() : status.message();
  throw EnvironmentError(path.string(), "cannot be written: " + reason, "free some space, or set OUMI_CACHE to another folder");
}

// One record batch, by its raw arrays.
struct Batch {
  std::shared_ptr<arrow::RecordBatch> keep;
  const arrow::ListArray* ids;
  const arrow::ListArray* labels;
  const arrow::Int32Array *supervised, *largest, *smallest;
  const arrow::Int64Array* dropped;
  std::int64_t begin;  // its first row in the file
};

TokenSpan row_of(const arrow::ListArray& list, std::int64_t row) {
  const auto& values = static_cast<const arrow::Int32Array&>(*list.values());
  return {values.raw_values() + list.value_offset(row), static_cast<std::size_t>(list.value_length(row))};
}

}  // namespace

TokenCounts count_tokens(TokenSpan ids, TokenSpan labels, std::int32_t ignore_index) {
  TokenCounts counts;
  counts.tokens = static_cast<std::int64_t>(ids.size());
  counts.supervised = static_cast<std::int64_t>(labels.size()) - std::count(labels.begin(), labels.end(), ignore_index);
  if (ids.empty()) return counts;
  const auto [smallest, largest] = std::minmax_element(ids.begin(), ids.end());
  counts.largest_id = *largest;
  counts.smallest_id = *smallest;
  if (labels.data() == ids.data()) return counts;
  for (const std::int32_t label : labels) {
    if (label == ignore_index) continue;
    counts.largest_id = std::max(counts.largest_id, label);
    counts.smallest_id = std::min(counts.smallest_id, label);
  }
  return counts;
}

struct TokenFile::Impl {
  std::vector<Batch> batches;
  std::int64_t rows = 0;

  const Batch& batch_of(std::int64_t& row) const {
    // All batches but the last are of one size.
    const Batch& batch = batches[static_cast<std::size_t>(row / kBatchRows)];
    row -= batch.begin;
    return batch;
  }
};

TokenFile::TokenFile(const fs::path& path) : impl_(std::make_unique<Impl>()) {
  const std::string origin = path.string();
  const auto file = check_arrow(arrow::io::MemoryMappedFile::Open(origin, arrow::io::FileMode::READ), origin);
  const auto reader = check_arrow(arrow::ipc::RecordBatchFileReader::Open(file), origin);
  if (!reader->schema()->Equals(*schema(), /*check_metadata=*/false))
    throw UserError(origin, "expected encoded samples, got other columns");
  for (int i = 0; i < reader->num_record_batches(); ++i) {
    auto batch = check_arrow(reader->ReadRecordBatch(i), origin);
    check_arrow(batch->Validate(), origin);
    if (i + 1 < reader->num_record_batches() && batch->num_rows() != kBatchRows)
      throw UserError(origin, "expected batches of one size");
    const arrow::RecordBatch& columns = *batch;
    impl_->batches.push_back({batch, static_cast<const arrow::ListArray*>(columns.column(0).get()),
                              static_cast<const arrow::ListArray*>(columns.column(1).get()),
                              static_cast<const arrow::Int32Array*>(columns.column(2).get()),
                              static_cast<const arrow::Int32Array*>(columns.column(4).get()),
                              static_cast<const arrow::Int32Array*>(columns.column(5).get()),
                              static_cast<const arrow::Int64Array*>(columns.column(3).get()), impl_->rows});
    impl_->rows += batch->num_rows();
  }
}

TokenFile::~TokenFile() = default;
std::int64_t TokenFile::rows() const noexcept { return impl_->rows; }

TokenSpan TokenFile::ids(std::int64_t row) const {
  const Batch& batch = impl_->batch_of(row);
  return row_of(*batch.ids, row);
}

TokenSpan TokenFile::labels(std::int64_t row) const {
  const Batch& batch = impl_->batch_of(row);
  return batch.labels->IsNull(row) ? row_of(*batch.ids, row) : row_of(*batch.labels, row);
}

TokenCounts TokenFile::counts(std::int64_t row) const {
  const Batch& batch = impl_->batch_of(row);
  return {.tokens = batch.ids->value_length(row),
          .supervised = batch.supervised->Value(row),
          .dropped = batch.dropped->Value(row),
          .largest_id = batch.largest->Value(row),
          .smallest_id = batch.smallest->Value(row)};
}

struct TokenFileWriter::Impl {
  fs::path path;
  std::shared_ptr<arrow::io::FileOutputStream> file;
  std::shared_ptr<arrow::ipc::RecordBatchWriter> writer;
  std::shared_ptr<arrow::Int32Builder> id_values = std::make_shared<arrow::Int32Builder>(),
                                       label_values = std::make_shared<arrow::Int32Builder>();
  arrow::ListBuilder ids{arrow::default_memory_pool(), id_values, schema()->field(0)->type()};
  arrow::ListBuilder labels{arrow::default_memory_pool(), label_values, schema()->field(1)->type()};
  arrow::Int32Builder supervised, largest, smallest;
  arrow::Int64Builder dropped;
  std::int64_t rows = 0, pending = 0;

  template <class Builder>
  std::shared_ptr<arrow::Array> finish(Builder& builder) {
    std::shared_ptr<arrow::Array> array;
    check_written(builder.Finish(&array), path);
    return array;
  }
  void flush() {
    if (pending == 0) return;
    const auto batch = arrow::RecordBatch::Make(
        schema(), pending,
        {finish(ids), finish(labels), finish(supervised), finish(dropped), finish(largest), finish(smallest)});
    check_written(writer->WriteRecordBatch(*batch), path);
    pending = 0;
  }
};

TokenFileWriter::TokenFileWriter(const fs::path& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  auto file = arrow::io::FileOutputStream::Open(path.string());
  check_written(file.status(), path);
  impl_->file = *file;
  auto writer = arrow::ipc::MakeFileWriter(impl_->file, schema());
  check_written(writer.status(), path);
  impl_->writer = *writer;
}

TokenFileWriter::~TokenFileWriter() = default;
std::int64_t TokenFileWriter::rows() const noexcept { return impl_->rows; }

void TokenFileWriter::add(EncodedRow row) {
  Impl& to = *impl_;
  if (row.labels && row.labels->size() != row.ids.size())
    throw InternalError(cat(row.labels->size(), " labels for ", row.ids.size(), " tokens"));
  const TokenCounts counts = count_tokens(row.ids, row.labels ? *row.labels : row.ids);
  // A row without tokens has no address, which Arrow would hand to memcpy.
  const auto append = [&to](arrow::Int32Builder& values, const TokenIds& ids) {
    if (!ids.empty()) check_written(values.AppendValues(ids), to.path);
  };
  check_written(to.ids.Append(), to.path);
  append(*to.id_values, row.ids);
  if (row.labels) {
    check_written(to.labels.Append(), to.path);
    append(*to.label_values, *row.labels);
  } else {
    check_written(to.labels.AppendNull(), to.path);
  }
  check_written(to.supervised.Append(static_cast<std::int32_t>(counts.supervised)), to.path);
  check_written(to.dropped.Append(row.dropped), to.path);
  check_written(to.largest.Append(counts.largest_id), to.path);
  check_written(to.smallest.Append(counts.smallest_id), to.path);
  ++to.rows;
  if (++to.pending == kBatchRows) to.flush();
}

void TokenFileWriter::close() {
  impl_->flush();
  check_written(impl_->writer->Close(), impl_->path);
  check_written(impl_->file->Close(), impl_->path);
}

}  // namespace oumi
