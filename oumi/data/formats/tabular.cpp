#include "oumi/data/formats/tabular.h"

#include <arrow/table.h>

#include <algorithm>

#include "oumi/base/files.h"
#include "oumi/data/formats/arrow_columns.h"
#include "oumi/data/formats/tabular_reader.h"
#include "oumi/data/stream.h"
#include "oumi/data/tensor_dataset.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

// All that a dataset of files is made from.
struct TabularSource {
  std::vector<fs::path> files;
  TabularFormat format = TabularFormat::kCsv;
  TabularReadOptions read;
  ColumnRules rules;
  TransformPipeline transforms;
  std::string transform_field;
  std::string name;
  std::string fingerprint;
  std::string transforms_key;
};

TabularSource source_of(const DatasetRequest& request, TabularFormat format) {
  const Kwargs& kwargs = request.kwargs;
  TabularSource source;
  source.format = format;
  source.files = split_files(request, format);
  source.name = cat(request.path ? request.path->filename().string() : format_name(format), "/", request.split);
  source.transforms_key = kwargs.origin() + ".transforms";

  ColumnRules& rules = source.rules;
  rules.key = kwargs.origin();
  rules.columns = kwargs.get<std::vector<std::string>>("columns", {});
  rules.rename = kwargs.get<std::map<std::string, std::string>>("rename", {});
  rules.stack = kwargs.get<std::map<std::string, std::vector<std::string>>>("stack", {});
  for (const auto& [column, dtype] : kwargs.get<std::map<std::string, std::string>>("dtypes", {})) {
    rules.dtypes[column] = parse_dtype(dtype, kwargs.origin() + ".dtypes." + column);
  }
  rules.label_column = kwargs.get<std::string>("label_column", "");
  rules.class_names = kwargs.get<std::vector<std::string>>("class_names", {});
  if (rules.class_names.empty() && !source.files.empty()) {
    for (const std::string& column : {rules.label_column, std::string("label"), std::string("labels")}) {
      if (rules.class_names.empty() && !column.empty())
        rules.class_names = hugging_face_class_names(source.files.front(), column);
    }
  }

  source.read.columns = rules.needed();
  if (format == TabularFormat::kCsv) {
    const std::string delimiter =
        kwargs.get<std::string>("delimiter", to_lower(source.files.front().extension().string()) == ".tsv" ? "\t" : ",");
    if (delimiter.size() != 1)
      throw UserError(kwargs.origin() + ".delimiter", "expected one character, got '" + delimiter + "'");
    source.read.delimiter = delimiter.front();
    source.read.column_names = kwargs.get<std::vector<std::string>>("column_names", {});
  }
  if (format == TabularFormat::kCsv || format == TabularFormat::kJsonl) {
    source.read.block_size = kwargs.get<std::int64_t>("block_size", source.read.block_size);
    if (source.read.block_size < 1)
      throw UserError(kwargs.origin() + ".block_size", cat("expected at least 1, got ", source.read.block_size));
  }
  source.transform_field = kwargs.get<std::string>("transform_field", "");
  source.transforms = TransformPipeline::from_kwargs(kwargs, request.seed);
  for (const fs::path& file : source.files) source.fingerprint += hash_file(file);
  source.fingerprint = cat(source.fingerprint, "|", kwargs.values().dump(), "|", source.transforms.description());
  return source;
}

// Every block of every file, one after the other.
template <class Visit>
void for_each_block(const TabularSource& source, const Visit& visit) {
  for (const fs::path& file : source.files) {
    const auto reader = open_tabular(file, source.format, source.read);
    std::int64_t first_row = 0;
    while (const auto block = reader->next()) {
      visit(*block, first_row, file.string());
      first_row += block->num_rows();
    }
  }
}

