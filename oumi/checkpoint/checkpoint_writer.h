// Writing a checkpoint so that it is whole or absent, whatever happens meanwhile:
//   1. files go to checkpoint-N.tmp-<id>, each fsynced;  2. manifest.json with size and hash of each;  3. fsync of the folder;
//   4. rename to checkpoint-N;  5. fsync of the parent;  6. only then may older checkpoints go (rotation.h).
// A kill, a full disk or a power cut at any moment leaves every older checkpoint as it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/checkpoint/safetensors.h"

namespace oumi {

// Adds files to a checkpoint's folder and remembers their digests. Names are relative to the folder and may have folders of
// their own. Errors name the file: EnvironmentError when the disk refuses, UserError for what cannot be stored.
//
// Ranks other than the one that commits use this class on the folder that the committing rank made and told them of; that rank
// hashes what they wrote, so all of them must be done before it commits.
class CheckpointFiles {
 public:
  explicit CheckpointFiles(std::filesystem::path directory) : directory_(std::move(directory)) {}

  const std::filesystem::path& directory() const noexcept { return directory_; }

  void add_state(const std::string& name, const StateDict& state, const SafetensorsMetadata& metadata = {{"format", "pt"}});
  // model.safetensors, or shards with their index.
  void add_weights(const StateDict& state, const ShardOptions& options = {});
  void add_json(const std::string& name, const Json& value);  // indent 2, doubles unrounded
  void add_text(const std::string& name, const std::string& text);

 protected:
  std::filesystem::path prepare(const std::string& name) const;

  std::filesystem::path directory_;
  std::map<std::string, FileDigest> digests_;
};

class CheckpointWriter : public CheckpointFiles {
 public:
  // Creates output_dir and the temporary folder in it.
  CheckpointWriter(const std::filesystem::path& output_dir, std::int64_t step);
  // Removes the temporary folder when commit() was not reached.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Steps 2 to 5, for all files in the folder: those that something else put there (directory()) are fsynced and hashed now.
  // A checkpoint-N that exists is exchanged in one step, so that there is always a whole one. Returns checkpoint-N.
  std::filesystem::path commit();

  std::int64_t step() const noexcept { return step_; }
  std::filesystem::path final_path() const;

 private:
  void finish_files();

  std::filesystem::path output_dir_;
  std::int64_t step_;
  int reserve_ = -1;  // a descriptor to remove the folder with when there are no others left
  bool done_ = false;
};

// Removes what dead runs left in output_dir: temporary folders of saves and deletions. A checkpoint that was moved aside to be
// replaced, and whose replacement never came, gets its name back. Call only while holding the run's lock: a folder of a run
// that is alive looks the same. Returns the names that were dealt with. Throws EnvironmentError.
std::vector<std::string> clean_stale_checkpoints(const std::filesystem::path& output_dir);

// Removes files of `folder` (not of folders in it) that a killed run had not finished writing: they can be as large as the
// weights. Under the run's lock too. Returns their names; what cannot be removed stays.
std::vector<std::string> clean_stale_files(const std::filesystem::path& folder);

}  // namespace oumi
