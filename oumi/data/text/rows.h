// Rows of text datasets: JSON objects (or documents) out of JSONL, JSON, CSV, Parquet, Arrow and plain text files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/data/registry.h"

namespace oumi {

enum class RowFormat { kJsonl, kJson, kCsv, kParquet, kArrow, kTextLines, kTextFile };

// One row, parsed when asked for: parsing is work for the threads that encode.
class TextRow {
 public:
  TextRow() = default;
  TextRow(std::shared_ptr<const std::string> file, std::int64_t number, const char* unit)
      : file_(std::move(file)), number_(number), unit_(unit) {}

  // "chats.jsonl, line 3"; counted from 1.
  std::string origin() const;
  // The row as a JSON value. Throws UserError naming file and row for text that is no JSON, or no UTF-8.
  Json json() const;
  // A plain document, or the field `column` of a row. Throws UserError when it isn't there or is no text.
  std::string text(const std::string& column) const;

  std::string source;    // JSON text, or a plain document
  Json value = nullptr;  // the row itself where the file isn't text
  bool is_document = false;

 private:
  std::shared_ptr<const std::string> file_;
  std::int64_t number_ = 0;
  const char* unit_ = "row";
};

// Reads files one after the other, in O(1) memory except for .json arrays and whole text files.
class RowReader {
 public:
  virtual ~RowReader() = default;
  // False at the end of the last file.
  virtual bool next(TextRow& row) = 0;
  // Where next() reads, and back there without reading what lies before it in the same file (a .json array is read again).
  virtual Json position() const = 0;
  virtual void seek(const Json& position) = 0;
};

struct RowSource {
  std::vector<std::filesystem::path> files;
  RowFormat format = RowFormat::kJsonl;
};

// The files of `request`: dataset_path is a file, a folder of datasets.save_to_disk, or a folder with files of one kind
// (tabular_files.h). Throws UserError for other files, an empty file, and without dataset_path, which it asks for.
// `plain_text`: .txt, .md and files without a known extension are taken too; dataset_kwargs.document says how they are cut.
struct RowSourceOptions {
  bool plain_text = false;
  bool whole_files = false;  // a plain text file is one document, else each line is one
};
RowSource row_source(const DatasetRequest& request, const RowSourceOptions& options = {});

std::unique_ptr<RowReader> open_rows(const RowSource& source);

// Path, size and time of change of every file: what a cache of encoded rows is keyed by.
std::string files_fingerprint(const std::vector<std::filesystem::path>& files);

}  // namespace oumi
