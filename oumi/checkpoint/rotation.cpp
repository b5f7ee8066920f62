#include "oumi/checkpoint/rotation.h"

#include "oumi/base/error.h"
#include "oumi/checkpoint/atomic_directory.h"
#include "oumi/checkpoint/manifest.h"

namespace oumi {

RotationResult rotate_checkpoints(const std::filesystem::path& output_dir, const RotationOptions& options) {
  RotationResult result;
  if (options.save_total_limit <= 0) return result;
  std::vector<CheckpointFolder> ours;
  for (auto& folder : list_checkpoints(output_dir)) {
    if (verify_checkpoint(folder.path, {.hashes = false}).ok()) ours.push_back(std::move(folder));
  }
  if (ours.empty()) return result;
  const std::int64_t newest = ours.back().step;
  const auto is_protected = [&](std::int64_t step) {
    return (options.keep_newest && step == newest) || step == options.best_step;
  };
  std::int64_t protected_count = 0;
  for (const auto& folder : ours) protected_count += is_protected(folder.step);
  const std::int64_t keep = std::max(options.save_total_limit, protected_count);
  auto left = static_cast<std::int64_t>(ours.size());
  for (const auto& folder : ours) {
    if (left <= keep) break;
    if (is_protected(folder.step)) continue;
    --left;
    try {
      remove_directory(folder.path);
      result.removed.push_back(folder.path);
    } catch (const Error& error) {
      result.failed.emplace_back(folder.path, error.message());
    }
  }
  return result;
}

}  // namespace oumi
