#include "oumi/checkpoint/atomic_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <random>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/manifest.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr std::array<std::pair<FolderState, const char*>, 3> kMarks{
    {{FolderState::kWriting, ".tmp-"}, {FolderState::kReplaced, ".old-"}, {FolderState::kDeleting, ".gone-"}}};

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

void rename_or_throw(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_file_error(from, "cannot be renamed to " + to.filename().string());
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) {
    errno = error.value();
    throw_file_error(path, "cannot be removed");
  }
}

// For what nobody needs any more: what cannot be removed now, clean_stale_checkpoints removes later.
void remove_left_over(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

fs::path sibling_folder(const fs::path& path, FolderState state) {
  static std::atomic<unsigned> counter{0};
  std::random_device random;
  char id[64];
  std::snprintf(id, sizeof id, "%ld-%u-%08x", static_cast<long>(::getpid()), counter++, static_cast<unsigned>(random()));
  for (const auto& [known, mark] : kMarks) {
    if (known == state) return path.string() + mark + id;
  }
  throw InternalError("sibling_folder: unknown state");
}

bool parse_sibling_folder(const fs::path& path, FolderState& state, fs::path& original) {
  const std::string name = path.filename().string();
  for (const auto& [known, mark] : kMarks) {
    const auto at = name.find(mark);
    if (at == std::string::npos) continue;
    const fs::path owner = parent_of(path) / name.substr(0, at);
    if (!checkpoint_step(owner)) continue;
    state = known;
    original = owner;
    return true;
  }
  return false;
}

void publish_directory(const fs::path& temporary, const fs::path& path) {
  const fs::path parent = parent_of(path);
  if (!fs::exists(fs::symlink_status(path))) {
    rename_or_throw(temporary, path);
    fsync_path(parent);
    return;
  }
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
    try {
      fsync_path(parent);
    } catch (...) {
      // Unknown to be on the disk: the older one stays what counts.
      ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE);
      throw;
    }
    remove_left_over(temporary);  // now the older one
    return;
  }
  if (errno != ENOSYS && errno != EINVAL && errno != ENOTSUP) throw_file_error(path, "cannot be replaced");
  // Network file systems have no exchange: between the two renames the older one waits under a name that
  // clean_stale_checkpoints turns back.
  const fs::path aside = sibling_folder(path, FolderState::kReplaced);
  rename_or_throw(path, aside);
  try {
    rename_or_throw(temporary, path);
  } catch (...) {
    ::rename(aside.c_str(), path.c_str());
    throw;
  }
  fsync_path(parent);
  remove_left_over(aside);
}

void remove_directory(const fs::path& path) {
  const fs::path aside = sibling_folder(path, FolderState::kDeleting);
  rename_or_throw(path, aside);
  // The name must be gone on the disk too before the first file is: otherwise a power cut could bring back half a folder.
  fsync_path(parent_of(path));
  remove_tree(aside);
}

}  // namespace oumi
