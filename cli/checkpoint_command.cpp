#include "cli/checkpoint_command.h"

#include <iostream>

#include "cli/checkpoint_hf.h"
#include "cli/model_files.h"
#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/convert.h"
#include "oumi/checkpoint/manifest.h"

namespace oumi::cli {
namespace fs = std::filesystem;

namespace {

constexpr const char* kVerifyUsage = "oumi-cpp checkpoint verify PATH [--json]";
constexpr const char* kConvertUsage =
    "oumi-cpp checkpoint convert PATH --to safetensors|pt|hf [-o OUTPUT] [--max-shard-size 5GB] [--overwrite]";

[[noreturn]] void wrong_usage(const std::string& message, const char* usage) {
  throw UserError("command line", message, usage);
}

// "--name value" and "--name=value".
class Arguments {
 public:
  Arguments(const std::vector<std::string>& arguments, const char* usage) : arguments_(arguments), usage_(usage) {}

  bool next() {
    if (index_ >= arguments_.size()) return false;
    word_ = arguments_[index_++];
    const auto equals = word_.starts_with("--") ? word_.find('=') : std::string::npos;
    has_value_ = equals != std::string::npos;
    if (has_value_) {
      value_ = word_.substr(equals + 1);
      word_.resize(equals);
    }
    return true;
  }
  const std::string& word() const { return word_; }
  std::string value() {
    if (has_value_) return value_;
    if (index_ >= arguments_.size()) wrong_usage(word_ + ": expected a value, got none", usage_);
    return arguments_[index_++];
  }

 private:
  const std::vector<std::string>& arguments_;
  const char* usage_;
  std::size_t index_ = 0;
  std::string word_, value_;
  bool has_value_ = false;
};

Json to_json(const fs::path& checkpoint, const VerifyReport& report) {
  Json problems = Json::array();
  for (const auto& problem : report.problems) problems.push_back({{"file", problem.file}, {"message", problem.message}});
  return {{"checkpoint", checkpoint.string()},
          {"ok", report.ok()},
          {"step", report.manifest.step},
          {"files", report.manifest.files.size()},
          {"problems", problems}};
}

void print(const fs::path& checkpoint, const VerifyReport& report) {
  std::cout << checkpoint.string() << '\n';
  std::map<std::string, std::string> bad;
  for (const auto& problem : report.problems) bad[problem.file] = problem.message;
  for (const auto& [name, digest] : report.manifest.files) {
    if (!bad.contains(name)) std::cout << "  OK   " << name << "  " << format_bytes(digest.size) << '\n';
  }
  for (const auto& [name, message] : bad) std::cout << "  BAD  " << name << ": " << message << '\n';
}

// The files of a folder that is no checkpoint; true when all are well.
bool verify_model_files(const fs::path& folder, bool json, Json& report) {
  const std::vector<FileReport> files = check_model_files(folder);
  Json problems = Json::array();
  if (!json) std::cout << folder.string() << '\n';
  for (const FileReport& file : files) {
    if (!file.problem.empty()) problems.push_back({{"file", file.file}, {"message", file.problem}});
    if (json) continue;
    if (file.problem.empty())
      std::cout << "  OK   " << file.file << "  " << format_bytes(file.size) << "  (by " << file.by << ")\n";
    else
      std::cout << "  BAD  " << file.file << ": " << file.problem << '\n';
  }
  const bool ok = problems.empty();
  report = {{"folder", folder.string()}, {"ok", ok}, {"files", files.size()}, {"problems", problems}};
  return ok;
}

int verify(const std::vector<std::string>& words) {
  std::string path;
  bool json = false;
  Arguments arguments(words, kVerifyUsage);
  while (arguments.next()) {
    if (arguments.word() == "--json")
      json = true;
    else if (arguments.word().starts_with("-") || !path.empty())
      wrong_usage("checkpoint verify: unexpected argument '" + arguments.word() + "'", kVerifyUsage);
    else
      path = arguments.word();
  }
  if (path.empty()) wrong_usage("checkpoint verify: expected a folder, got none", kVerifyUsage);
  if (!fs::is_directory(path))
    throw UserError(path, fs::exists(path) ? "expected a folder, got a file" : "the folder does not exist", "check the path");

  std::vector<fs::path> checkpoints;
  if (!fs::exists(fs::path(path) / kManifestName)) {
    for (const auto& folder : list_checkpoints(path)) checkpoints.push_back(folder.path);
  }
  bool all_ok = true;
  Json reports = Json::array(), model;
  if (!fs::exists(fs::path(path) / kManifestName) && has_model_files(path))
    all_ok = verify_model_files(path, json, model);
  else if (checkpoints.empty())
    checkpoints.emplace_back(path);
  for (const fs::path& checkpoint : checkpoints) {
    const VerifyReport report = verify_checkpoint(checkpoint);
    all_ok = all_ok && report.ok();
    if (json)
      reports.push_back(to_json(checkpoint, report));
    else
      print(checkpoint, report);
  }
  if (json)
    std::cout << Json{{"ok", all_ok}, {"checkpoints", reports}, {"model", model}}.dump(-1, ' ', false,
                                                                                       Json::error_handler_t::replace)
              << '\n';
  return static_cast<int>(all_ok ? ExitCode::kDone : ExitCode::kUser);
}

int convert(const std::vector<std::string>& words) {
  std::string path, to;
  ConvertOptions options;
  Arguments arguments(words, kConvertUsage);
  while (arguments.next()) {
    const std::string& word = arguments.word();
    if (word == "--to")
      to = to_lower(arguments.value());
    else if (word == "-o" || word == "--output")
      options.output = arguments.value();
    else if (word == "--max-shard-size")
      options.shards.max_shard_size = parse_shard_size(arguments.value());
    else if (word == "--overwrite")
      options.overwrite = true;
    else if (word.starts_with("-") || !path.empty())
      wrong_usage("checkpoint convert: unexpected argument '" + word + "'", kConvertUsage);
    else
      path = word;
  }
  if (path.empty()) wrong_usage("checkpoint convert: expected a path, got none", kConvertUsage);
  std::vector<fs::path> written;
  if (to == "hf") {
    written = write_hf_optimizer(path, options.output.empty() ? fs::path(path) : options.output);
  } else if (to == "safetensors" || to == "pt") {
    options.to = to == "pt" ? WeightFormat::kTorch : WeightFormat::kSafetensors;
    written = convert_weights(path, options);
  } else {
    wrong_usage("--to: expected safetensors, pt or hf, got " + (to.empty() ? "none" : "'" + to + "'"), kConvertUsage);
  }
  for (const fs::path& file : written) std::cout << file.string() << '\n';
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

int checkpoint_command(const std::string& subverb, const std::vector<std::string>& arguments) {
  if (subverb == "verify") return verify(arguments);
  if (subverb == "convert") return convert(arguments);
  throw UserError("command line", "checkpoint: expected verify or convert, got '" + subverb + "'",
                  "oumi-cpp checkpoint --help");
}

}  // namespace oumi::cli
