#include "oumi/text/training_text.h"

#include <fstream>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi::text {
namespace fs = std::filesystem;

namespace {

void append_strings(const Json& value, std::ostream& out) {
  if (value.is_string()) {
    out << value.get_ref<const std::string&>() << '\n';
  } else if (value.is_array()) {
    for (const Json& item : value) append_strings(item, out);
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      if (key != "role" && key != "type" && key != "id" && !key.ends_with("_id")) append_strings(item, out);
    }
  }
}

void extract(const fs::path& path, const fs::path& target) {
  std::ofstream out(target, std::ios::binary);
  if (path.extension() == ".json") {
    append_strings(read_json_file(path), out);
  } else {
    std::ifstream in(path, std::ios::binary);
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
      if (trim(line).empty()) continue;
      append_strings(parse_json(line, cat(path.string(), " line ", number)), out);
    }
  }
  out.close();
  if (!out) throw_file_error(target, "cannot be written");
}

}  // namespace

std::vector<std::string> training_files(const std::vector<fs::path>& files, const fs::path& scratch) {
  if (files.empty()) throw UserError("--files", "expected at least one text file, got none");
  std::vector<std::string> result;
  for (const fs::path& path : files) {
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) {
      throw UserError(path.string(),
                      fs::is_directory(path, ignored) ? "expected a text file, got a folder"
                                                      : "expected a text file, got a path that does not exist",
                      "name the files one by one");
    }
    if (std::ifstream probe(path); !probe) throw_file_error(path, "cannot be read");
    if (path.extension() != ".json" && path.extension() != ".jsonl") {
      result.push_back(path.string());
      continue;
    }
    const fs::path target = scratch / cat(result.size(), ".txt");
    extract(path, target);
    result.push_back(target.string());
  }
  return result;
}

}  // namespace oumi::text
