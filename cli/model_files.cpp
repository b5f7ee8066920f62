#include "cli/model_files.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/hub/digest.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/language_models.h"

namespace oumi::cli {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kSha256Digits = 64, kSha1Digits = 40;

// The hash in the name of the blob that a file of the cache's snapshot links to.
std::string blob_hash(const fs::path& file) {
  std::error_code none;
  if (!fs::is_symlink(file, none)) return "";
  const fs::path target = fs::read_symlink(file, none);
  const std::string name = target.filename().string();
  const bool hex = name.find_first_not_of("0123456789abcdef") == std::string::npos;
  const bool known = name.size() == kSha256Digits || name.size() == kSha1Digits;
  return hex && known && target.parent_path().filename() == "blobs" ? name : "";
}

void check_blob(const fs::path& file, const std::string& expected, FileReport& report) {
  const bool sha256 = expected.size() == kSha256Digits;
  report.by = sha256 ? "the cache's SHA-256" : "the cache's SHA-1";
  const std::string hash = sha256 ? sha256_file(file) : git_blob_sha1_file(file);
  if (hash != expected) report.problem = "expected hash " + expected + ", got " + hash;
}

void check_safetensors(const fs::path& path, bool only_weights, FileReport& report) {
  const SafetensorsFile file(path);
  if (file.keeps_hashes()) {
    report.by = "its own hashes";
    file.check_hashes();
  } else if (only_weights) {
    report.by = "its header and its values: it keeps no hashes";
    file.check_values();
  } else {
    report.by = "its header: it keeps no hashes";
  }
}

void check_index(const fs::path& path, FileReport& report) {
  report.by = "the shards that are there";
  const Json index = read_json_file(path);
  for (const auto& [name, shard] : index.at("weight_map").items()) {
    if (fs::exists(path.parent_path() / shard.get<std::string>())) continue;
    report.problem = "lists " + shard.get<std::string>() + ", which is missing";
    return;
  }
}

FileReport check_file(const fs::path& path, bool only_weights) {
  FileReport report{.file = path.filename().string()};
  try {
    report.size = fs::file_size(path);
    if (const std::string hash = blob_hash(path); !hash.empty()) {
      check_blob(path, hash, report);
    } else if (report.file.ends_with(".safetensors")) {
      check_safetensors(path, only_weights, report);
    } else if (report.file.ends_with(".index.json")) {
      check_index(path, report);
    } else if (report.file.ends_with(".json")) {
      report.by = "JSON's grammar";
      read_json_file(path);
    }
  } catch (const Error& error) {
    report.problem = error.message();
  } catch (const std::exception& error) {
    report.problem = error.what();
  }
  return report;
}

}  // namespace

bool has_model_files(const fs::path& folder) {
  if (checkpoint_step(folder) || fs::exists(folder / "optimizer.safetensors")) return false;
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(), [](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  });
}

std::vector<FileReport> check_model_files(const fs::path& folder) {
  bool only_weights = is_adapter_folder(folder);
  try {
    only_weights = only_weights || is_hf_model(folder);
  } catch (const Error&) {  // config.json is reported below
  }
  std::vector<FileReport> reports;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file() && !entry.is_symlink()) continue;
    FileReport report = check_file(entry.path(), only_weights);
    if (!report.by.empty() || !report.problem.empty()) reports.push_back(std::move(report));
  }
  std::sort(reports.begin(), reports.end(), [](const auto& a, const auto& b) { return a.file < b.file; });
  return reports;
}

}  // namespace oumi::cli
