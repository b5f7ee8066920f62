#include "oumi/checkpoint/manifest.h"

#include <algorithm>
#include <charconv>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr const char* kFormat = "oumi-checkpoint";
constexpr int kVersion = 1;

// A name that stays inside the checkpoint.
bool is_inner_path(const std::string& name) {
  if (name.empty() || name == kManifestName) return false;
  const fs::path path(name);
  if (path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(),
                      [](const fs::path& part) { return part == ".." || part == "." || part.empty(); });
}

}  // namespace

std::string to_json_text(const Manifest& manifest) {
  Json files = Json::object();
  for (const auto& [name, digest] : manifest.files) files[name] = {{"size", digest.size}, {"xxh3_128", digest.xxh3_128}};
  Json json{{"format", kFormat}, {"version", kVersion}, {"step", manifest.step}, {"files", files}};
  const std::string text = json.dump(2);
  json["manifest_xxh3_128"] = hash_bytes(text.data(), text.size());
  return json.dump(2) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  Manifest manifest;
  try {
    if (json.at("format").get<std::string>() != kFormat)
      throw UserError(origin, "not a checkpoint's manifest: expected format " + std::string(kFormat));
    const int version = json.at("version").get<int>();
    if (version != kVersion)
      throw UserError(origin, cat("expected manifest version ", kVersion, ", got ", version),
                      "it was written by another version of this program");
    manifest.step = json.at("step").get<std::int64_t>();
    for (const auto& [name, digest] : json.at("files").items()) {
      if (!is_inner_path(name)) throw UserError(origin, "expected paths inside the checkpoint, got '" + name + "'");
      manifest.files[name] = {digest.at("size").get<std::uint64_t>(), digest.at("xxh3_128").get<std::string>()};
    }
  } catch (const Json::exception&) {
    throw UserError(origin, "not a checkpoint's manifest: keys are missing or of another type");
  }
  // The last line holds the hash of all before it, and there is one spelling only: every changed byte is seen here, and is not
  // blamed on a file that the manifest then seems to contradict.
  if (to_json_text(manifest) != text)
    throw UserError(origin, "was changed after it was written: its own hash does not fit",
                    "the file is damaged; use another checkpoint");
  return manifest;
}

Manifest read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kManifestName;
  return parse_manifest(read_text_file(path), path.string());
}

std::optional<std::int64_t> checkpoint_step(const fs::path& path) {
  const std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
  const std::string prefix = "checkpoint-";
  if (!name.starts_with(prefix) || name.size() == prefix.size()) return std::nullopt;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size();
  if (*begin == '-' || (*begin == '0' && end - begin > 1)) return std::nullopt;
  std::int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

std::vector<CheckpointFolder> list_checkpoints(const fs::path& output_dir) {
  std::vector<CheckpointFolder> found;
  std::error_code error;
  for (fs::directory_iterator entry(output_dir, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_directory(ignored)) continue;
    if (const auto step = checkpoint_step(entry->path())) found.push_back({*step, entry->path()});
  }
  std::sort(found.begin(), found.end(), [](const CheckpointFolder& a, const CheckpointFolder& b) { return a.step < b.step; });
  return found;
}

std::string VerifyReport::summary() const {
  std::vector<std::string> parts;
  for (const auto& problem : problems) parts.push_back(problem.file + ": " + problem.message);
  return join(parts, "; ");
}

VerifyReport verify_checkpoint(const fs::path& checkpoint, const VerifyOptions& options) {
  VerifyReport report;
  const auto add = [&](const std::string& file, const std::string& message) { report.problems.push_back({file, message}); };
  std::error_code error;
  if (!fs::is_directory(checkpoint, error)) {
    add(".", fs::exists(checkpoint, error) ? "expected a folder, got a file" : "the folder does not exist");
    return report;
  }
  if (!fs::exists(checkpoint / kManifestName, error)) {
    add(kManifestName, "is missing: the checkpoint is incomplete, or was written by another program");
    return report;
  }
  try {
    report.manifest = read_manifest(checkpoint);
  } catch (const Error& failure) {
    add(kManifestName, failure.message());
    return report;
  }
  if (const auto step = checkpoint_step(checkpoint); step && *step != report.manifest.step) {
    add(kManifestName, cat("expected step ", *step, " by the folder's name, got ", report.manifest.step));
  }
  for (const auto& [name, expected] : report.manifest.files) {
    const fs::path path = checkpoint / name;
    const auto size = fs::is_regular_file(path, error) ? fs::file_size(path, error) : std::uintmax_t{0};
    if (!fs::is_regular_file(path, error)) {
      add(name, cat("is missing: expected ", expected.size, " bytes"));
    } else if (size != expected.size) {
      add(name, cat("expected ", expected.size, " bytes, got ", size));
    } else if (options.hashes) {
      try {
        const std::string hash = digest_file(path).xxh3_128;
        if (hash != expected.xxh3_128) add(name, "expected xxh3_128 " + expected.xxh3_128 + ", got " + hash);
      } catch (const Error& failure) {
        add(name, failure.message());
      }
    }
  }
  return report;
}

}  // namespace oumi
