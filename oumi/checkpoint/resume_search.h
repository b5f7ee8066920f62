// Which checkpoint to resume from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace oumi {

struct SkippedCheckpoint {
  std::filesystem::path path;
  std::string reason;  // "optimizer.safetensors: expected xxh3_128 ..., got ..."
};

struct ResumeSearch {
  std::optional<std::filesystem::path> checkpoint;  // none: there is no whole one
  std::int64_t step = 0;
  std::vector<SkippedCheckpoint> skipped;  // newer ones, newest first
  std::string warning;                     // to be shown when not empty
};

// The newest output_dir/checkpoint-N whose every file matches its manifest. Nothing is changed.
ResumeSearch find_resume_checkpoint(const std::filesystem::path& output_dir);

struct ResumeOptions {
  // Takes a Hugging Face Trainer's checkpoint (trainer_state.json and weights, but no manifest) with a warning: nothing tells
  // whether it is whole.
  bool allow_without_manifest = false;
};

// Checks the checkpoint that the user names. Throws UserError with all its problems.
ResumeSearch check_resume_checkpoint(const std::filesystem::path& checkpoint, const ResumeOptions& options = {});

}  // namespace oumi
