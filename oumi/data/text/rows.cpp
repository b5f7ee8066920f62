#include "oumi/data/text/rows.h"

#include <arrow/table.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>

#include "oumi/base/files.h"
#include "oumi/base/json_depth.h"
#include "oumi/data/formats/tabular_files.h"
#include "oumi/data/formats/tabular_reader.h"
#include "oumi/data/text/arrow_json.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kLongestLine = std::size_t{1} << 30;

[[noreturn]] void throw_position(const Json& position) {
  throw UserError("data state", "position " + position.dump() + " is not in the files: they changed since it was saved");
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// Python's json module writes floats that are no numbers as NaN, Infinity and -Infinity, which JSON lacks: null in their place.
// Nothing when the text has none.
std::optional<std::string> without_nan(std::string_view text) {
  constexpr std::string_view kWords[] = {"NaN", "-Infinity", "Infinity"};
  std::string out;
  bool quoted = false, changed = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\' && i + 1 < text.size()) {
      out += text[i++];
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      const auto* word = std::find_if(std::begin(kWords), std::end(kWords),
                                      [&](std::string_view each) { return text.substr(i).starts_with(each); });
      if (word != std::end(kWords)) {
        out += "null";
        i += word->size() - 1;
        changed = true;
        continue;
      }
    }
    out += text[i];
  }
  return changed ? std::optional(std::move(out)) : std::nullopt;
}

// Goes from file to file; subclasses read one.
class FileByFile : public RowReader {
 public:
  explicit FileByFile(std::vector<fs::path> files) : files_(std::move(files)) {}

  bool next(TextRow& row) final {
    while (file_ < files_.size()) {
      if (!opened_) open_file();
      if (next_in_file(row)) return true;
      close_file();
      ++file_;
    }
    return false;
  }
  Json position() const final {
    Json place = Json{{"file", file_}};
    if (opened_) place["at"] = position_in_file();
    return place;
  }
  void seek(const Json& position) final {
    file_ = position.at("file").get<std::size_t>();
    if (opened_) close_file();
    if (file_ > files_.size()) throw_position(position);
    if (!position.contains("at")) return;
    if (file_ == files_.size()) throw_position(position);
    open_file();
    seek_in_file(position.at("at"));
  }

 protected:
  virtual void open(const fs::path& file) = 0;
  virtual void close() = 0;
  virtual bool next_in_file(TextRow& row) = 0;
  virtual Json position_in_file() const = 0;
  virtual void seek_in_file(const Json& position) = 0;

  std::shared_ptr<const std::string> name_;

 private:
  void open_file() {
    const fs::path& file = files_[file_];
    name_ = std::make_shared<const std::string>(file.string());
    std::error_code error;
    if (fs::file_size(file, error) == 0) throw UserError(file.string(), "expected samples, got an empty file");
    open(file);
    opened_ = true;
  }
  void close_file() {
    close();
    opened_ = false;
  }

  std::vector<fs::path> files_;
  std::size_t file_ = 0;
  bool opened_ = false;
};

class LineReader : public FileByFile {
 public:
  LineReader(std::vector<fs::path> files, bool documents) : FileByFile(std::move(files)), documents_(documents) {}

 protected:
  void open(const fs::path& file) override {
    stream_ = std::ifstream(file, std::ios::binary);
    if (!stream_) throw UserError(file.string(), "cannot be opened", "check that it exists and may be read");
    offset_ = 0;
    line_ = 0;
  }
  void close() override { stream_.close(); }
  bool next_in_file(TextRow& row) override {
    std::string text;
    while (std::getline(stream_, text)) {
      const bool first = offset_ == 0;
      offset_ += static_cast<std::int64_t>(text.size()) + 1;
      ++line_;
      if (first && text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
      if (text.size() > kLongestLine)
        throw UserError(cat(*name_, ", line ", line_), cat("expected a line below 1 GiB, got ", text.size(), " bytes"));
      if (is_blank(text)) continue;
      if (documents_ && text.ends_with('\r')) text.pop_back();
      row = TextRow(name_, line_, "line");
      row.is_document = documents_;
      row.source = std::move(text);
      return true;
    }
    if (stream_.bad()) throw EnvironmentError(*name_, cat("read error after line ", line_));
    return false;
  }
  Json position_in_file() const override { return Json{{"offset", offset_}, {"line", line_}}; }
  void seek_in_file(const Json& position) override {
    offset_ = position.at("offset").get<std::int64_t>();
    line_ = position.at("line").get<std::int64_t>();
    stream_.clear();
    stream_.seekg(offset_);
  }

 private:
  bool documents_;
  std::ifstream stream_;
  std::int64_t offset_ = 0, line_ = 0;
};

// One row after another of what was read whole.
class WholeFileReader : public FileByFile {
 public:
  WholeFileReader(std::vector<fs::path> files, bool is_json) : FileByFile(std::move(files)), is_json_(is_json) {}

