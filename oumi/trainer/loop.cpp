// The training loop: epochs, updates of several micro-batches, and what follows each update.
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <cmath>

#include "oumi/base/strings.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/models/state.h"
#include "oumi/telemetry/logging.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/token_counts.h"
#include "oumi/trainer/trainer_notify.h"

namespace oumi {
namespace {

// The samples of a batch, for messages: "12, 40, 7, ...".
std::string list_samples(const std::vector<Batch>& batches) {
  constexpr std::size_t kShown = 64;
  std::vector<std::string> ids;
  for (const Batch& batch : batches) {
    for (const std::int64_t id : batch.sample_ids) ids.push_back(cat(id));
  }
  const bool cut = ids.size() > kShown;
  if (cut) ids.resize(kShown);
  return ids.empty() ? "unknown" : join(ids, ", ") + (cut ? ", ..." : "");
}

}  // namespace

void Trainer::run_epochs(Run& run) {
  const std::int64_t first_epoch = run.boundary.epoch_ended ? run.boundary.epoch + 1 : run.boundary.epoch;
  for (std::int64_t epoch = first_epoch; epoch < plan_.num_train_epochs && !control_.should_training_stop; ++epoch) {
    if (epoch != run.boundary.epoch) run.boundary = {.epoch = epoch};
    run_epoch(run, epoch);
  }
}

void Trainer::run_epoch(Run& run, std::int64_t epoch) {
  if (run.boundary.loader_state.is_null()) {
    run.loader->start_epoch(epoch, run.boundary.batches);
  } else {
    run.loader->load_state_dict(run.boundary.loader_state);  // a resumed epoch
    run.boundary.batches = run.loader->position();
  }
  run.batches_in_epoch = run.loader->batches_per_epoch().value_or(plan_.batches_per_epoch);
  run.epoch_begun = true;
  control_.should_epoch_stop = false;
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_epoch_begin(context); });

  const bool keep_buffers = args_.gradient_accumulation_steps > 1 && !model_->buffers().empty();
  while (!control_.should_training_stop && !control_.should_epoch_stop) {
    if (run.straggler) run.straggler->begin_update();
    mark_boundary(run);
    if (keep_buffers) {
      for (const Tensor& buffer : model_->buffers()) run.boundary.buffers.push_back(buffer.clone());
    }
    std::vector<Batch> micro_batches;
    while (static_cast<std::int64_t>(micro_batches.size()) < args_.gradient_accumulation_steps) {
      std::optional<Batch> batch = run.loader->next();
      if (!batch) break;
      micro_batches.push_back(std::move(*batch));
    }
    stop_if_asked(run);
    if (micro_batches.empty()) break;

    update(run, micro_batches);
    if (run.straggler) {
      if (const auto message = run.straggler->end_update()) log_warning(*message);
    }
    run.boundary.batches += static_cast<std::int64_t>(micro_batches.size());
    state_.epoch =
        static_cast<double>(epoch) + static_cast<double>(run.boundary.batches) / static_cast<double>(run.batches_in_epoch);
    after_update(run);
  }
  // As HF, an epoch that the run ends in has its closing log, evaluation and save too; one that goes on after a resume is not
  // over.
  run.boundary.epoch_ended = !control_.should_training_stop || run.boundary.batches >= run.batches_in_epoch;
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_epoch_end(context); });
  maybe_log_evaluate_save(run);
}

void Trainer::mark_boundary(Run& run) {
  run.boundary.rng_state = cpu_rng_state();
  run.boundary.buffers.clear();
  // Before the first epoch the loader stands nowhere: a resumed run's position is the checkpoint's.
  if (run.epoch_begun) run.boundary.loader_state = run.loader->state_dict();
}

