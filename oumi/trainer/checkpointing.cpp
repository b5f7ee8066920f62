// Saving and restoring a run: every file of a checkpoint-N folder and back.
#include <c10/core/GradMode.h>
#include <torch/optim/optimizer.h>

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"
#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/checkpoint/output_file.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/checkpoint/rotation.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/language_model.h"
#include "oumi/models/state.h"
#include "oumi/optim/optimizer_state.h"
#include "oumi/optim/torch_state.h"
#include "oumi/telemetry/logging.h"
#include "oumi/telemetry/metrics_file.h"
#include "oumi/trainer/replica_check.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/sharded_state.h"
#include "oumi/trainer/trainer_notify.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

// What bit-exact continuation depends on beside the files: compared on resume.
Json numerics_environment() {
  return Json{{"num_threads", at::get_num_threads()}, {"cpu_capability", at::get_cpu_capability()}};
}

// Hugging Face's names, but for the ending.
std::string rng_file(std::int64_t world_size, std::int64_t rank) {
  return world_size == 1 ? "rng_state.safetensors" : cat("rng_state_", rank, ".safetensors");
}

// Rank 0's model has the whole weights for the scope's length.
class HeldWeights {
 public:
  explicit HeldWeights(Sharding* sharding) : sharding_(sharding) {
    if (sharding_ != nullptr) sharding_->hold_weights_on_main();
  }
  ~HeldWeights() {
    if (sharding_ != nullptr) sharding_->release_weights();
  }
  HeldWeights(const HeldWeights&) = delete;
  HeldWeights& operator=(const HeldWeights&) = delete;

 private:
  Sharding* sharding_;
};

bool is_sharded(const Sharding& sharding, const std::string& name) {
  for (const ParameterShard& shard : sharding.shards()) {
    if (shard.name == name) return true;
  }
  return false;
}

}  // namespace

void Trainer::finish_background_save(Run& run, BackgroundSave wait) {
  if (!run.background_save.valid()) return;
  if (wait == BackgroundSave::kIfDone) {
    const bool done = run.background_save.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    if (group_->max({done ? 0 : 1}, "the state of a checkpoint").front() != 0) return;  // of one rank at least it goes on
  }
  run.background_save.get();
  log_to_file(LogLevel::kInfo, "saved " + run.saving.string());
  notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_save(context, run.saving.string()); });
}

void Trainer::save_checkpoint(Run& run) {
  finish_background_save(run, BackgroundSave::kWait);
  if (run.saved_step == state_.global_step && !state_.evaluation_pending) return;
  const std::string best_before = state_.best_model_checkpoint;
  const fs::path final_path = fs::path(args_.output_dir) / cat("checkpoint-", state_.global_step);
  if (state_.best_global_step && *state_.best_global_step == state_.global_step)
    state_.best_model_checkpoint = final_path.string();
  for (const CallbackPtr& callback : callbacks_) {
    if (!callback->name().empty()) state_.stateful_callbacks[callback->name()] = callback->state_dict();
  }
  run.events->flush();
  // Of weights that are whole on every rank one copy is saved: the others have to be equal.
  if (!run.sharding || !args_.sharding.shards_weights())
    require_equal_replicas(*mesh_.data, unique_named_parameters(*model_), state_.global_step);
  try {
    std::optional<DeferredFlush> deferred;
    if (args_.async_save) deferred.emplace();
    std::shared_ptr<CheckpointWriter> writer;  // on rank 0
    group_->on_main([&] { writer = std::make_shared<CheckpointWriter>(args_.output_dir, state_.global_step); },
                    "starting a checkpoint");
    const fs::path directory = group_->broadcast_text(writer ? writer->directory().string() : "", "starting a checkpoint");
    {
      const bool streams = streams_weights(run) && !weights_in_parts();
      const HeldWeights whole(run.sharding && !weights_in_parts() && !streams ? run.sharding.get() : nullptr);
      group_->on_all(
          [&] {
            if (writer) {
              write_main_files(run, *writer);
            } else if (mesh_.writes_model() && mesh_.tensor->world_size() > 1) {
              if (!weights_in_parts()) save_whole_weights(run, directory);  // sends this rank's parts
            } else if (streams && run.shard_groups.writes_shards()) {
              run.sharding->serve_weights();
            }
            if (group_->world_size() > 1) write_own_files(run, directory);
          },
          "writing a checkpoint");
    }
    if (deferred) {
      // The state is copied: what is left is the disk's time, and training need not wait for it. What fails on one rank fails
      // on all, so that they stay together when they are told.
      run.saved_step = state_.global_step;
      run.saving = final_path;
      run.background_save = std::async(std::launch::async, [this, writer, savers = run.savers, files = deferred->take(),
                                                            best = state_.best_global_step]() mutable {
        const auto commit = [&] {
          writer->commit();
          remove_older_checkpoints(best);
        };
        savers->on_all([&] { flush_files(files); }, "flushing a checkpoint");
        savers->on_main(commit, "committing a checkpoint");
        writer.reset();
      });
      return;
    }
    group_->on_main([&] { writer->commit(); }, "committing a checkpoint");
  } catch (const std::exception& error) {
    state_.best_model_checkpoint = best_before;
    rethrow_naming_memory(error, final_path.string());
  }
  run.saved_step = state_.global_step;
  log_to_file(LogLevel::kInfo, "saved " + final_path.string());
  if (group_->is_main()) remove_older_checkpoints(state_.best_global_step);
  notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_save(context, final_path.string()); });
}

