#include "oumi/data/formats/tabular_files.h"

#include <algorithm>

#include "oumi/base/json.h"
#include "oumi/data/split.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

// "train-00000-of-00002.parquet" -> "train", when that is how splits are called.
std::string split_of_name(const std::string& name) { return canonical_split(name.substr(0, name.find_first_of("-_. "))); }

bool is_split_name(const std::string& canonical) {
  return canonical == "train" || canonical == "validation" || canonical == "test";
}

std::vector<fs::path> files_below(const fs::path& folder, TabularFormat format) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    // datasets leaves its own caches beside the data.
    if (entry.is_regular_file() && name.front() != '.' && !name.starts_with("cache-") && format_of(entry.path()) == format)
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The files that datasets.save_to_disk lists in state.json; its order is the samples' order.
std::vector<fs::path> saved_files(const fs::path& folder) {
  const Json state = read_json_file(folder / "state.json");
  std::vector<fs::path> files;
  try {
    for (const Json& entry : state.at("_data_files")) files.push_back(folder / entry.at("filename").get<std::string>());
  } catch (const Json::exception&) {
    throw UserError((folder / "state.json").string(),
                    "expected _data_files: [{filename: ...}], as datasets.save_to_disk writes it");
  }
  for (const fs::path& file : files) {
    if (!fs::is_regular_file(file)) throw UserError(file.string(), "no such file, though state.json lists it");
  }
  return files;
}

[[noreturn]] void throw_no_split(const DatasetRequest& request, const fs::path& folder, const std::vector<std::string>& known) {
  throw UserError(request.key + ".split", "nothing for split '" + request.split + "' in " + folder.string(),
                  known.empty() ? "" : "there are: " + join(known, ", "));
}

}  // namespace

const char* format_name(TabularFormat format) {
  switch (format) {
    case TabularFormat::kCsv: return "csv";
    case TabularFormat::kJsonl: return "jsonl";
    case TabularFormat::kParquet: return "parquet";
    case TabularFormat::kArrow: return "arrow";
  }
  return "?";
}

std::optional<TabularFormat> format_of(const fs::path& file) {
  const std::string suffix = to_lower(file.extension().string());
  if (suffix == ".csv" || suffix == ".tsv") return TabularFormat::kCsv;
  if (suffix == ".jsonl" || suffix == ".ndjson" || suffix == ".json") return TabularFormat::kJsonl;
  if (suffix == ".parquet") return TabularFormat::kParquet;
  if (suffix == ".arrow" || suffix == ".feather" || suffix == ".ipc") return TabularFormat::kArrow;
  return std::nullopt;
}

std::vector<fs::path> split_files(const DatasetRequest& request, TabularFormat format) {
  const fs::path& root = request.require_path();
  const std::string wanted = canonical_split(request.split);
  if (!fs::is_directory(root)) {
    if (wanted != "train" && split_of_name(root.filename().string()) != wanted) {
      throw UserError(request.key + ".split", "asked for '" + request.split + "' of the single file " + root.string(),
                      "leave split at train: a single file is one split");
    }
    return {root};
  }
  if (format == TabularFormat::kArrow) {
    if (fs::exists(root / "state.json")) {
      if (wanted != "train") throw_no_split(request, root, {"train"});
      return saved_files(root);
    }
    if (fs::exists(root / "dataset_dict.json")) {
      std::vector<std::string> known;
      for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
        if (!fs::exists(entry.path() / "state.json")) continue;
        const std::string name = entry.path().filename().string();
        if (name == request.split || canonical_split(name) == wanted) return saved_files(entry.path());
        known.push_back(name);
      }
      throw_no_split(request, root, known);
    }
  }
  std::vector<fs::path> chosen;
  std::vector<std::string> names;
  bool has_splits = false;
  const std::vector<fs::path> files = files_below(root, format);
  for (const fs::path& file : files) {
    const fs::path relative = file.lexically_relative(root);
    const std::string split = split_of_name(relative.begin()->string());
    if (split == wanted) chosen.push_back(file);
    has_splits = has_splits || is_split_name(split);
    if (names.size() < 20) names.push_back(relative.string());
  }
  if (!chosen.empty()) return chosen;
  if (files.empty())
    throw UserError(root.string(), cat("expected ", format_name(format), " files, got none"),
                    "check dataset_path and dataset_name");
  if (has_splits || wanted != "train") throw_no_split(request, root, names);
  return files;
}

std::vector<std::string> hugging_face_class_names(const fs::path& file, const std::string& column) {
  const fs::path info = file.parent_path() / "dataset_info.json";
  if (!fs::exists(info)) return {};
  const Json json = read_json_file(info);
  try {
    const Json& feature = json.at("features").at(column);
    if (feature.value("_type", "") == "ClassLabel") return feature.at("names").get<std::vector<std::string>>();
  } catch (const Json::exception&) {
    // Describes no such column: labels are plain numbers.
  }
  return {};
}

}  // namespace oumi
