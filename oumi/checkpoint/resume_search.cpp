#include "oumi/checkpoint/resume_search.h"

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/manifest.h"

namespace oumi {
namespace fs = std::filesystem;

ResumeSearch find_resume_checkpoint(const fs::path& output_dir) {
  ResumeSearch search;
  std::vector<CheckpointFolder> folders = list_checkpoints(output_dir);
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    const VerifyReport report = verify_checkpoint(folder->path);
    if (report.ok()) {
      search.checkpoint = folder->path;
      search.step = folder->step;
      break;
    }
    search.skipped.push_back({folder->path, report.summary()});
  }
  return search;
}

namespace {

bool has_weights(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    if (fs::exists(folder / name)) return true;
  }
  return false;
}

// A Hugging Face Trainer writes trainer_state.json last: with it and weights the folder is probably whole.
ResumeSearch check_foreign(const fs::path& checkpoint) {
  const fs::path state_path = checkpoint / "trainer_state.json";
  if (!fs::exists(state_path))
    throw UserError(checkpoint.string(), "not a checkpoint: expected manifest.json or trainer_state.json, got neither",
                    "name a checkpoint-N folder");
  if (!has_weights(checkpoint))
    throw UserError(checkpoint.string(), "has no weights: expected model.safetensors, its index, or pytorch_model.bin");
  const Json state = read_json_file(state_path);
  const auto step = state.is_object() ? state.find("global_step") : state.end();
  if (!state.is_object() || step == state.end() || !step->is_number_integer())
    throw UserError(state_path.string(), "key 'global_step': expected an integer, got none");
  ResumeSearch search;
  search.checkpoint = checkpoint;
  search.step = step->get<std::int64_t>();
  search.warning =
      checkpoint.string() + " has no manifest.json (another program wrote it): whether its files are whole cannot be checked";
  return search;
}

}  // namespace

ResumeSearch check_resume_checkpoint(const fs::path& checkpoint, const ResumeOptions& options) {
  std::error_code ignored;
  if (!fs::is_directory(checkpoint, ignored)) {
    throw UserError(
        checkpoint.string(),
        fs::exists(checkpoint, ignored) ? "expected a checkpoint folder, got a file" : "the checkpoint does not exist",
        "check the path");
  }
  if (!fs::exists(checkpoint / kManifestName, ignored) && options.allow_without_manifest) return check_foreign(checkpoint);
  const VerifyReport report = verify_checkpoint(checkpoint);
  if (!report.ok()) {
    std::string hint = "resume from an older checkpoint";
    if (const auto step = checkpoint_step(checkpoint)) {
      const ResumeSearch older =
          find_resume_checkpoint(checkpoint.parent_path().empty() ? fs::path(".") : checkpoint.parent_path());
      if (older.checkpoint) hint = "the newest whole checkpoint there is " + older.checkpoint->string();
    }
    throw UserError(checkpoint.string(), "the checkpoint is damaged: " + report.summary(), hint);
  }
  ResumeSearch search;
  search.checkpoint = checkpoint;
  search.step = report.manifest.step;
  return search;
}

}  // namespace oumi
