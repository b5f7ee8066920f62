// Evaluation and prediction: one pass over a set, batch by batch, in memory that does not grow with it.
#include <ATen/ops/cat.h>
#include <c10/core/GradMode.h>

#include <chrono>

#include "oumi/base/strings.h"
#include "oumi/metrics/classification.h"
#include "oumi/models/language_model.h"
#include "oumi/trainer/precision.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/trainer_notify.h"

namespace oumi {
namespace {

// Switches a module's training mode for a scope.
class EvaluationMode {
 public:
  explicit EvaluationMode(torch::nn::Module& module) : module_(module), was_training_(module.is_training()) { module_.eval(); }
  ~EvaluationMode() { module_.train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
};

std::unique_ptr<DataLoader> evaluation_loader(const DatasetPtr& dataset, const TrainerOptions& options,
                                              const TrainingArguments& args, std::int64_t rank, std::int64_t world_size) {
  Json kwargs{{"batch_size", args.per_device_eval_batch_size}, {"num_workers", args.dataloader_num_workers}};
  if (args.dataloader_num_workers > 0 && args.dataloader_prefetch_factor)
    kwargs["prefetch_factor"] = *args.dataloader_prefetch_factor;
  for (const auto& [key, value] : options.eval_dataloader_kwargs.items()) kwargs[key] = value;
  DataLoaderOptions loader_options = DataLoaderOptions::from_kwargs(kwargs);
  loader_options.collate_fn = options.data_collator;
  // Every sample once: where the ranks don't divide the set, some have a batch less.
  loader_options.rank = rank;
  loader_options.world_size = world_size;
  loader_options.even_batches = false;
  return std::make_unique<DataLoader>(dataset, loader_options);
}

void merge_over_ranks(ProcessGroup& group, Metric& metric) {
  const std::vector<std::string> all = group.gather_text(metric.counts()->dump(), "the evaluation's metrics");
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (static_cast<std::int64_t>(rank) != group.rank()) metric.merge(Json::parse(all[rank]));
  }
}

}  // namespace

MetricValues Trainer::evaluate(const EvalDatasets& datasets, const std::string& prefix) {
  const EvalDatasets& sets = datasets.sets.empty() ? options_.eval_dataset : datasets;
  if (sets.sets.empty()) {
    throw UserError("data.validation", "there is nothing to evaluate on",
                    "give an eval_dataset, or data.validation.datasets in the config");
  }
  // The averaged weights are what is saved in the end, so they are what is measured.
  std::optional<AveragedParameters> averaged;
  if (run_ && run_->ema) averaged.emplace(*run_->ema);
  MetricValues all;
  for (const auto& [name, dataset] : sets.sets) {
    MetricValues metrics = evaluate_set(dataset, name.empty() ? prefix : prefix + "_" + name, {});
    log(metrics, LogKind::kEvaluation);
    all.insert(all.end(), metrics.begin(), metrics.end());
  }
  return all;
}

MetricValues Trainer::predict(const DatasetPtr& dataset, const PredictionConsumer& consumer, const std::string& prefix) {
  MetricValues metrics = evaluate_set(dataset, prefix, consumer);
  notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_predict(context, metrics); });
  return metrics;
}

