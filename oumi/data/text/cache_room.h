// Keeps the cache of encoded samples at its size. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace oumi {

// A lock on one entry of the cache, by flock: the kernel drops it with the process.
class CacheLock {
 public:
  // Waits for whoever has it. Throws EnvironmentError when `path` can't be created.
  explicit CacheLock(const std::filesystem::path& path);
  // Nothing when another process, or another part of this one, has it.
  static std::optional<CacheLock> try_lock(const std::filesystem::path& path);
  ~CacheLock();
  CacheLock(CacheLock&& other) noexcept;
  CacheLock& operator=(CacheLock&&) = delete;

 private:
  explicit CacheLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

// $OUMI_CACHE_GB (0: no limit), else 100 GB. Throws UserError when it is no number.
std::uint64_t cache_limit();

// Deletes from `folder` what processes left that were killed while they wrote. Entries that are being written or opened by
// others stay; `own` is the key of the one whose lock the caller holds.
void remove_leftovers(const std::filesystem::path& folder, const std::string& own);

// Deletes from `folder`, until all entries together have at most `limit` bytes (0: no limit), the entries that were used the
// longest ago; `kept` (an entry's key) and entries that are being written or opened stay. Processes that have a deleted entry
// open go on reading it.
void make_room(const std::filesystem::path& folder, const std::string& kept, std::uint64_t limit,
               const std::function<void(const std::string&)>& notice);

}  // namespace oumi
