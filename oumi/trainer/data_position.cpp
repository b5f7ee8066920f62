// Where a resumed run goes on in its data: by samples, whatever the batch size, accumulation and number of ranks are now.
#include <algorithm>
#include <cmath>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/logging.h"
#include "oumi/trainer/run.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::int64_t divide_up(std::int64_t count, std::int64_t by) { return (count + by - 1) / by; }

// "the batch size went from 16 to 48, ..."; empty when nothing changed.
std::string describe_changes(const Json& saved, const DataLoaderOptions& loader, std::int64_t accumulation) {
  std::vector<std::string> changes;
  const auto compare = [&](const char* key, const char* name, std::int64_t now) {
    const std::int64_t then = saved.value(key, now);
    if (then != now) changes.push_back(cat(name, " went from ", then, " to ", now));
  };
  compare("batch_size", "the batch size", loader.batch_size);
  compare("gradient_accumulation_steps", "gradient accumulation", accumulation);
  compare("world_size", "the number of ranks", loader.world_size);
  return join(changes, ", ");
}

}  // namespace

Json Trainer::data_position(const Run& run) const {
  return {{"epoch", run.boundary.epoch},
          {"batches", run.boundary.batches},
          {"epoch_ended", run.boundary.epoch_ended},
          {"loader", run.boundary.loader_state},
          {"batch_size", run.loader->options().batch_size},
          {"gradient_accumulation_steps", args_.gradient_accumulation_steps},
          {"world_size", run.loader->options().world_size},
          {"seed", args_.data_seed.value_or(args_.seed)},
          {"dataset_fingerprint", options_.train_dataset->fingerprint()}};
}

void Trainer::restore_data_position(Run& run, const fs::path& checkpoint) {
  Json data;
  if (fs::exists(checkpoint / "data_state.json")) {
    data = read_json_file(checkpoint / "data_state.json");
    const std::string saved = data.value("dataset_fingerprint", std::string());
    if (saved != options_.train_dataset->fingerprint() && !args_.ignore_data_skip) {
      throw UserError(checkpoint.string(),
                      "the training data changed since the checkpoint: expected fingerprint " + saved + ", got " +
                          options_.train_dataset->fingerprint(),
                      "resume with the same data, or start its epoch afresh with training.ignore_data_skip: true");
    }
  } else {
    data = position_of_steps(run);  // Hugging Face's, which counts updates alone
  }
  run.boundary.epoch = data.value("epoch", std::int64_t{0});
  run.boundary.batches = data.value("batches", std::int64_t{0});
  run.boundary.epoch_ended = data.value("epoch_ended", false);
  run.boundary.loader_state = data.value("loader", Json());
  if (args_.ignore_data_skip && !run.boundary.epoch_ended) {
    run.boundary.batches = 0;  // the epoch is read from its beginning again
    run.boundary.loader_state = Json();
  }
  const std::string changes = describe_changes(data, run.loader->options(), args_.gradient_accumulation_steps);
  if (!changes.empty()) replan_after_change(run, data, changes);
}

// HF's Trainer writes no position, only updates: they are taken to have had today's accumulation, and the batch size that
// trainer_state.json names.
Json Trainer::position_of_steps(Run& run) const {
  const std::int64_t batch_size = run.loader->options().batch_size;
  const std::int64_t saved_size = state_.train_batch_size > 0 ? state_.train_batch_size : batch_size;
  std::int64_t updates = plan_.updates_per_epoch;
  const auto samples = options_.train_dataset->is_map_style() ? options_.train_dataset->length() : std::nullopt;
  if (samples && saved_size != batch_size) {
    const std::int64_t ranks = run.loader->options().world_size;
    updates = std::max<std::int64_t>(divide_up(divide_up(*samples, saved_size * ranks), args_.gradient_accumulation_steps), 1);
  }
  Json position{{"epoch", state_.global_step / updates},
                {"batches", state_.global_step % updates * args_.gradient_accumulation_steps},
                {"batch_size", saved_size}};
  if (samples && saved_size != batch_size) {
    Json loader = run.loader->state_dict();
    loader["epoch"] = position["epoch"];
    loader["position"] = position["batches"];
    loader["batch_size"] = saved_size;
    loader["finished"] = false;
    position["loader"] = std::move(loader);
  }
  return position;
}

// Says what changed, and where the run goes on; a run of so many epochs still ends with the last of them.
void Trainer::replan_after_change(Run& run, const Json& data, const std::string& changes) {
  const Json& loader = run.boundary.loader_state;
  const std::int64_t skipped = loader.is_object() ? loader.value("first_sample", std::int64_t{0}) : 0;
  const std::int64_t seen = skipped + run.boundary.batches * data.value("batch_size", run.loader->options().batch_size) *
                                          data.value("world_size", run.loader->options().world_size);
  std::string message = "since the checkpoint " + changes;
  const auto samples = options_.train_dataset->length();
  std::int64_t batches_left = plan_.batches_per_epoch;
  if (run.boundary.epoch_ended) {
    message += "; the next epoch begins";
    batches_left = 0;
  } else if (!loader.is_null()) {
    run.loader->load_state_dict(loader);
    batches_left = run.loader->batches_per_epoch().value_or(plan_.batches_per_epoch) - run.loader->position();
    message += cat("; the epoch goes on after the ", samples ? std::min(seen, *samples) : seen, " samples seen");
    if (samples) message += cat(" of ", *samples);
  }
  if (args_.max_steps <= 0 && samples) {
    const double whole = args_.num_train_epochs - static_cast<double>(run.boundary.epoch + 1);
    const double left = static_cast<double>(divide_up(batches_left, args_.gradient_accumulation_steps)) +
                        whole * static_cast<double>(plan_.updates_per_epoch);
    plan_.max_steps = state_.global_step + static_cast<std::int64_t>(std::ceil(std::max(left, 0.0)));
    if (!options_.optimizers.lr_scheduler) run.scheduler = make_scheduler(run);
    message += cat("; the run ends at step ", plan_.max_steps, ", and the learning rate follows its schedule to there");
  }
  log_warning(message);
}

}  // namespace oumi