 protected:
  void open(const fs::path& file) override {
    next_ = 0;
    std::string text = read_text_file(file);
    if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
    if (!is_json_) {
      values_ = Json::array();
      document_ = std::move(text);
      return;
    }
    values_ = parse_values(text, file.string());
    if (!values_.is_array()) {
      throw UserError(file.string(), "expected a list of objects, got a " + json_type_name(values_),
                      "a file with one object on each line is called .jsonl");
    }
  }
  void close() override {
    values_ = Json::array();
    document_.clear();
  }
  bool next_in_file(TextRow& row) override {
    if (is_json_ ? next_ >= values_.size() : next_ >= 1) return false;
    row = TextRow(name_, static_cast<std::int64_t>(next_) + 1, "row");
    if (is_json_)
      row.value = values_[next_];
    else
      row.source = document_, row.is_document = true;
    ++next_;
    return true;
  }
  Json position_in_file() const override { return next_; }
  void seek_in_file(const Json& position) override { next_ = position.get<std::size_t>(); }

 private:
  static Json parse_values(const std::string& text, const std::string& origin) {
    try {
      return parse_json(text, origin);
    } catch (const UserError&) {
      if (const auto plain = without_nan(text)) return parse_json(*plain, origin);
      throw;
    }
  }

  bool is_json_;
  Json values_ = Json::array();
  std::string document_;
  std::size_t next_ = 0;
};

class ArrowRowReader : public FileByFile {
 public:
  ArrowRowReader(std::vector<fs::path> files, TabularFormat format) : FileByFile(std::move(files)), format_(format) {}

 protected:
  void open(const fs::path& file) override {
    TabularReadOptions options;
    if (to_lower(file.extension().string()) == ".tsv") options.delimiter = '\t';
    reader_ = open_tabular(file, format_, options);
    block_ = nullptr;
    row_ = first_row_ = unit_ = 0;
  }
  void close() override { reader_ = nullptr; }
  bool next_in_file(TextRow& row) override {
    if (block_ == nullptr || row_ == block_->num_rows()) {
      if (block_ != nullptr) first_row_ += block_->num_rows();
      unit_ = reader_->unit();
      block_ = reader_->next();
      row_ = 0;
      if (block_ == nullptr) return false;
    }
    row = TextRow(name_, first_row_ + row_ + 1, "row");
    row.value = row_as_json(*block_, row_, row.origin());
    ++row_;
    return true;
  }
  Json position_in_file() const override { return Json{{"unit", unit_}, {"row", row_}, {"first_row", first_row_}}; }
  void seek_in_file(const Json& position) override {
    unit_ = position.at("unit").get<std::int64_t>();
    first_row_ = position.at("first_row").get<std::int64_t>();
    row_ = position.at("row").get<std::int64_t>();
    reader_->seek(unit_);
    block_ = row_ > 0 ? reader_->next() : nullptr;
    if (row_ > 0 && (block_ == nullptr || row_ > block_->num_rows())) throw_position(position);
  }

 private:
  TabularFormat format_;
  std::unique_ptr<TabularReader> reader_;
  std::shared_ptr<arrow::Table> block_;
  std::int64_t row_ = 0, first_row_ = 0, unit_ = 0;
};

// Many a .json file holds one object on each line.
RowFormat json_format(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  char first = ' ';
  while (stream.get(first) && std::string_view(" \t\r\n\xEF\xBB\xBF").find(first) != std::string_view::npos) {
  }
  return first == '{' ? RowFormat::kJsonl : RowFormat::kJson;
}

std::optional<RowFormat> row_format(const fs::path& file, const RowSourceOptions& options) {
  const std::string suffix = to_lower(file.extension().string());
  if (suffix == ".json") return json_format(file);
  if (const auto format = format_of(file)) {
    switch (*format) {
      case TabularFormat::kCsv: return RowFormat::kCsv;
      case TabularFormat::kJsonl: return RowFormat::kJsonl;
      case TabularFormat::kParquet: return RowFormat::kParquet;
      case TabularFormat::kArrow: return RowFormat::kArrow;
    }
  }
  if (options.plain_text) return options.whole_files ? RowFormat::kTextFile : RowFormat::kTextLines;
  return std::nullopt;
}

RowSource source_of_folder(const DatasetRequest& request, const RowSourceOptions& options) {
  const fs::path& folder = *request.path;
  if (fs::exists(folder / "state.json") || fs::exists(folder / "dataset_dict.json")) {
    return {split_files(request, TabularFormat::kArrow), RowFormat::kArrow};
  }
  const std::pair<TabularFormat, RowFormat> kinds[] = {{TabularFormat::kParquet, RowFormat::kParquet},
                                                       {TabularFormat::kArrow, RowFormat::kArrow},
                                                       {TabularFormat::kJsonl, RowFormat::kJsonl},
                                                       {TabularFormat::kCsv, RowFormat::kCsv}};
  std::vector<fs::path> texts;
  for (const auto& [tabular, format] : kinds) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      if (format_of(entry.path()) == tabular) {
        RowSource source{split_files(request, tabular), format};
        const fs::path& first = source.files.front();
        if (to_lower(first.extension().string()) == ".json") source.format = json_format(first);
        return source;
      }
    }
  }
  if (options.plain_text) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && to_lower(entry.path().extension().string()) == ".txt") texts.push_back(entry.path());
    }
    std::sort(texts.begin(), texts.end());
    if (!texts.empty()) return {texts, options.whole_files ? RowFormat::kTextFile : RowFormat::kTextLines};
  }
  throw UserError(folder.string(),
                  "expected .jsonl, .json, .parquet, .arrow or .csv files, or a folder of datasets.save_to_disk, got neither");
}

}  // namespace

