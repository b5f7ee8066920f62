// Saving and restoring a run: every file of a checkpoint-N folder and back.
#include <c10/core/GradMode.h>
#include <torch/optim/optimizer.h>

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"
#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/checkpoint/rotation.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/optim/optimizer_state.h"
#include "oumi/optim/torch_state.h"
#include "oumi/telemetry/logging.h"
#include "oumi/telemetry/metrics_file.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/trainer_notify.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

// What bit-exact continuation depends on beside the files: compared on resume.
Json numerics_environment() {
  return Json{{"num_threads", at::get_num_threads()}, {"cpu_capability", at::get_cpu_capability()}};
}

}  // namespace

void Trainer::save_checkpoint(Run& run) {
  if (run.saved_step == state_.global_step && !state_.evaluation_pending) return;
  const std::string best_before = state_.best_model_checkpoint;
  const fs::path final_path = fs::path(args_.output_dir) / cat("checkpoint-", state_.global_step);
  if (state_.best_global_step && *state_.best_global_step == state_.global_step)
    state_.best_model_checkpoint = final_path.string();
  for (const CallbackPtr& callback : callbacks_) {
    if (!callback->name().empty()) state_.stateful_callbacks[callback->name()] = callback->state_dict();
  }
  run.events->flush();
  try {
    CheckpointWriter writer(args_.output_dir, state_.global_step);
    const fs::path directory = writer.directory();
    if (!run.ema || !args_.save_only_model) {
      save_weights(*model_, directory);
    } else {
      const AveragedParameters averaged(*run.ema);
      save_weights(*model_, directory);
    }
    if (options_.save_beside_weights) options_.save_beside_weights(directory);
    if (!args_.save_only_model) {
      const OptimizerState optimizer = optimizer_state(*run.optimizer, run.parameter_names);
      writer.add_state("optimizer.safetensors", optimizer.tensors);
      writer.add_json("optimizer.json", optimizer.scalars);
      writer.add_json("scheduler.json", run.scheduler->state_dict());
      writer.add_state("rng_state.safetensors", {{"cpu", run.boundary.rng_state}});
      if (run.ema) writer.add_state("ema.safetensors", run.ema->state_dict());
      writer.add_json("data_state.json", data_position(run));
      writer.add_json("environment.json", numerics_environment());
      if (args_.save_hf_optimizer) {
        write_torch_file(directory / "optimizer.pt", to_torch_optimizer_state(*run.optimizer));
        write_torch_file(directory / "scheduler.pt", to_torch_scheduler_state(*run.scheduler));
      }
    }
    if (!options_.config_yaml.empty()) writer.add_text("training_config.yaml", options_.config_yaml);
    TrainerState saved = state_;
    saved.train_seconds += run.seconds();
    writer.add_json("trainer_state.json", saved.to_json());
    writer.commit();
  } catch (...) {
    state_.best_model_checkpoint = best_before;
    throw;
  }
  run.saved_step = state_.global_step;
  log_to_file(LogLevel::kInfo, "saved " + final_path.string());
  if (args_.save_total_limit) {
    const RotationResult rotation = rotate_checkpoints(
        args_.output_dir, {.save_total_limit = *args_.save_total_limit, .best_step = state_.best_global_step});
    for (const auto& [path, reason] : rotation.failed) log_warning("cannot remove " + path.string() + ": " + reason);
  }
  notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_save(context, final_path.string()); });
}

void Trainer::restore(Run& run, const fs::path& checkpoint) {
  if (!fs::is_directory(checkpoint)) {
    throw UserError("training.resume_from_checkpoint", "expected a checkpoint folder, got " + checkpoint.string(),
                    "check the path");
  }
  const bool ours = fs::exists(checkpoint / "manifest.json");
  const ResumeSearch checked = check_resume_checkpoint(checkpoint, {.allow_without_manifest = true});
  if (!checked.warning.empty()) log_warning(checked.warning);
  load_weights_into(*model_, checkpoint);
  state_ =
      TrainerState::from_json(read_json_file(checkpoint / "trainer_state.json"), (checkpoint / "trainer_state.json").string());
  run.resumed_step = run.saved_step = state_.global_step;
  run.resumed_samples = state_.samples_seen;
  restore_data_position(run, checkpoint);  // may lengthen the schedule that is loaded below
  for (const CallbackPtr& callback : callbacks_) {
    if (!callback->name().empty() && state_.stateful_callbacks.contains(callback->name()))
      callback->load_state_dict(state_.stateful_callbacks[callback->name()]);
  }

  if (fs::exists(checkpoint / "optimizer.json")) {
    load_optimizer_state(
        *run.optimizer, run.parameter_names,
        {load_safetensors(checkpoint / "optimizer.safetensors"), read_json_file(checkpoint / "optimizer.json")});
    run.scheduler->load_state_dict(read_json_file(checkpoint / "scheduler.json"));
  } else if (fs::exists(checkpoint / "optimizer.pt") && fs::exists(checkpoint / "scheduler.pt")) {
    load_torch_optimizer_state(*run.optimizer, run.parameter_names, read_torch_file(checkpoint / "optimizer.pt"));
    load_torch_scheduler_state(*run.scheduler, read_torch_file(checkpoint / "scheduler.pt"));
  } else {
    throw UserError(checkpoint.string(),
                    "holds weights but no optimizer state: expected optimizer.safetensors and optimizer.json, or optimizer.pt "
                    "and scheduler.pt",
                    "it was saved with save_only_model; start a new run with model.model_name set to this folder");
  }
  if (run.ema && fs::exists(checkpoint / "ema.safetensors"))
    run.ema->load_state_dict(load_safetensors(checkpoint / "ema.safetensors"));
  if (fs::exists(checkpoint / "rng_state.safetensors")) {
    run.boundary.rng_state = load_safetensors(checkpoint / "rng_state.safetensors").at("cpu").clone();
    restore_cpu_rng_state(run.boundary.rng_state);
  }

  if (ours && fs::exists(checkpoint / "environment.json")) {
    const Json then = read_json_file(checkpoint / "environment.json"), now = numerics_environment();
    for (const auto& [key, value] : now.items()) {
      if (then.contains(key) && then[key] != value) {
        log_warning("resuming on another machine or setting: " + key + " was " + then[key].dump() + ", is " + value.dump() +
                    "; results may differ in the last bits");
      }
    }
  }
  cut_metrics_file(fs::path(args_.output_dir) / "metrics_rank0000.jsonl", state_.global_step);
  log_info(cat("resuming from ", checkpoint.string(), " at step ", state_.global_step));
}

}  // namespace oumi