void Trainer::update(Run& run, std::vector<Batch>& micro_batches) {
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_step_begin(context); });
  if (run.gradient_sync && args_.ddp_broadcast_buffers.value_or(true)) {
    broadcast_from_main(*mesh_.data, model_->buffers(), "the model's buffers");
  }

  double loss = 0;
  std::int64_t samples_in_update = 0, tokens_in_update = 0, seen_in_update = 0;
  const auto count = static_cast<std::int64_t>(micro_batches.size());
  const std::optional<double> items = items_in_update(micro_batches);
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) stop_if_asked(run);
    run.last_micro_batch = i + 1 == count;
    Batch batch =
        device_.is_cpu() ? micro_batches[static_cast<std::size_t>(i)] : micro_batches[static_cast<std::size_t>(i)].to(device_);
    if (items) batch.set("num_items_in_batch", at::full({}, *items, at::kDouble));
    try {
      // A loss that is a sum over tokens divided by those of the whole update is a share of it as it is.
      loss += training_step(*model_, batch, items ? 1 : count).item<double>();
    } catch (const UserError& error) {
      if (error.component() == "labels") throw;  // names its one sample
      // Samples of a stream have no numbers.
      const std::string which = batch.sample_ids.empty() ? cat("a batch of step ", state_.global_step + 1)
                                                         : "the batch of samples " + list_samples({batch});
      throw UserError(error.component(), error.message() + " (in " + which + ")", error.hint());
    } catch (const std::exception& error) {
      rethrow_naming_memory(error, "the forward pass");
    }
    if (i + 1 < count) notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_substep_end(context); });
    const std::int64_t tokens = count_tokens(batch);
    seen_in_update +=
        args_.include_num_input_tokens_seen == "all" && batch.contains("input_ids") ? batch.at("input_ids").numel() : tokens;
    samples_in_update += batch.batch_size();
    tokens_in_update += tokens;
  }
  const double own_loss = loss;
  if (mesh_.data->world_size() > 1) {
    // Of all copies of the model, so that every one logs, counts and judges the same.
    std::vector<double> totals{loss, static_cast<double>(samples_in_update), static_cast<double>(tokens_in_update),
                               static_cast<double>(seen_in_update)};
    mesh_.data->sum(totals, "the loss");
    loss = totals[0] / static_cast<double>(mesh_.data->world_size());
    samples_in_update = static_cast<std::int64_t>(totals[1]);
    tokens_in_update = static_cast<std::int64_t>(totals[2]);
    seen_in_update = static_cast<std::int64_t>(totals[3]);
  }
  state_.num_input_tokens_seen += seen_in_update;
  state_.samples_seen += samples_in_update;
  run.rate.add_step(samples_in_update, tokens_in_update);

  run.grad_norm = clip_gradients(run);
  run.learning_rate = run.scheduler->last_lr().front();
  const bool finite = std::isfinite(loss) && std::isfinite(run.grad_norm);
  if (!finite) handle_non_finite(run, micro_batches, {.loss = loss, .own_loss = own_loss, .grad_norm = run.grad_norm});
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_pre_optimizer_step(context); });
  if (finite) optimizer_step(run);
  if (finite && run.sharding) run.sharding->after_step();
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_optimizer_step(context); });
  run.loss = loss;
  run.scheduler->step();
  run.zero_grad();
  if (finite && run.ema) run.ema->update();

  ++state_.global_step;
  group_->set_completed_step(state_.global_step);
  const bool hide = args_.logging_nan_inf_filter && !std::isfinite(loss);
  state_.loss_sum_since_log += hide ? state_.loss_sum_since_log / static_cast<double>(std::max<std::int64_t>(
                                                                      state_.global_step - 1 - state_.last_logged_step, 1))
                                    : loss;
  state_.total_loss += hide ? 0 : loss;
}

std::optional<double> Trainer::items_in_update(const std::vector<Batch>& micro_batches) const {
  if (!options_.token_weighted_loss || !model_->accepts_num_items_in_batch() || uses_own_loss() || micro_batches.empty() ||
      !micro_batches.front().contains("labels")) {
    return std::nullopt;
  }
  // An update without a single label has the loss 0, not 0 / 0.
  const auto own = static_cast<double>(count_predicted_tokens(micro_batches));
  if (mesh_.data->world_size() == 1 || !args_.average_tokens_across_devices) return std::max(own, 1.0);
  // Gradients and losses are averaged over ranks: with this divisor the averages are those over all ranks' tokens.
  std::vector<double> total{own};
  mesh_.data->sum(total, "the number of predicted tokens");
  return std::max(total[0], 1.0) / static_cast<double>(mesh_.data->world_size());
}

void Trainer::optimizer_step(Run& run) {
  try {
    run.optimizer->step();
  } catch (const std::exception& error) {
    rethrow_naming_memory(error, "training.optimizer");
  }
}

// The samples of this update; of several ranks those whose own loss is not finite, and all ranks' where each one's is.
std::string Trainer::samples_to_blame(const std::vector<Batch>& micro_batches, double own_loss) {
  const bool here = !std::isfinite(own_loss);
  const std::string own = list_samples(micro_batches);
  if (mesh_.data->world_size() == 1) return own;
  const std::vector<std::string> all =
      mesh_.data->gather_text(cat(here ? "!" : " ", own), "the samples of an update that is not finite");
  const bool known = std::any_of(all.begin(), all.end(), [](const std::string& text) { return text.front() == '!'; });
  std::vector<std::string> parts;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!known || all[rank].front() == '!')
      parts.push_back(cat(all[rank].substr(1), mesh_.tensor->world_size() > 1 ? " of copy " : " of rank ", rank));
  }
  return join(parts, "; ");
}

