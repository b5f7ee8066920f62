// save_total_limit: which checkpoints go when a new one is there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace oumi {

struct RotationOptions {
  std::int64_t save_total_limit = 0;           // 0 or less: keep all
  std::optional<std::int64_t> best_step = {};  // of the best checkpoint so far; it stays
  bool keep_newest = true;                     // false: at the end of a run, where the best alone is wanted
};

struct RotationResult {
  std::vector<std::filesystem::path> removed;
  std::vector<std::pair<std::filesystem::path, std::string>> failed;  // path, reason: they stay, training goes on
};

// Removes the checkpoints of lowest step until max(save_total_limit, number of protected ones) are left. The newest and the
// best are protected. Counted by step, as the manifests say, never by time: copying a folder changes its times. Only whole
// checkpoints of ours (manifest readable, all files there in their size) are counted or removed; anything else is left alone.
RotationResult rotate_checkpoints(const std::filesystem::path& output_dir, const RotationOptions& options);

}  // namespace oumi