MetricValues Trainer::evaluate_set(const DatasetPtr& dataset, const std::string& prefix, const PredictionConsumer& consumer) {
  const EvaluationMode evaluation_mode(*model_);
  const c10::AutoGradMode no_grad(false);
  const AutocastScope autocast(device_, args_.bf16 || args_.bf16_full_eval);
  const auto started = std::chrono::steady_clock::now();

  // What needs all predictions in one place is done whole on every rank.
  bool spread = !consumer && !options_.compute_metrics;
  for (const MetricPtr& metric : options_.metrics) spread = spread && metric->counts().has_value();
  const bool weights_sharded = run_ != nullptr && run_->sharding != nullptr && args_.sharding.shards_weights();
  // Then each rank needs a batch of its own.
  if (weights_sharded)
    spread =
        spread && dataset->is_map_style() && dataset->size() >= args_.per_device_eval_batch_size * mesh_.data->world_size();
  std::optional<Batch> last;
  const auto loader =
      evaluation_loader(dataset, options_, args_, spread ? mesh_.data->rank() : 0, spread ? mesh_.data->world_size() : 1);
  loader->start_epoch(0);
  const std::vector<MetricPtr>& metrics = options_.metrics;
  auto* language_model = dynamic_cast<LanguageModel*>(model_.get());
  if (language_model != nullptr) {
    language_model->set_loss_only(metrics.empty() && !options_.compute_metrics && !options_.compute_loss_func && !consumer &&
                                  !uses_own_loss());
  }
  if (!args_.prediction_loss_only) {
    for (const MetricPtr& metric : metrics) metric->reset();
  }
  std::vector<Tensor> kept_predictions, kept_labels;  // only for compute_metrics, which wants them all
  double loss_sum = 0;
  std::int64_t samples_with_loss = 0, samples = 0, batches = 0;
  const std::int64_t total_batches = loader->batches_per_epoch().value_or(0);
  while (true) {
    std::optional<Batch> next = loader->next();
    // Ranks stay together to the last batch of any of them, and leave together when one is asked to stop.
    const auto agreed = group_->max({run_ != nullptr ? requested_stop_signal() : 0, next ? 1 : 0}, "evaluation");
    if (agreed[0] != 0) throw EvaluationInterrupted();
    if (agreed[1] == 0) break;
    if (!next) {
      if (weights_sharded) (*model_)(*last);  // gathering weights takes every rank
      continue;
    }
    const Batch batch = device_.is_cpu() ? std::move(*next) : next->to(device_);
    if (weights_sharded) last = batch;
    const std::int64_t batch_size = batch.batch_size();
    Outputs outputs;
    if (batch.contains("labels") || uses_own_loss()) {
      const Tensor loss = compute_loss(*model_, batch, &outputs);
      // As HF: each batch's mean counts once for each of its samples.
      loss_sum += loss.item<double>() * static_cast<double>(batch_size);
      samples_with_loss += batch_size;
    } else {
      outputs = (*model_)(batch);
    }
    if (!args_.prediction_loss_only) {
      for (const MetricPtr& metric : metrics) metric->update(outputs, batch);
    }
    if (consumer || options_.compute_metrics) {
      const Tensor predictions = outputs.logits().to(at::kCPU, at::kFloat);
      const Tensor* labels = batch.find("labels");
      if (consumer) consumer({batch.sample_ids, predictions, labels ? std::optional<Tensor>(labels->cpu()) : std::nullopt});
      if (options_.compute_metrics && !args_.prediction_loss_only) {
        kept_predictions.push_back(predictions);
        if (labels != nullptr) kept_labels.push_back(labels->cpu());
      }
    }
    samples += batch_size;
    ++batches;
    if (run_ != nullptr) {
      run_->events->on_progress({.phase = consumer ? Phase::kPredict : Phase::kEvaluate,
                                 .step = batches,
                                 .total = total_batches,
                                 .samples = samples,
                                 .epoch = state_.epoch});
    }
    notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_prediction_step(context); });
  }
  if (spread && mesh_.data->world_size() > 1) {
    std::vector<double> sums{loss_sum, static_cast<double>(samples_with_loss), static_cast<double>(samples),
                             static_cast<double>(batches)};
    mesh_.data->sum(sums, "the evaluation's loss");
    loss_sum = sums[0];
    samples_with_loss = static_cast<std::int64_t>(sums[1]);
    samples = static_cast<std::int64_t>(sums[2]);
    batches = static_cast<std::int64_t>(sums[3]);
    for (const MetricPtr& metric : metrics) merge_over_ranks(*mesh_.data, *metric);
  }
  if (samples == 0) throw UserError(dataset->name(), "the evaluation set yields no samples: expected at least one, got 0");

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  MetricValues values;
  if (samples_with_loss > 0) values.emplace_back(prefix + "_loss", loss_sum / static_cast<double>(samples_with_loss));
  if (!args_.prediction_loss_only) {
    for (const MetricPtr& metric : metrics) {
      for (const auto& [name, value] : metric->compute()) values.emplace_back(prefix + "_" + name, value);
    }
    if (options_.compute_metrics) {
      const EvalPrediction all{at::cat(kept_predictions), kept_labels.empty() ? Tensor() : at::cat(kept_labels)};
      for (const auto& [name, value] : options_.compute_metrics(all)) {
        values.emplace_back(name.rfind(prefix + "_", 0) == 0 ? name : prefix + "_" + name, value);
      }
    }
  }
  values.emplace_back(prefix + "_runtime", seconds);
  values.emplace_back(prefix + "_samples_per_second", static_cast<double>(samples) / seconds);
  values.emplace_back(prefix + "_steps_per_second", static_cast<double>(batches) / seconds);
  return values;
}

}  // namespace oumi