// Called from the background too.
void Trainer::remove_older_checkpoints(const std::optional<std::int64_t>& best_step) const {
  if (!args_.save_total_limit) return;
  const RotationResult rotation =
      rotate_checkpoints(args_.output_dir, {.save_total_limit = *args_.save_total_limit, .best_step = best_step});
  for (const auto& [path, reason] : rotation.failed) log_warning("cannot remove " + path.string() + ": " + reason);
}

bool Trainer::weights_in_parts() const {
  return run_ && run_->sharding && args_.sharding.shards_weights() && args_.sharding.sharded_weights_in_checkpoints;
}

// What each rank writes: its random state and its parts.
void Trainer::write_own_files(Run& run, const fs::path& directory) {
  CheckpointFiles files(directory);
  const bool writes_shards = run.sharding && run.shard_groups.writes_shards();
  if (writes_shards && weights_in_parts()) {
    StateDict buffers;
    for (const auto& [name, tensor] : state_dict(*model_)) {
      if (!tensor.requires_grad() && !is_sharded(*run.sharding, name)) buffers.set(name, tensor);
    }
    add_weights_part(files, state_layout(*model_, run.shard_groups.shard.get()), run.sharding->shards(), buffers);
  }
  if (args_.save_only_model) return;
  files.add_state(rng_file(group_->world_size(), group_->rank()), {{"cpu", run.boundary.rng_state}});
  const auto add_optimizer = [&](const ProcessGroup* shard_ranks, const std::vector<ParameterShard>* shards) {
    add_optimizer_part(files, state_layout(*model_, shard_ranks), shards, optimizer_state(*run.optimizer, run.parameter_names));
  };
  if (writes_shards) {
    add_optimizer(run.shard_groups.shard.get(), &run.sharding->shards());
  } else if (!run.sharding && mesh_.tensor->world_size() > 1 && mesh_.writes_model()) {
    add_optimizer(nullptr, nullptr);
  }
}

// On the ranks that write the model.
void Trainer::save_whole_weights(Run& run, const fs::path& directory) {
  std::optional<WeightsOfShards> streamed;
  if (streams_weights(run)) streamed.emplace(*model_, *run.sharding);
  save_weights(*model_, directory);
}

// What rank 0 writes: everything that is the same on all ranks.
void Trainer::write_main_files(Run& run, CheckpointWriter& writer) {
  const fs::path directory = writer.directory();
  if (weights_in_parts()) {
    // Each rank writes its own.
  } else if (!run.ema || !args_.save_only_model) {
    save_whole_weights(run, directory);
  } else {
    const AveragedParameters averaged(*run.ema);
    save_weights(*model_, directory);
  }
  if (options_.save_beside_weights) options_.save_beside_weights(directory);
  if (!args_.save_only_model) {
    if (!run.sharding && mesh_.tensor->world_size() == 1) {
      const OptimizerState optimizer = optimizer_state(*run.optimizer, run.parameter_names);
      writer.add_state("optimizer.safetensors", optimizer.tensors);
      writer.add_json("optimizer.json", optimizer.scalars);
    }
    writer.add_json("scheduler.json", run.scheduler->state_dict());
    if (group_->world_size() == 1)
      writer.add_state(rng_file(group_->world_size(), group_->rank()), {{"cpu", run.boundary.rng_state}});
    if (run.ema) writer.add_state("ema.safetensors", run.ema->state_dict());
    writer.add_json("data_state.json", data_position(run));
    writer.add_json("environment.json", numerics_environment());
    if (args_.save_hf_optimizer && !run.sharding) {
      write_torch_file(directory / "optimizer.pt", to_torch_optimizer_state(*run.optimizer));
      write_torch_file(directory / "scheduler.pt", to_torch_scheduler_state(*run.scheduler));
    }
  }
  if (!options_.config_yaml.empty()) writer.add_text("training_config.yaml", options_.config_yaml);
  TrainerState saved = state_;
  saved.train_seconds += run.seconds();
  writer.add_json("trainer_state.json", saved.to_json());
}

void Trainer::restore_weights(const fs::path& checkpoint) {
  if (!fs::is_directory(checkpoint)) {
    throw UserError("training.resume_from_checkpoint", "expected a checkpoint folder, got " + checkpoint.string(),
                    "check the path");
  }
  group_->on_main(
      [&] {
        const ResumeSearch checked = check_resume_checkpoint(checkpoint, {.allow_without_manifest = true});
        if (!checked.warning.empty()) log_warning(checked.warning);
      },
      "checking the checkpoint");
  if (!model_->weights_deferred()) load_checkpoint_weights(*model_, checkpoint);
}

