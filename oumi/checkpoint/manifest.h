// manifest.json: what a complete checkpoint consists of. Written last, so a folder with a manifest that verifies is whole.
//   {"format": "oumi-checkpoint", "version": 1, "step": 500, "files": {"model.safetensors": {"size": 123, "xxh3_128": "..."}},
//    "manifest_xxh3_128": "..."}
// Equal files give an equal manifest: no time and no run id in it. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "oumi/checkpoint/output_file.h"

namespace oumi {

inline constexpr const char* kManifestName = "manifest.json";

struct Manifest {
  std::int64_t step = 0;
  std::map<std::string, FileDigest> files;  // by path relative to the folder, with '/'
};

std::string to_json_text(const Manifest& manifest);

// Throws UserError for anything that to_json_text would not have written, a single changed byte included.
Manifest parse_manifest(const std::string& text, const std::string& origin);
Manifest read_manifest(const std::filesystem::path& checkpoint);

// N of a path whose last part is "checkpoint-N".
std::optional<std::int64_t> checkpoint_step(const std::filesystem::path& path);

struct CheckpointFolder {
  std::int64_t step = 0;
  std::filesystem::path path;
};

// The folders output_dir/checkpoint-N by ascending N, complete or not. Empty when there is no output_dir.
std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& output_dir);

// One thing wrong with a checkpoint. `message` reads "expected 123 bytes, got 100", or names both hashes.
struct CheckpointProblem {
  std::string file;  // relative to the checkpoint
  std::string message;
};

struct VerifyReport {
  Manifest manifest;                        // empty when it could not be read
  std::vector<CheckpointProblem> problems;  // none: the checkpoint is whole

  bool ok() const noexcept { return problems.empty(); }
  std::string summary() const;  // "model.safetensors: expected ..., got ...; ..."
};

// Compares every file with the manifest: presence, size, hash. Files that the manifest does not list are nobody's problem.
// Reads all of the checkpoint, at disk speed. `hashes` false compares presence and sizes alone. Throws nothing of its own.
struct VerifyOptions {
  bool hashes = true;
};
VerifyReport verify_checkpoint(const std::filesystem::path& checkpoint, const VerifyOptions& options = {});

}  // namespace oumi
