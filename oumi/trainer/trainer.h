// The Hugging Face-style Trainer: one engine behind `oumi-cpp train`, this class and its subclasses.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "oumi/data/collate.h"
#include "oumi/data/dataset.h"
#include "oumi/distributed/rank_mesh.h"
#include "oumi/metrics/metric.h"
#include "oumi/models/model.h"
#include "oumi/trainer/callbacks.h"
#include "oumi/trainer/training_arguments.h"

namespace oumi {

class DataLoader;
class CheckpointWriter;
class LrScheduler;

// All predictions and labels of an evaluation set, for `compute_metrics`. Holding them takes memory for the whole set; a
// Metric (metrics/metric.h) is fed batch by batch instead.
struct EvalPrediction {
  Tensor predictions;  // [samples, ...]
  Tensor label_ids;    // [samples, ...], undefined when the set has no labels
};

using ComputeMetrics = std::function<MetricValues(const EvalPrediction&)>;
// Replaces the model's own loss.
using ComputeLossFunc = std::function<Tensor(const Outputs& outputs, const Batch& batch)>;

// One evaluation set, or several by name (their metrics are eval_<name>_loss, ...).
struct EvalDatasets {
  EvalDatasets() = default;
  EvalDatasets(DatasetPtr dataset);  // NOLINT: the page's `.eval_dataset = dataset`
  template <class T, class = std::enable_if_t<std::is_base_of_v<Dataset, T>>>
  EvalDatasets(std::shared_ptr<T> dataset) : EvalDatasets(DatasetPtr(std::move(dataset))) {}       // NOLINT
  EvalDatasets(std::vector<std::pair<std::string, DatasetPtr>> named) : sets(std::move(named)) {}  // NOLINT
  std::vector<std::pair<std::string, DatasetPtr>> sets;  // a single unnamed set has the name ""
};

struct Optimizers {
  std::shared_ptr<torch::optim::Optimizer> optimizer;
  std::shared_ptr<LrScheduler> lr_scheduler;
};

// The constructor's arguments in HF's order, for designated initialisers.
struct TrainerOptions {
  ModelPtr model{};
  TrainingArguments args{};
  CollateFn data_collator = {};
  DatasetPtr train_dataset = {};
  EvalDatasets eval_dataset = {};
  std::function<ModelPtr()> model_init = {};  // called after seeding when `model` is empty
  ComputeLossFunc compute_loss_func = {};
  ComputeMetrics compute_metrics = {};
  std::vector<CallbackPtr> callbacks = {};
  Optimizers optimizers = {};  // empty: built from args

  // --- ours ---
  std::vector<MetricPtr> metrics = {};      // fed batch by batch; default: ClassificationMetric
  Json dataloader_kwargs = Json::object();  // any DataLoader option for training; wins over args.dataloader_*
  Json eval_dataloader_kwargs = Json::object();
  bool token_weighted_loss =
      true;  // of models that take it: an update's loss is a mean over its tokens, not over its micro-batches
  PeftSaveMode peft_save_mode = PeftSaveMode::kAdapterOnly;  // what save_model writes of a model with adapters
  std::string config_yaml = {};                              // written into checkpoints and TensorBoard's text
  // Called with each folder that weights were written into: what belongs beside them, such as a tokenizer.
  std::function<void(const std::filesystem::path&)> save_beside_weights = {};
  std::shared_ptr<ProcessGroup> process_group = {};  // default: as the environment says (RANK, WORLD_SIZE, ...)
  // Where the model is a tensor-parallel group's (LanguageModelOptions), the grid with that group; wins over process_group.
  RankMesh mesh = {};
};

struct TrainOutput {
  std::int64_t global_step = 0;
  double training_loss = 0;  // mean over all updates of the run
  MetricValues metrics;
};

// One batch's worth of predictions, handed on as they are made.
struct PredictionBatch {
  std::vector<std::int64_t> sample_ids;
  Tensor predictions;  // logits [batch, ...], float32 on the CPU
  std::optional<Tensor> labels;
};
using PredictionConsumer = std::function<void(const PredictionBatch&)>;

// The weights of a checkpoint, saved whole or in parts. Throws UserError.
void load_checkpoint_weights(Model& model, const std::filesystem::path& checkpoint);

// The processes that the environment names (distributed/rank_layout.h); alone where it names none. Throws EnvironmentError when
// they do not meet.
std::shared_ptr<ProcessGroup> connect_ranks(const TrainingArguments& args);

class Trainer {
 public:
  // Throws UserError for arguments that do not fit each other.
  explicit Trainer(TrainerOptions options);
  virtual ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Trains to the end of the plan, or from a checkpoint on when `resume_from_checkpoint` (a folder, or "last") or the
  // argument of that name is set. Throws StoppedBySignal after a complete checkpoint when SIGINT or SIGTERM arrives.
  TrainOutput train(const std::string& resume_from_checkpoint = "");

  // Loss and metrics of `datasets` (default: eval_dataset), their names prefixed with "<prefix>_".
  virtual MetricValues evaluate(const EvalDatasets& datasets = {}, const std::string& prefix = "eval");

  // Feeds every batch's predictions to `consumer`; returns loss and metrics where there are labels.
  virtual MetricValues predict(const DatasetPtr& dataset, const PredictionConsumer& consumer,
                               const std::string& prefix = "test");

