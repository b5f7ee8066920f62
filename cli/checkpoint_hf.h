// optimizer.pt and scheduler.pt for a checkpoint of ours.
#pragma once

#include <filesystem>
#include <vector>

namespace oumi::cli {

// Writes both into `output` (the checkpoint itself, or another folder) and returns their paths. Throws UserError when the
// checkpoint holds no optimizer state, or is damaged.
std::vector<std::filesystem::path> write_hf_optimizer(const std::filesystem::path& checkpoint,
                                                      const std::filesystem::path& output);

}  // namespace oumi::cli