DatasetPtr load(TabularSource source) {
  std::vector<std::string> classes;
  std::vector<std::vector<Column>> blocks;
  const auto read = [&] {
    blocks.clear();
    for_each_block(source, [&](const arrow::Table& block, std::int64_t first_row, const std::string& origin) {
      blocks.push_back(columns_of(block, source.rules, first_row, origin, &classes));
    });
  };
  read();
  if (!classes.empty()) {
    // The labels are strings without given names: known only now, so the labels take a second pass.
    source.rules.class_names = classes;
    read();
  }
  const std::string origin = source.files.front().string();
  if (blocks.empty()) throw UserError(origin, "expected rows, got none");
  Table table(concat_columns(std::move(blocks), origin), origin);
  TensorDatasetOptions options;
  options.name = source.name;
  options.fingerprint = source.fingerprint;
  options.class_names = source.rules.class_names;
  if (!source.transforms.empty()) {
    options.transform_field =
        source.transform_field.empty() ? find_image_field(table, source.transforms_key) : source.transform_field;
    options.transforms = source.transforms;
  }
  return std::make_shared<TensorDataset>(std::move(table), std::move(options));
}

class TabularStream : public Stream {
 public:
  explicit TabularStream(TabularSource source) : source_(std::move(source)) {
    // The first block decides the columns' dtypes; reading it now also finds mistakes before training starts.
    if (!advance()) throw UserError(source_.files.front().string(), "expected rows, got none");
    for (std::size_t i = 0; i < block_.size(); ++i)
      prototype_.push_back({block_.column(i).name, block_.column(i).values.narrow(0, 0, 0).clone(), {}});
    if (!source_.transforms.empty() && source_.transform_field.empty())
      source_.transform_field = find_image_field(block_, source_.transforms_key);
    if (!source_.transforms.empty() && block_.find(source_.transform_field) == block_.size()) {
      throw UserError(source_.transforms_key,
                      "no field '" + source_.transform_field + "': got [" + join(block_.names(), ", ") + "]",
                      "set transform_field to one of them");
    }
    std::int64_t total = 0;
    for (const fs::path& file : source_.files) {
      const auto rows = open_tabular(file, source_.format, source_.read)->rows();
      if (!rows) return;
      total += *rows;
    }
    length_ = total;
  }

  std::optional<Sample> produce() override {
    if (row_ == block_.rows() && !advance()) return std::nullopt;
    Sample sample = block_.row(row_++);
    if (!source_.transforms.empty()) {
      Tensor& value = sample.at(source_.transform_field);
      value = source_.transforms.apply(value, epoch(), index_);
    }
    ++index_;
    return sample;
  }
  bool skip() override {
    if (row_ == block_.rows() && !advance()) return false;
    ++row_;
    ++index_;
    return true;
  }
  void rewind() override { go_to({0, 0, 0, 0, 0}); }
  Json position() const override {
    // At the end of a block the next one is named, so that resuming does not read the finished one.
    const bool at_end = reader_ != nullptr && row_ == block_.rows();
    return Json{{"file", file_},
                {"unit", at_end ? reader_->unit() : unit_},
                {"row", at_end ? 0 : row_},
                {"first_row", at_end ? first_row_ + block_.rows() : first_row_},
                {"index", index_}};
  }
  void seek(const Json& position) override {
    const Place place{position.at("file").get<std::size_t>(), position.at("unit").get<std::int64_t>(),
                      position.at("row").get<std::int64_t>(), position.at("first_row").get<std::int64_t>(),
                      position.at("index").get<std::int64_t>()};
    if (place.file > source_.files.size() || place.unit < 0 || place.row < 0)
      throw UserError(source_.name, "state: position " + position.dump() + " is not in the files");
    go_to(place);
    if (place.row == 0) return;
    if (!advance() || place.row > block_.rows())
      throw UserError(source_.name, "state: the files have fewer rows than when it was saved");
    row_ = place.row;
  }
  std::optional<std::int64_t> length() const override { return length_; }
  std::string name() const override { return source_.name; }
  std::string fingerprint() const override { return hash_bytes(source_.fingerprint.data(), source_.fingerprint.size()); }
  std::vector<std::string> class_names() const override { return source_.rules.class_names; }

 private:
  struct Place {
    std::size_t file;
    std::int64_t unit, row, first_row, index;
  };

  void go_to(const Place& place) {
    file_ = place.file;
    block_ = Table();
    row_ = 0;
    unit_ = place.unit;
    first_row_ = place.first_row;
    index_ = place.index;
    reader_ = nullptr;
    if (file_ < source_.files.size()) {
      open();
      reader_->seek(place.unit);
    }
  }
  void open() { reader_ = open_tabular(source_.files[file_], source_.format, source_.read); }