// Of the same layout, or put together from what another one wrote.
void Trainer::restore_optimizer(Run& run, const fs::path& checkpoint) {
  const bool ours = fs::exists(checkpoint / "scheduler.json"), whole = fs::exists(checkpoint / "optimizer.json");
  if (ours && (run.sharding || mesh_.tensor->world_size() > 1 || !whole)) {
    std::vector<WantedPart> wanted;
    if (run.sharding) {
      for (const ParameterShard& shard : run.sharding->shards()) {
        if (shard.value.defined() && shard.trained) wanted.push_back({shard.name, shard.shape, shard.begin, shard.end, true});
      }
    } else {
      for (const auto& [name, parameter] : unique_named_parameters(*model_)) {
        if (parameter.requires_grad()) wanted.push_back({name, parameter.sizes().vec(), 0, parameter.numel(), false});
      }
    }
    load_optimizer_state(
        *run.optimizer, run.parameter_names,
        load_optimizer_parts(checkpoint, state_layout(*model_), wanted, optimizer_state(*run.optimizer, run.parameter_names)));
    run.scheduler->load_state_dict(read_json_file(checkpoint / "scheduler.json"));
  } else if (whole) {
    load_optimizer_state(
        *run.optimizer, run.parameter_names,
        {load_safetensors(checkpoint / "optimizer.safetensors"), read_json_file(checkpoint / "optimizer.json")});
    run.scheduler->load_state_dict(read_json_file(checkpoint / "scheduler.json"));
  } else if (fs::exists(checkpoint / "optimizer.pt") && fs::exists(checkpoint / "scheduler.pt") && !run.sharding &&
             mesh_.tensor->world_size() == 1) {
    load_torch_optimizer_state(*run.optimizer, run.parameter_names, read_torch_file(checkpoint / "optimizer.pt"));
    load_torch_scheduler_state(*run.scheduler, read_torch_file(checkpoint / "scheduler.pt"));
  } else {
    throw UserError(checkpoint.string(),
                    "holds weights but no optimizer state: expected optimizer.safetensors and optimizer.json, or optimizer.pt "
                    "and scheduler.pt",
                    "it was saved with save_only_model; start a new run with model.model_name set to this folder");
  }
}

void Trainer::restore(Run& run, const fs::path& checkpoint) {
  const bool ours = fs::exists(checkpoint / "manifest.json");
  state_ =
      TrainerState::from_json(read_json_file(checkpoint / "trainer_state.json"), (checkpoint / "trainer_state.json").string());
  run.resumed_step = run.saved_step = state_.global_step;
  run.resumed_samples = state_.samples_seen;
  restore_data_position(run, checkpoint);  // may lengthen the schedule that is loaded below
  for (const CallbackPtr& callback : callbacks_) {
    if (!callback->name().empty() && state_.stateful_callbacks.contains(callback->name()))
      callback->load_state_dict(state_.stateful_callbacks[callback->name()]);
  }

  restore_optimizer(run, checkpoint);
  if (run.ema && fs::exists(checkpoint / "ema.safetensors"))
    run.ema->load_state_dict(load_safetensors(checkpoint / "ema.safetensors"));
  restore_rng(run, checkpoint);

  if (ours && fs::exists(checkpoint / "environment.json")) {
    const Json then = read_json_file(checkpoint / "environment.json"), now = numerics_environment();
    for (const auto& [key, value] : now.items()) {
      if (then.contains(key) && then[key] != value) {
        log_warning("resuming on another machine or setting: " + key + " was " + then[key].dump() + ", is " + value.dump() +
                    "; results may differ in the last bits");
      }
    }
  }
  if (group_->is_main()) cut_metrics_file(metrics_path(args_.output_dir), state_.global_step);
  log_info(cat("resuming from ", checkpoint.string(), " at step ", state_.global_step));
}

// This rank's random state. Of a run with another number of ranks there is none for it: then it gets one of its own, so that no
// two copies of the model draw the same. All ranks of a tensor-parallel group have the same, the first one's, whatever layout
// wrote it.
void Trainer::restore_rng(Run& run, const fs::path& checkpoint) {
  const fs::path own = checkpoint / rng_file(group_->world_size(), group_->rank() - mesh_.tensor->rank());
  const auto has_rank = [&](std::int64_t rank) { return fs::exists(checkpoint / cat("rng_state_", rank, ".safetensors")); };
  const std::int64_t world = group_->world_size();
  if (fs::exists(own) && (world == 1 || (has_rank(world - 1) && !has_rank(world)))) {
    run.boundary.rng_state = load_safetensors(own).at("cpu").clone();
    restore_cpu_rng_state(run.boundary.rng_state);
    return;
  }
  if (fs::exists(checkpoint / "rng_state.safetensors") || fs::exists(checkpoint / "rng_state_0.safetensors")) {
    log_warning("the number of ranks changed since the checkpoint; random state (dropout) starts afresh");
    at::manual_seed(args_.seed + static_cast<std::uint64_t>(mesh_.data->rank() + state_.global_step * 1000003));
  }
}

}  // namespace oumi
