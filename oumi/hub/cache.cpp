#include "oumi/hub/cache.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;

bool is_commit_hash(const std::string& revision) {
  return revision.size() == 40 &&
         std::all_of(revision.begin(), revision.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

HubCache::HubCache(const fs::path& cache, const std::string& repository)
    : cache_(cache), folder_("models--" + join(split(repository, '/'), "--")) {
  root_ = cache_ / folder_;
}

fs::path HubCache::lock_file(const std::string& etag) const { return cache_ / ".locks" / folder_ / (etag + ".lock"); }

std::optional<std::string> HubCache::commit_of(const std::string& revision) const {
  if (is_commit_hash(revision)) return revision;
  const fs::path ref = root_ / "refs" / revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored)) return std::nullopt;
  std::string commit = trim(read_text_file(ref));
  if (!is_commit_hash(commit))
    throw UserError(ref.string(),
                    "expected the 40 hex digits of a commit, got " + std::to_string(commit.size()) + " other characters",
                    "delete the file");
  return commit;
}

void HubCache::write_ref(const std::string& revision, const std::string& commit) const {
  if (is_commit_hash(revision) || commit_of(revision) == commit) return;
  const fs::path ref = root_ / "refs" / revision;
  make_directories(ref.parent_path());
  write_file_atomically(ref, commit);
}

void HubCache::link(const std::string& commit, const std::string& name, const std::string& etag) const {
  const fs::path path = snapshot(commit) / name;
  make_directories(path.parent_path());
  const fs::path target = fs::relative(blob(etag), path.parent_path());
  std::error_code error;
  if (fs::read_symlink(path, error) == target) return;
  const fs::path temporary = path.string() + cat(".tmp-", ::getpid());
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (error) {  // a file system without links
    error.clear();
    fs::copy_file(blob(etag), temporary, error);
  }
  if (!error) fs::rename(temporary, path, error);
  if (error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw EnvironmentError(path.string(), "cannot be written: " + error.message(),
                           "check the cache folder, or set HF_HOME to another one");
  }
}

bool HubCache::is_complete(const std::string& commit, HubFiles files) const {
  const fs::path folder = snapshot(commit);
  const auto has = [&](const std::string& name) {
    std::error_code ignored;
    return fs::is_regular_file(folder / name, ignored);  // false for a link whose blob is gone
  };
  const bool tokenizer =
      has("tokenizer.json") || has("vocab.json") || has("vocab.txt") || has("tokenizer.model") || has("tokenizer_config.json");
  if (files == HubFiles::kTokenizer) return tokenizer;
  const bool config = has("config.json");
  if (files == HubFiles::kConfig) return config;
  if (has("adapter_config.json") && (has("adapter_model.safetensors") || has("adapter_model.bin"))) return true;
  if (!config) return false;
  if (has("model.safetensors")) return true;
  for (const char* index : {"model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
    if (!has(index)) continue;
    const std::vector<std::string> shards = shards_of_index(read_text_file(folder / index), (folder / index).string());
    if (std::all_of(shards.begin(), shards.end(), has)) return true;
  }
  return has("pytorch_model.bin");
}

}  // namespace oumi
