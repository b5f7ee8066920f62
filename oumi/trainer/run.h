// What exists only while a Trainer trains. Internal to trainer/.
#pragma once

#include <torch/optim/optimizer.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <vector>

#include "oumi/base/files.h"
#include "oumi/base/stop_signal.h"
#include "oumi/data/data_loader.h"
#include "oumi/distributed/gradient_sync.h"
#include "oumi/distributed/process_group.h"
#include "oumi/distributed/sharding.h"
#include "oumi/distributed/straggler.h"
#include "oumi/optim/ema.h"
#include "oumi/optim/lr_schedule.h"
#include "oumi/optim/parameter_groups.h"
#include "oumi/telemetry/events.h"
#include "oumi/telemetry/rate_meter.h"
#include "oumi/trainer/trainer.h"

namespace oumi {

// A point between two updates: what a checkpoint of it needs beside weights and optimizer. Kept from before each update, so
// that a stop in the middle of one goes back to a whole number of updates.
struct Boundary {
  Tensor rng_state{};  // of the CPU generator
  std::int64_t epoch = 0;
  std::int64_t batches = 0;       // micro-batches consumed in this epoch
  bool epoch_ended = false;       // the epoch's closing log, evaluation and save have run
  Json loader_state{};            // where the loader stood; null before the epoch has begun
  std::vector<Tensor> buffers{};  // copies of the model's buffers, when an update has several micro-batches
};

// Leaves an evaluation when the run is asked to stop. Caught by Trainer::evaluate_or_stop.
struct EvaluationInterrupted {};

struct Trainer::Run {
  StopSignalScope signals;
  std::unique_ptr<FileLock> lock;
  std::unique_ptr<DataLoader> loader;
  std::shared_ptr<torch::optim::Optimizer> optimizer;
  std::shared_ptr<LrScheduler> scheduler;
  std::unique_ptr<ExponentialMovingAverage> ema;
  std::unique_ptr<GradientSync> gradient_sync;  // with several ranks: this one,
  std::unique_ptr<Sharding> sharding;           // or this one,
  ShardGroups shard_groups;                     // whose ranks these are
  bool weights_stay_sharded = false;            // no rank has room for all of them: neither before training nor after it
  std::unique_ptr<StragglerWatch> straggler;    // with several ranks
  bool last_micro_batch = true;                 // of the update: gradients are averaged after it
  std::vector<std::string> parameter_names;     // in the optimizer's order
  std::vector<Tensor> parameters;               // those that are trained, for clipping
  std::vector<Tensor> counted_parameters;       // of these, those that count in the gradient norm on this rank
  std::unique_ptr<EventHub> events;
  std::shared_ptr<ProcessGroup> savers = std::make_shared<ProcessGroup>();  // the ranks' threads below
  std::future<void> background_save;  // flushes and commits `saving`; waits where it is destroyed
  std::filesystem::path saving;
  RateMeter rate;
  Boundary boundary;
  bool epoch_begun = false;           // the loader is at a position of this run
  std::int64_t batches_in_epoch = 0;  // of this rank; fewer than the plan's where a resumed epoch changed its batch size
  double loss = 0;                    // of the last update
  double learning_rate = 0;           // that the last update used
  double grad_norm = 0;               // of the last update, before clipping
  std::int64_t saved_step = -1;       // of the last checkpoint
  std::int64_t resumed_step = 0;      // 0: from the start
  std::int64_t resumed_samples = 0;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();

  void zero_grad() {
    if (sharding) {
      sharding->zero_grad();
    } else {
      optimizer->zero_grad(/*set_to_none=*/true);
    }
  }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); }
};

}  // namespace oumi