void Trainer::handle_non_finite(Run& run, const std::vector<Batch>& micro_batches, const UpdateNumbers& numbers) {
  const std::string what =
      cat("step ", state_.global_step + 1, ": expected a finite loss and gradient norm, got loss ", numbers.loss,
          ", grad_norm ", numbers.grad_norm, ", in the batch of samples ", samples_to_blame(micro_batches, numbers.own_loss));
  if (args_.nan_policy == NanPolicy::kSkip) {
    log_warning(what + "; the update is left out (training.nan_policy: SKIP)");
    return;
  }
  run.zero_grad();
  throw UserError(
      "training.loss", what,
      "weights were not touched. Look at these samples, lower training.learning_rate, clip with training.max_grad_norm, or "
      "leave such updates out with training.nan_policy: SKIP");
}

void Trainer::after_update(Run& run) {
  finish_background_save(run, BackgroundSave::kIfDone);
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_step_end(context); });
  run.events->on_progress({.step = state_.global_step,
                           .total = plan_.max_steps,
                           .samples = state_.samples_seen - run.resumed_samples,
                           .loss = run.loss,
                           .epoch = state_.epoch});
  maybe_log_evaluate_save(run);
}

void Trainer::maybe_log_evaluate_save(Run& run) {
  if (control_.should_log && state_.global_step > state_.last_logged_step) {
    MetricValues values{{"loss", state_.loss_sum_since_log / static_cast<double>(state_.global_step - state_.last_logged_step)},
                        {"grad_norm", run.grad_norm},
                        {"learning_rate", run.learning_rate}};
    const auto rates = run.rate.take();
    values.emplace_back("samples_per_second", rates.samples_per_second);
    if (rates.tokens_per_second > 0) values.emplace_back("tokens_per_second", rates.tokens_per_second);
    if (args_.include_num_input_tokens_seen != "no")
      values.emplace_back("num_input_tokens_seen", static_cast<double>(state_.num_input_tokens_seen));
    state_.loss_sum_since_log = 0;
    state_.last_logged_step = state_.global_step;
    log(values);
    if (args_.log_histograms) write_histograms(run);
  }
  control_.should_log = false;

  if (control_.should_evaluate || control_.should_save) mark_boundary(run);
  bool best_so_far = false;
  if (control_.should_evaluate && !options_.eval_dataset.sets.empty()) {
    const RateMeter::Pause pause(run.rate);
    state_.evaluation_pending = true;  // until it is done: a stop in the middle does it again on resume
    const MetricValues metrics = evaluate_or_stop(run);
    state_.evaluation_pending = false;
    if (args_.load_best_model_at_end || args_.save_strategy == "best" || args_.early_stopping_patience ||
        !args_.metric_for_best_model.empty()) {
      const double value = metric_value(metrics, best_metric_key(args_));
      // Early stopping compares with the best before this evaluation, so callbacks come first.
      notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_evaluate(context, metrics); });
      if (improves(args_, state_, value)) {
        state_.best_metric = value;
        state_.best_global_step = state_.global_step;
        best_so_far = true;
      }
    } else {
      notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_evaluate(context, metrics); });
    }
    if (run.scheduler->needs_metric()) run.scheduler->step_metric(metric_value(metrics, best_metric_key(args_)));
    if (args_.save_strategy == "best") control_.should_save = best_so_far;
  }
  control_.should_evaluate = false;

  if (control_.should_save) {
    const RateMeter::Pause pause(run.rate);
    save_checkpoint(run);
    control_.should_save = false;
  }
}

MetricValues Trainer::evaluate_or_stop(Run& run) {
  try {
    return evaluate();
  } catch (const EvaluationInterrupted&) {
    stop_if_asked(run);  // here, and not inside: averaged weights are out of the model again
    throw InternalError("an evaluation was interrupted without a request to stop");
  }
}

void Trainer::write_histograms(Run& run) {
  if (!group_->is_main()) return;
  for (const auto& [name, tensor] : state_dict(*model_)) {
    if (!tensor.is_floating_point()) continue;
    const Tensor values = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
    run.events->on_histogram(name, state_.global_step,
                             {values.const_data_ptr<float>(), static_cast<std::size_t>(values.numel())});
  }
}

void Trainer::stop_if_asked(Run& run) {
  // A signal to one rank stops all of them here.
  const auto signal = static_cast<int>(group_->max({requested_stop_signal()}, "the request to stop").front());
  if (signal == 0) return;
  // Back to the last whole update: its gradients so far are dropped, random state and buffers are those from before it.
  run.zero_grad();
  restore_cpu_rng_state(run.boundary.rng_state);
  if (!run.boundary.buffers.empty()) {
    const c10::AutoGradMode no_grad(false);
    std::size_t i = 0;
    for (Tensor& buffer : model_->buffers()) buffer.copy_(run.boundary.buffers[i++]);
  }
  save_checkpoint(run);
  finish_background_save(run, BackgroundSave::kWait);
  throw StoppedBySignal(signal);
}

}  // namespace oumi
