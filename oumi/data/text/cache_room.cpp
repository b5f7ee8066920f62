#include "oumi/data/text/cache_room.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <set>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultGigabytes = 100;

int open_lock(const fs::path& path) { return ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644); }

// False when the file that is locked has lost its name to whoever deleted the entry: the next process locks another one.
bool has_its_name(int descriptor, const fs::path& path) {
  struct stat locked{}, named{};
  return ::fstat(descriptor, &locked) == 0 && ::stat(path.c_str(), &named) == 0 && locked.st_ino == named.st_ino &&
         locked.st_dev == named.st_dev;
}

struct CacheEntry {
  std::string key;
  std::uint64_t bytes = 0;
  fs::file_time_type used;
};

std::uint64_t size_or_none(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : size;
}

void remove_entry(const fs::path& folder, const std::string& key) {
  std::error_code ignored;
  // The note first: without it there is no entry.
  for (const char* extension : {".json", ".arrow", ".lock"}) fs::remove(folder / (key + extension), ignored);
}

}  // namespace

CacheLock::CacheLock(const fs::path& path) {
  while (true) {
    descriptor_ = open_lock(path);
    if (descriptor_ < 0) throw_file_error(path, "cannot be created");
    int result = 0;
    while ((result = flock(descriptor_, LOCK_EX)) != 0 && errno == EINTR) {
    }
    if (result != 0 || has_its_name(descriptor_, path)) return;  // a file system without locks goes on without
    ::close(descriptor_);
  }
}

std::optional<CacheLock> CacheLock::try_lock(const fs::path& path) {
  const int descriptor = open_lock(path);
  if (descriptor < 0) return std::nullopt;
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0 && has_its_name(descriptor, path)) return CacheLock(descriptor);
  ::close(descriptor);
  return std::nullopt;
}

CacheLock::CacheLock(CacheLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

CacheLock::~CacheLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::uint64_t cache_limit() {
  double gigabytes = kDefaultGigabytes;
  if (const char* text = std::getenv("OUMI_CACHE_GB"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    gigabytes = std::strtod(text, &end);
    if (*end != '\0' || !(gigabytes >= 0 && gigabytes < 1e9))
      throw UserError("OUMI_CACHE_GB", cat("expected a number of gigabytes, got '", text, "'"), "0 sets no limit");
  }
  return static_cast<std::uint64_t>(gigabytes * 1e9);
}

void remove_leftovers(const fs::path& folder, const std::string& own) {
  std::set<std::string> keys;  // gathered first: locks are created and removed below
  std::error_code error;
  for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    const std::string name = file->path().filename().string();
    const std::string key = name.substr(0, name.find('.'));
    std::error_code unknown;
    // Tokens without a note were on their way to be an entry; so were files under temporary names.
    const bool no_entry =
        (name.ends_with(".arrow") || name.ends_with(".lock")) && !fs::exists(folder / (key + ".json"), unknown);
    if (no_entry || name.find(".tmp-") != name.npos) keys.insert(key);
  }
  for (const std::string& key : keys) {
    const auto lock = key == own ? std::nullopt : CacheLock::try_lock(folder / (key + ".lock"));
    if (key != own && !lock) continue;
    std::vector<fs::path> left;
    for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
      const std::string name = file->path().filename().string();
      if (name.starts_with(key + ".") && name.find(".tmp-") != name.npos) left.push_back(file->path());
    }
    std::error_code ignored;
    for (const fs::path& path : left) fs::remove(path, ignored);
    if (fs::exists(folder / (key + ".json"), ignored)) continue;
    fs::remove(folder / (key + ".arrow"), ignored);
    if (key != own) fs::remove(folder / (key + ".lock"), ignored);
  }
}

void make_room(const fs::path& folder, const std::string& kept, std::uint64_t limit,
               const std::function<void(const std::string&)>& notice) {
  std::vector<CacheEntry> entries;
  std::uint64_t total = 0;
  std::error_code error;
  for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    const std::string name = file->path().filename().string();
    const std::string key = name.substr(0, name.find('.'));
    if (!name.ends_with(".json")) continue;
    std::error_code unknown;
    const auto used = fs::last_write_time(file->path(), unknown);
    if (unknown) continue;
    entries.push_back({key, size_or_none(folder / (key + ".arrow")), used});
    total += entries.back().bytes;
  }
  if (limit == 0 || total <= limit) return;
  std::sort(entries.begin(), entries.end(), [](const CacheEntry& a, const CacheEntry& b) { return a.used < b.used; });
  std::uint64_t freed = 0;
  std::size_t removed = 0;
  for (const CacheEntry& entry : entries) {
    if (total - freed <= limit) break;
    if (entry.key == kept) continue;
    const auto lock = CacheLock::try_lock(folder / (entry.key + ".lock"));
    if (!lock) continue;
    remove_entry(folder, entry.key);
    freed += entry.bytes;
    ++removed;
  }
  if (removed > 0 && notice) {
    notice(cat("encoded samples of ", removed, " earlier runs (", freed / 1000000, " MB) were deleted from ", folder.string(),
               ", which is kept at ", limit / 1000000, " MB; OUMI_CACHE_GB sets the size"));
  }
}

}  // namespace oumi
