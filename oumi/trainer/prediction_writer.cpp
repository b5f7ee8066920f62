#include "oumi/trainer/prediction_writer.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/softmax.h>
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/writer.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

struct Row {
  std::int64_t id;
  std::optional<std::int64_t> label, prediction;
  std::optional<double> probability;
  std::vector<float> logits;
};

std::vector<Row> rows_of(const PredictionBatch& batch) {
  const Tensor predictions = batch.predictions.contiguous();
  const std::int64_t count = predictions.size(0), width = count == 0 ? 0 : predictions.numel() / count;
  const bool classifier = predictions.dim() == 2;
  const Tensor best = classifier ? predictions.argmax(1) : Tensor();
  const Tensor probabilities = classifier ? predictions.softmax(1) : Tensor();
  const bool labelled = batch.labels && batch.labels->dim() == 1;
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto position = static_cast<std::size_t>(i);
    Row row{.id = position < batch.sample_ids.size() ? batch.sample_ids[position] : -1,
            .label = {},
            .prediction = {},
            .probability = {},
            .logits = {}};
    if (labelled) row.label = (*batch.labels)[i].item<std::int64_t>();
    if (classifier) {
      row.prediction = best[i].item<std::int64_t>();
      row.probability = probabilities[i][*row.prediction].item<double>();
    }
    const float* values = predictions.const_data_ptr<float>() + i * width;
    row.logits.assign(values, values + width);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

class PredictionWriter::Impl {
 public:
  explicit Impl(const fs::path& path) : path_(path), temporary_(path.string() + cat(".tmp-", ::getpid())) {
    const std::string extension = path.extension().string();
    if (extension != ".jsonl" && extension != ".parquet") {
      throw UserError(path.string(), "expected a name that ends in .jsonl or .parquet, got '" + extension + "'");
    }
    if (!path.parent_path().empty()) make_directories(path.parent_path());
    if (extension == ".parquet") {
      open_parquet();
    } else {
      lines_.open(temporary_, std::ios::binary);
      if (!lines_) throw EnvironmentError(path.string(), "cannot be written", "check the folder's permissions and free space");
    }
  }
  ~Impl() {
    std::error_code ignored;
    fs::remove(temporary_, ignored);
  }

  void write(const PredictionBatch& batch) {
    const std::vector<Row> rows = rows_of(batch);
    if (parquet_) return write_parquet(rows);
    for (const Row& row : rows) {
      Json line{{"id", row.id}};
      if (row.label) line["label"] = *row.label;
      if (row.prediction) line["prediction"] = *row.prediction, line["probability"] = *row.probability;
      line["logits"] = row.logits;
      lines_ << line.dump() << '\n';
    }
    if (!lines_) throw EnvironmentError(path_.string(), "cannot be written: the disk may be full", "free some space");
  }

  void close() {
    if (parquet_) {
      check(parquet_->Close());
      check(sink_->Close());
    } else {
      lines_.close();
      if (!lines_) throw EnvironmentError(path_.string(), "cannot be written: the disk may be full", "free some space");
    }
    fsync_path(temporary_);
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) throw EnvironmentError(path_.string(), "cannot be replaced: " + error.message());
  }

 private:
  void check(const arrow::Status& status) const {
    if (!status.ok())
      throw EnvironmentError(path_.string(), "cannot be written: " + status.message(),
                             "check the folder's permissions and free space");
  }

  void open_parquet() {
    schema_ = arrow::schema({arrow::field("id", arrow::int64()), arrow::field("label", arrow::int64()),
                             arrow::field("prediction", arrow::int64()), arrow::field("probability", arrow::float64()),
                             arrow::field("logits", arrow::list(arrow::float32()))});
    auto sink = arrow::io::FileOutputStream::Open(temporary_.string());
    check(sink.status());
    sink_ = *sink;
    auto writer = parquet::arrow::FileWriter::Open(*schema_, arrow::default_memory_pool(), sink_);
    check(writer.status());
    parquet_ = std::move(*writer);
  }

  void write_parquet(const std::vector<Row>& rows) {
    arrow::Int64Builder id, label, prediction;
    arrow::DoubleBuilder probability;
    auto values = std::make_shared<arrow::FloatBuilder>();
    arrow::ListBuilder logits(arrow::default_memory_pool(), values);
    for (const Row& row : rows) {
      check(id.Append(row.id));
      check(row.label ? label.Append(*row.label) : label.AppendNull());
      check(row.prediction ? prediction.Append(*row.prediction) : prediction.AppendNull());
      check(row.probability ? probability.Append(*row.probability) : probability.AppendNull());
      check(logits.Append());
      if (!row.logits.empty()) check(values->AppendValues(row.logits));
    }
    std::vector<std::shared_ptr<arrow::Array>> columns;
    for (arrow::ArrayBuilder* builder :
         std::initializer_list<arrow::ArrayBuilder*>{&id, &label, &prediction, &probability, &logits}) {
      auto column = builder->Finish();
      check(column.status());
      columns.push_back(*column);
    }
    // Buffered: row groups take many batches, whatever the batch size.
    check(parquet_->WriteRecordBatch(*arrow::RecordBatch::Make(schema_, static_cast<std::int64_t>(rows.size()), columns)));
  }

  fs::path path_, temporary_;
  std::ofstream lines_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<arrow::io::FileOutputStream> sink_;
  std::unique_ptr<parquet::arrow::FileWriter> parquet_;
};

PredictionWriter::PredictionWriter(const fs::path& path) : impl_(std::make_unique<Impl>(path)) {}
PredictionWriter::~PredictionWriter() = default;
void PredictionWriter::write(const PredictionBatch& batch) { impl_->write(batch); }
void PredictionWriter::close() { impl_->close(); }

}  // namespace oumi
