#include "oumi/checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <regex>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/atomic_directory.h"

namespace oumi {
namespace fs = std::filesystem;

fs::path CheckpointFiles::prepare(const std::string& name) const {
  const fs::path relative(name);
  const bool inside = !name.empty() && name != kManifestName && !relative.is_absolute() &&
                      relative == relative.lexically_normal() && relative.has_filename() && *relative.begin() != "..";
  if (!inside) throw InternalError("checkpoint: '" + name + "' is no name of a file in it");
  if (relative.has_parent_path()) make_directories(directory_ / relative.parent_path());
  return directory_ / relative;
}

void CheckpointFiles::add_state(const std::string& name, const StateDict& state, const SafetensorsMetadata& metadata) {
  digests_[name] = save_safetensors(prepare(name), state, {.metadata = metadata});
}

void CheckpointFiles::add_weights(const StateDict& state, const ShardOptions& options) {
  for (auto& [name, digest] : save_sharded_safetensors(directory_, state, options).files) digests_[name] = std::move(digest);
}

void CheckpointFiles::add_json(const std::string& name, const Json& value) {
  std::string text;
  try {
    text = value.dump(2) + "\n";
  } catch (const Json::exception&) {
    throw UserError(name, "expected text in UTF-8, got other bytes");
  }
  add_text(name, text);
}

void CheckpointFiles::add_text(const std::string& name, const std::string& text) {
  digests_[name] = write_output_file(prepare(name), text);
}

CheckpointWriter::CheckpointWriter(const fs::path& output_dir, std::int64_t step)
    : CheckpointFiles(sibling_folder(output_dir / cat("checkpoint-", step), FolderState::kWriting)),
      output_dir_(output_dir),
      step_(step) {
  if (step < 0) throw InternalError(cat("checkpoint: expected a step >= 0, got ", step));
  make_directories(output_dir);
  if (::mkdir(directory_.c_str(), 0755) != 0) throw_file_error(directory_, "cannot be created as a folder");
  reserve_ = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (reserve_ >= 0) return;
  const int error = errno;
  ::rmdir(directory_.c_str());
  errno = error;
  throw_file_error(directory_, "cannot be opened");
}

CheckpointWriter::~CheckpointWriter() {
  ::close(reserve_);
  if (done_) return;
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

fs::path CheckpointWriter::final_path() const { return output_dir_ / cat("checkpoint-", step_); }

void CheckpointWriter::finish_files() {
  Manifest manifest;
  manifest.step = step_;
  std::vector<fs::path> folders;
  std::error_code error;
  fs::recursive_directory_iterator entry(directory_, error);
  for (const fs::recursive_directory_iterator end; !error && entry != end; entry.increment(error)) {
    if (entry->is_directory()) {
      folders.push_back(entry->path());
      continue;
    }
    const std::string name = entry->path().lexically_relative(directory_).generic_string();
    if (const auto known = digests_.find(name); known != digests_.end() && entry->file_size() == known->second.size) {
      manifest.files[name] = known->second;
    } else {
      fsync_path(entry->path());
      manifest.files[name] = digest_file(entry->path());
    }
  }
  if (error) {
    errno = error.value();
    throw_file_error(directory_, "cannot be listed");
  }
  for (const auto& [name, digest] : digests_) {
    if (!manifest.files.contains(name))
      throw EnvironmentError((directory_ / name).string(), "vanished before the checkpoint was complete",
                             "does another process clean this folder?");
  }
  write_output_file(directory_ / kManifestName, to_json_text(manifest));  // fsyncs directory_ too
  for (const fs::path& folder : folders) fsync_path(folder);
}

fs::path CheckpointWriter::commit() {
  if (done_) throw InternalError("checkpoint: committed twice");
  finish_files();
  const fs::path path = final_path();
  publish_directory(directory_, path);
  done_ = true;
  return path;
}

std::vector<std::string> clean_stale_files(const fs::path& folder) {
  // The names that OutputFile and write_file_atomically give to what they have not finished.
  static const std::regex unfinished(".+\\.(safetensors|json|jsonl|yaml|txt|jinja|model|pt)\\.tmp-[0-9]+(-[0-9]+)?");
  std::vector<std::string> removed;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code failure;
    if (!std::regex_match(name, unfinished) || !fs::is_regular_file(fs::symlink_status(entry->path(), failure))) continue;
    if (fs::remove(entry->path(), failure)) removed.push_back(name);
  }
  std::sort(removed.begin(), removed.end());
  return removed;
}

std::vector<std::string> clean_stale_checkpoints(const fs::path& output_dir) {
  std::vector<fs::path> stale;
  std::error_code error;
  for (fs::directory_iterator entry(output_dir, error), end; !error && entry != end; entry.increment(error))
    stale.push_back(entry->path());
  std::sort(stale.begin(), stale.end());
  std::vector<std::string> dealt_with;
  for (const fs::path& path : stale) {
    FolderState state{};
    fs::path original;
    if (!fs::is_directory(fs::symlink_status(path)) || !parse_sibling_folder(path, state, original)) continue;
    if (state == FolderState::kReplaced && !fs::exists(original)) {
      publish_directory(path, original);
    } else {
      std::error_code failure;
      fs::remove_all(path, failure);
      if (failure) {
        errno = failure.value();
        throw_file_error(path, "is of a run that has ended and cannot be removed");
      }
    }
    dealt_with.push_back(path.filename().string());
  }
  return dealt_with;
}

}  // namespace oumi