std::string TextRow::origin() const { return file_ == nullptr ? "row" : cat(*file_, ", ", unit_, " ", number_); }

Json TextRow::json() const {
  if (is_document || source.empty()) return value;
  if (const auto at = too_deep_at(source))
    throw UserError(origin(), cat("expected JSON of at most ", kMaxJsonDepth, " levels, got more at column ", *at + 1));
  try {
    return Json::parse(source);
  } catch (const Json::out_of_range& error) {
    // The library's text ends with the number.
    const std::string what = error.what();
    throw UserError(origin(), cat("not valid JSON: expected numbers that fit a float, got ", what.substr(what.rfind(' ') + 1)));
  } catch (const Json::parse_error& error) {
    if (const auto plain = without_nan(source)) {
      TextRow row = *this;
      row.source = *plain;
      return row.json();
    }
    const std::string what = error.what();
    // nlohmann names the byte within the text; its own prefix says nothing to a user.
    const bool utf8 = what.find("UTF-8") != std::string::npos;
    throw UserError(origin(), cat(utf8 ? "not valid UTF-8" : "not valid JSON", " at column ", error.byte),
                    "expected one JSON object on the line; the file may be cut short or have another encoding");
  }
}

std::string TextRow::text(const std::string& column) const {
  if (is_document) return source;
  const Json row = json();
  if (row.is_string()) return row.get<std::string>();
  if (!row.is_object()) throw UserError(origin(), "expected an object with a key '" + column + "', got " + json_type_name(row));
  const auto found = row.find(column);
  if (found == row.end()) {
    std::vector<std::string> keys;
    for (const auto& [key, unused] : row.items()) keys.push_back(key);
    throw UserError(origin(), "expected a column '" + column + "', got [" + join(keys, ", ") + "]",
                    "name the column in dataset_kwargs");
  }
  if (!found->is_string()) throw UserError(origin(), "column '" + column + "': expected text, got " + json_type_name(*found));
  return found->get<std::string>();
}

RowSource row_source(const DatasetRequest& request, const RowSourceOptions& options) {
  if (!request.path) {
    throw UserError(request.key + ".dataset_path", "is required for dataset '" + request.name + "': nothing is downloaded",
                    "set it to a local .jsonl, .json, .parquet, .arrow or .csv file, or to a folder of them");
  }
  const fs::path& path = request.require_path();
  if (fs::is_directory(path)) return source_of_folder(request, options);
  if (!fs::is_regular_file(path)) throw UserError(path.string(), "expected a file or a folder, got a pipe or device");
  const auto format = row_format(path, options);
  if (!format)
    throw UserError(path.string(), "expected a .jsonl, .json, .parquet, .arrow or .csv file, got extension '" +
                                       path.extension().string() + "'");
  // As in Oumi, a file that is named is read, whatever split a recipe asked the Hub's dataset for.
  return {{path}, *format};
}

std::unique_ptr<RowReader> open_rows(const RowSource& source) {
  switch (source.format) {
    case RowFormat::kJsonl: return std::make_unique<LineReader>(source.files, /*documents=*/false);
    case RowFormat::kTextLines: return std::make_unique<LineReader>(source.files, /*documents=*/true);
    case RowFormat::kJson: return std::make_unique<WholeFileReader>(source.files, /*is_json=*/true);
    case RowFormat::kTextFile: return std::make_unique<WholeFileReader>(source.files, /*is_json=*/false);
    case RowFormat::kCsv: return std::make_unique<ArrowRowReader>(source.files, TabularFormat::kCsv);
    case RowFormat::kParquet: return std::make_unique<ArrowRowReader>(source.files, TabularFormat::kParquet);
    case RowFormat::kArrow: return std::make_unique<ArrowRowReader>(source.files, TabularFormat::kArrow);
  }
  throw InternalError("unknown row format");
}

std::string files_fingerprint(const std::vector<fs::path>& files) {
  std::string parts;
  for (const fs::path& file : files) {
    struct stat status{};
    if (stat(file.c_str(), &status) != 0) throw_file_error(file, "cannot be read");
    parts +=
        cat(fs::absolute(file).string(), '|', status.st_size, '|', status.st_mtim.tv_sec, '.', status.st_mtim.tv_nsec, '\n');
  }
  return hash_bytes(parts.data(), parts.size());
}

}  // namespace oumi
