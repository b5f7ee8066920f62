// The cache folder that huggingface_hub shares: models--ORG--NAME/{blobs,refs,snapshots}. A blob is a file's bytes under its
// etag; snapshots/COMMIT/NAME is a link to a blob; refs/REVISION holds the commit that a branch or tag pointed to.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "oumi/hub/repository_files.h"

namespace oumi {

class HubCache {
 public:
  // `repository` is "org/name" or "name".
  HubCache(const std::filesystem::path& cache, const std::string& repository);

  std::filesystem::path blob(const std::string& etag) const { return root_ / "blobs" / etag; }
  std::filesystem::path snapshot(const std::string& commit) const { return root_ / "snapshots" / commit; }
  // Held (flock) by whoever downloads the blob.
  std::filesystem::path lock_file(const std::string& etag) const;

  // The commit of a branch, tag or commit, as far as the cache knows.
  std::optional<std::string> commit_of(const std::string& revision) const;
  void write_ref(const std::string& revision, const std::string& commit) const;

  // Makes snapshots/COMMIT/NAME show the blob: a relative link, or a copy where links are not to be had.
  void link(const std::string& commit, const std::string& name, const std::string& etag) const;

  // True when every file that a run needs is in the snapshot, as far as the snapshot itself can tell.
  bool is_complete(const std::string& commit, HubFiles files) const;

 private:
  std::filesystem::path cache_, root_;
  std::string folder_;
};

// 40 hex digits.
bool is_commit_hash(const std::string& revision);

}  // namespace oumi
