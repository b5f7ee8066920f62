#include "oumi/data/formats/text_blocks.h"

#include <arrow/buffer.h>
#include <arrow/csv/api.h>
#include <arrow/io/memory.h>
#include <arrow/json/api.h>
#include <arrow/table.h>

#include <fstream>
#include <limits>

#include "oumi/data/formats/arrow_status.h"

namespace oumi {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class TextReader : public TabularReader {
 public:
  TextReader(const std::filesystem::path& path, TabularFormat format, TabularReadOptions options)
      : origin_(path.string()),
        format_(format),
        options_(std::move(options)),
        file_(path, std::ios::binary),
        size_(static_cast<std::int64_t>(std::filesystem::file_size(path))) {
    if (!file_) throw UserError(origin_, "cannot be opened");
    if (options_.block_size < 1) throw UserError(origin_, cat("block_size: expected at least 1, got ", options_.block_size));
  }

  std::shared_ptr<arrow::Table> next() override {
    while (offset_ < size_) {
      const std::int64_t start = offset_;
      const std::string text = read_block();
      auto table = parse(text, start);
      if (table != nullptr && table->num_rows() > 0) return table;
    }
    return nullptr;
  }
  std::int64_t unit() const override { return offset_; }
  void seek(std::int64_t unit) override {
    // Later blocks of a CSV file need the names from its first line.
    if (unit > 0 && format_ == TabularFormat::kCsv && names_.empty()) {
      offset_ = 0;
      next();
    }
    offset_ = unit;
  }

 private:
  // From offset_ to the end of a record.
  std::string read_block() {
    std::string text;
    for (std::int64_t wanted = options_.block_size;; wanted *= 2) {
      wanted = std::min(wanted, size_ - offset_);
      const auto had = static_cast<std::int64_t>(text.size());
      text.resize(static_cast<std::size_t>(wanted));
      file_.clear();
      file_.seekg(offset_ + had);
      file_.read(text.data() + had, wanted - had);
      if (file_.gcount() != wanted - had) throw EnvironmentError(origin_, cat("read error at byte ", offset_ + had));
      if (wanted == size_ - offset_) break;
      if (const std::size_t complete = complete_records(text, format_); complete > 0) {
        text.resize(complete);
        break;
      }
    }
    offset_ += static_cast<std::int64_t>(text.size());
    return text;
  }

  std::shared_ptr<arrow::Table> parse(std::string_view text, std::int64_t start) {
    const std::string where = cat(origin_, ": block at byte ", start);
    if (start == 0 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return nullptr;
    // Arrow 26 crashes on a first value of null.
    if (format_ != TabularFormat::kCsv && text[first] != '{') {
      throw UserError(where, cat("expected one JSON object per line, got '", text.substr(first, 20), "'"));
    }
    if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()) / 2) {
      throw UserError(where, cat("expected records of less than 1 GiB, got ", text.size(), " bytes without a record's end"));
    }
    const auto input = std::make_shared<arrow::io::BufferReader>(arrow::Buffer::FromString(std::string(text)));
    return format_ == TabularFormat::kCsv ? parse_csv(input, text.size(), where) : parse_json(input, text.size(), where);
  }

  std::shared_ptr<arrow::Table> parse_csv(const std::shared_ptr<arrow::io::InputStream>& input, std::size_t size,
                                          const std::string& where) {
    auto read = arrow::csv::ReadOptions::Defaults();
    read.use_threads = false;
    read.block_size = static_cast<std::int32_t>(size) + 1;
    read.column_names = names_.empty() ? options_.column_names : names_;
    auto parse = arrow::csv::ParseOptions::Defaults();
    parse.delimiter = options_.delimiter;
    parse.newlines_in_values = true;
    auto convert = arrow::csv::ConvertOptions::Defaults();
    // Names that are not there are reported by the caller, with the nearest.
    const auto reader =
        check_arrow(arrow::csv::TableReader::Make(arrow::io::default_io_context(), input, read, parse, convert), where);
    auto table =
        check_arrow(reader->Read(), where, "check the row's delimiters and quotes; row numbers count from this block's start");
    if (names_.empty()) names_ = table->ColumnNames();
    return table;
  }

  std::shared_ptr<arrow::Table> parse_json(const std::shared_ptr<arrow::io::InputStream>& input, std::size_t size,
                                           const std::string& where) {
    auto read = arrow::json::ReadOptions::Defaults();
    read.use_threads = false;
    read.block_size = static_cast<std::int32_t>(size) + 1;
    const auto reader = check_arrow(
        arrow::json::TableReader::Make(arrow::default_memory_pool(), input, read, arrow::json::ParseOptions::Defaults()),
        where);
    return check_arrow(reader->Read(), where, "expected one JSON object per line; row numbers count from this block's start");
  }

  std::string origin_;
  TabularFormat format_;
  TabularReadOptions options_;
  std::ifstream file_;
  std::int64_t size_, offset_ = 0;
  std::vector<std::string> names_;
};

}  // namespace

std::size_t complete_records(std::string_view text, TabularFormat format) {
  if (format != TabularFormat::kCsv) {
    const auto last = text.rfind('\n');
    return last == std::string_view::npos ? 0 : last + 1;
  }
  // An escaped quote is two quotes, so a count of quotes tells inside from outside.
  std::size_t complete = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"')
      quoted = !quoted;
    else if (text[i] == '\n' && !quoted)
      complete = i + 1;
  }
  return complete;
}

std::unique_ptr<TabularReader> open_text(const std::filesystem::path& path, TabularFormat format,
                                         const TabularReadOptions& options) {
  return std::make_unique<TextReader>(path, format, options);
}

}  // namespace oumi