  // Writes model.safetensors and config.json (default: into output_dir). Of a tensor-parallel group every rank calls it.
  void save_model(const std::filesystem::path& directory = {});

  void add_callback(CallbackPtr callback);

  Model& model() { return *model_; }
  const TrainingArguments& args() const noexcept { return args_; }
  const TrainerState& state() const noexcept { return state_; }
  torch::optim::Optimizer* optimizer() noexcept;
  // The processes that train together; a world size of 1 when there are no others.
  ProcessGroup& process_group() noexcept { return *group_; }

 protected:
  // --- HF's override points ---
  // The batch's loss. `outputs`, when not null, receives the model's outputs.
  virtual Tensor compute_loss(Model& model, const Batch& batch, Outputs* outputs);
  // Forward and backward of one of an update's `micro_batches`; returns the loss's share of the update (loss / micro_batches).
  virtual Tensor training_step(Model& model, const Batch& batch, std::int64_t micro_batches);
  // Backward of one micro-batch's loss, with what the layout over ranks needs around it. An overriding training_step calls it
  // in place of loss.backward().
  void backward(const Tensor& loss);
  // Logs of the run pass here.
  enum class LogKind { kTraining, kEvaluation, kSummary };
  virtual void log(const MetricValues& values, LogKind kind = LogKind::kTraining);

 private:
  struct Run;  // what exists only while training: loader, optimizer, schedule, sinks, resume position

  void run_epochs(Run& run);
  void run_epoch(Run& run, std::int64_t epoch);
  void update(Run& run, std::vector<Batch>& micro_batches);
  void mark_boundary(Run& run);
  MetricValues evaluate_or_stop(Run& run);
  void after_update(Run& run);
  void maybe_log_evaluate_save(Run& run);
  void prepare(Run& run);
  void restore_weights(const std::filesystem::path& checkpoint);
  void agree_on_deferred_weights();
  void take_weights_into_shards(Run& run, const std::filesystem::path& checkpoint);
  bool streams_weights(const Run& run) const;
  void save_final_model(Run& run);
  void save_whole_weights(Run& run, const std::filesystem::path& directory);
  void restore_optimizer(Run& run, const std::filesystem::path& checkpoint);
  void restore(Run& run, const std::filesystem::path& checkpoint);
  Json data_position(const Run& run) const;
  void restore_data_position(Run& run, const std::filesystem::path& checkpoint);
  Json position_of_steps(Run& run) const;
  void replan_after_change(Run& run, const Json& data, const std::string& changes);
  std::shared_ptr<LrScheduler> make_scheduler(Run& run) const;
  void restore_rng(Run& run, const std::filesystem::path& checkpoint);
  void write_main_files(Run& run, CheckpointWriter& writer);
  void write_own_files(Run& run, const std::filesystem::path& directory);
  bool weights_in_parts() const;
  std::filesystem::path find_checkpoint();
  bool starts_over() const;
  void set_up_ranks(Run& run, const std::filesystem::path& checkpoint);
  void check_tensor_parallel() const;
  void spread_gradient_norm(Run& run) const;
  std::int64_t shard_group_size() const;
  double clip_gradients(Run& run);
  void save_checkpoint(Run& run);
  void remove_older_checkpoints(const std::optional<std::int64_t>& best_step) const;
  enum class BackgroundSave { kIfDone, kWait };
  // Throws what went wrong with a checkpoint that is written in the background.
  void finish_background_save(Run& run, BackgroundSave wait);
  void stop_if_asked(Run& run);
  struct UpdateNumbers {
    double loss = 0, own_loss = 0;  // of all ranks, of this one
    double grad_norm = 0;
  };
  void handle_non_finite(Run& run, const std::vector<Batch>& micro_batches, const UpdateNumbers& numbers);
  std::string samples_to_blame(const std::vector<Batch>& micro_batches, double own_loss);
  void optimizer_step(Run& run);
  void finish(Run& run, TrainOutput& output);
  void write_histograms(Run& run);
  // The first samples of the evaluation set and what the model says of them; empty where a report shows none. With sharded
  // weights a collective.
  struct ShownSamples {
    Batch batch = {};
    Tensor logits = {};  // [samples, classes]
  };
  ShownSamples shown_samples();
  void write_report_data(const ShownSamples& shown);
  MetricValues evaluate_set(const DatasetPtr& dataset, const std::string& prefix, const PredictionConsumer& consumer);
  bool uses_own_loss() const;
  Tensor loss_of(Model& model, const Batch& batch, Outputs* outputs);
  // What a model that divides its summed loss by the labels it predicts divides the update's by; nothing for other models. A
  // collective over ranks.
  std::optional<double> items_in_update(const std::vector<Batch>& micro_batches) const;
  template <class Notify>
  void notify(Notify&& notify_one);

  TrainingArguments args_;
  TrainerOptions options_;
  std::shared_ptr<ProcessGroup> group_;  // all ranks
  RankMesh mesh_;
  ModelPtr model_;
  c10::Device device_;
  TrainerState state_;
  TrainerControl control_;
  StepPlan plan_;
  std::vector<CallbackPtr> callbacks_;
  std::unique_ptr<Run> run_;
};

}  // namespace oumi