  // Reads the next block, of the next file if need be. False at the end.
  bool advance() {
    while (file_ < source_.files.size()) {
      if (reader_ == nullptr) open();
      const std::string origin = source_.files[file_].string();
      first_row_ += block_.rows();
      block_ = Table();
      row_ = 0;
      unit_ = reader_->unit();
      if (const auto block = reader_->next()) {
        block_ = Table(conform(columns_of(*block, source_.rules, first_row_, origin), origin), origin);
        return true;
      }
      reader_ = nullptr;
      ++file_;
      first_row_ = 0;
      unit_ = 0;
    }
    return false;
  }

  // Later blocks are of the first one's dtypes: whole numbers among floats are a matter of how a file was written.
  std::vector<Column> conform(std::vector<Column> columns, const std::string& origin) const {
    if (prototype_.empty()) return columns;
    if (columns.size() != prototype_.size())
      throw UserError(origin, cat("expected ", prototype_.size(), " columns as in the first block, got ", columns.size(),
                                  " from row ", first_row_));
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto wanted = prototype_[i].values.scalar_type(), got = columns[i].values.scalar_type();
      if (columns[i].name != prototype_[i].name)
        throw UserError(origin,
                        "expected column '" + prototype_[i].name + "' as in the first block, got '" + columns[i].name + "'");
      if (wanted == got) continue;
      if (c10::promoteTypes(wanted, got) != wanted && columns[i].values.numel() > 0) {
        throw UserError(origin,
                        cat("column '", columns[i].name, "': expected ", wanted, " as in the first block, got ", got,
                            " from row ", first_row_, " on"),
                        "set dataset_kwargs.dtypes." + columns[i].name);
      }
      columns[i].values = columns[i].values.to(wanted);
    }
    return columns;
  }

  TabularSource source_;
  std::vector<Column> prototype_;  // no rows: names and dtypes
  std::optional<std::int64_t> length_;
  std::unique_ptr<TabularReader> reader_;
  Table block_;
  std::size_t file_ = 0;
  std::int64_t unit_ = 0;       // of block_
  std::int64_t row_ = 0;        // in block_
  std::int64_t first_row_ = 0;  // of block_ in its file
  std::int64_t index_ = 0;      // in the whole stream
};

DatasetPtr make_tabular(const DatasetRequest& request, TabularFormat format) {
  TabularSource source = source_of(request, format);
  if (!request.stream) return load(std::move(source));
  auto stream = std::make_shared<TabularStream>(std::move(source));
  stream->rewind();
  return stream;
}

}  // namespace

DatasetPtr make_csv_dataset(const DatasetRequest& request) { return make_tabular(request, TabularFormat::kCsv); }
DatasetPtr make_jsonl_dataset(const DatasetRequest& request) { return make_tabular(request, TabularFormat::kJsonl); }
DatasetPtr make_parquet_dataset(const DatasetRequest& request) { return make_tabular(request, TabularFormat::kParquet); }
DatasetPtr make_arrow_dataset(const DatasetRequest& request) { return make_tabular(request, TabularFormat::kArrow); }

DatasetPtr make_pretokenized_dataset(const DatasetRequest& request) {
  const fs::path& path = request.require_path();
  if (!fs::is_directory(path)) {
    if (const auto format = format_of(path)) return make_tabular(request, *format);
    throw UserError(path.string(), "expected a .parquet, .arrow, .jsonl or .csv file");
  }
  if (fs::exists(path / "state.json") || fs::exists(path / "dataset_dict.json"))
    return make_tabular(request, TabularFormat::kArrow);
  for (const TabularFormat format :
       {TabularFormat::kParquet, TabularFormat::kArrow, TabularFormat::kJsonl, TabularFormat::kCsv}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file() && format_of(entry.path()) == format) return make_tabular(request, format);
    }
  }
  throw UserError(path.string(),
                  "expected .parquet, .arrow, .jsonl or .csv files, or a folder of datasets.save_to_disk, got neither");
}

}  // namespace oumi
