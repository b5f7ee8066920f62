#include "oumi/trainer/trainer.h"

#include <ATen/Context.h>
#include <c10/core/GradMode.h>
#include <torch/optim/optimizer.h>

#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"
#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/rotation.h"
#include "oumi/data/length_grouping.h"
#include "oumi/metrics/classification.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/language_model.h"
#include "oumi/models/state.h"
#include "oumi/models/tensor_parallel_state.h"
#include "oumi/nn/layers.h"
#include "oumi/optim/clip_grad.h"
#include "oumi/optim/optimizer.h"
#include "oumi/telemetry/logging.h"
#include "oumi/telemetry/metrics_file.h"
#include "oumi/trainer/finetuning.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/sharded_state.h"
#include "oumi/trainer/trainer_notify.h"

namespace oumi {
namespace fs = std::filesystem;

EvalDatasets::EvalDatasets(DatasetPtr dataset) {
  if (dataset) sets.emplace_back("", std::move(dataset));
}

void load_checkpoint_weights(Model& model, const fs::path& checkpoint) {
  if (!has_weights_parts(checkpoint)) return load_weights_into(model, checkpoint);
  load_state_dict(model, load_weights_parts(checkpoint, model), /*strict=*/true, checkpoint.string());
}

std::shared_ptr<ProcessGroup> connect_ranks(const TrainingArguments& args) {
  // Several Trainers of one process share a group while any of them is alive; each later group has a meeting of its own.
  static std::weak_ptr<ProcessGroup> shared;
  static int meetings = 0;
  if (auto group = shared.lock()) return group;
  RankLayout layout = read_rank_layout();
  layout.attempt += cat(".", meetings++);
  ProcessGroupOptions options{.timeout = std::chrono::seconds(args.ddp_timeout), .use_nccl = at::hasCUDA() && !args.use_cpu};
  if (const char* seconds = std::getenv("OUMI_JOIN_TIMEOUT"); seconds != nullptr && std::atoll(seconds) > 0) {
    options.join_timeout = std::chrono::seconds(std::atoll(seconds));
  }
  const auto group = ProcessGroup::connect(layout, options);
  shared = group;
  return group;
}

Trainer::Trainer(TrainerOptions options)
    : args_(options.args),
      options_(std::move(options)),
      group_(options_.mesh.world      ? options_.mesh.world
             : options_.process_group ? options_.process_group
                                      : connect_ranks(args_)),
      mesh_(options_.mesh.world ? options_.mesh : make_rank_mesh(group_, 1)),
      device_(at::hasCUDA() && !args_.use_cpu
                  ? c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(group_->layout().local_rank))
                  : c10::Device(at::kCPU)) {
  validate(args_);
  at::manual_seed(args_.seed);
  if (args_.full_determinism) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  model_ = options_.model ? options_.model : options_.model_init ? options_.model_init() : nullptr;
  if (!model_) throw UserError("trainer", "there is no model: expected `model` or `model_init`, got neither");
  if (!device_.is_cpu()) model_->to(device_);
  const LanguageModelPtr language = as_language_model(model_);
  if (model_->weights_deferred() && !(group_->world_size() > 1 && args_.sharding.shards_weights() && device_.is_cpu()))
    model_->make_deferred_weights();
  if (language) {
    language->set_label_smoothing(args_.label_smoothing_factor);
    if (!args_.class_weights.empty())
      throw UserError("training.class_weights", "expected none for a language model", "they are for classification");
  }
  // A language model's labels are shifted and its classes are a vocabulary: its loss alone is measured, without logits.
  if (options_.metrics.empty() && !options_.compute_metrics && !language)
    options_.metrics.push_back(std::make_shared<ClassificationMetric>());
  callbacks_.push_back(std::make_shared<DefaultFlowCallback>());
  if (args_.early_stopping_patience) {
    callbacks_.push_back(
        std::make_shared<EarlyStoppingCallback>(*args_.early_stopping_patience, args_.early_stopping_threshold));
  }
  for (CallbackPtr& callback : options_.callbacks) callbacks_.push_back(callback);
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_init_end(context); });
}

Trainer::~Trainer() = default;

torch::optim::Optimizer* Trainer::optimizer() noexcept { return run_ ? run_->optimizer.get() : nullptr; }

void Trainer::add_callback(CallbackPtr callback) { callbacks_.push_back(std::move(callback)); }

void Trainer::save_model(const fs::path& directory) {
  const fs::path folder = directory.empty() ? fs::path(args_.output_dir) : directory;
  save_trained_model(*model_, folder, options_.peft_save_mode);
  if (options_.save_beside_weights && mesh_.tensor->is_main()) options_.save_beside_weights(folder);
}

namespace {

DataLoaderOptions training_loader_options(const TrainingArguments& args, const TrainerOptions& options,
                                          const ProcessGroup& group) {
  Json kwargs{{"batch_size", args.per_device_train_batch_size},
              {"shuffle", args.train_sampling_strategy == "random" && options.train_dataset->is_map_style()},
              {"num_workers", args.dataloader_num_workers},
              {"drop_last", args.dataloader_drop_last},
              {"pin_memory", args.dataloader_pin_memory},
              {"persistent_workers", args.dataloader_persistent_workers && args.dataloader_num_workers > 0},
              {"in_order", args.dataloader_in_order},
              {"seed", args.data_seed.value_or(args.seed)}};
  if (args.dataloader_prefetch_factor) kwargs["prefetch_factor"] = *args.dataloader_prefetch_factor;
  for (const auto& [key, value] : options.dataloader_kwargs.items()) kwargs[key] = value;
  DataLoaderOptions loader = DataLoaderOptions::from_kwargs(kwargs);
  loader.rank = group.rank();
  loader.world_size = group.world_size();
  if (loader.world_size > 1 && !loader.even_batches) {
    throw UserError("data.train.dataloader_kwargs.even_batches", "expected true with several ranks, got false",
                    "ranks that end at different steps would wait for each other for ever");
  }
  if (options.data_collator) loader.collate_fn = options.data_collator;
  return loader;
}

// Names of the weights of embedding layers.
std::vector<std::string> embedding_weights(const Model& model) {
  std::vector<std::string> names;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (dynamic_cast<const nn::EmbeddingImpl*>(item.value().get()) != nullptr) names.push_back(item.key() + ".weight");
  }
  return names;
}

}  // namespace

namespace {

bool is_elementwise_optimizer(const std::string& name) {
  const std::string lower = to_lower(name);
  if (lower.find("8bit") != std::string::npos) return false;
  for (const char* prefix : {"adamw", "adam", "sgd", "adagrad", "rmsprop", "lion", "paged_adamw", "paged_lion"}) {
    if (lower.starts_with(prefix)) return true;
  }
  return false;
}

// The same groups over this rank's part of each parameter. A group may be left empty.
std::vector<ParameterGroup> groups_of_shards(std::vector<ParameterGroup> groups, const std::vector<ParameterShard>& shards) {
  std::map<std::string, Tensor> parts;
  for (const ParameterShard& shard : shards) {
    if (shard.value.defined()) parts[shard.name] = shard.value;
  }
  for (ParameterGroup& group : groups) {
    NamedParameters own;
    for (const auto& [name, parameter] : group.parameters) {
      if (const auto part = parts.find(name); part != parts.end()) own.emplace_back(name, part->second);
    }
    group.parameters = std::move(own);
  }
  return groups;
}

}  // namespace

void Trainer::prepare(Run& run) {
  if (!options_.train_dataset) throw UserError("data.train", "there is no training set: expected a train_dataset, got none");
  if (args_.eval_strategy != "no" && options_.eval_dataset.sets.empty()) {
    throw UserError("training.eval_strategy",
                    "expected an evaluation set, since eval_strategy is '" + args_.eval_strategy + "', got none",
                    "give data.validation.datasets, or set training.eval_strategy: 'no'");
  }
  group_->on_main(
      [&] {
        make_directories(args_.output_dir);
        run.lock = std::make_unique<FileLock>(fs::path(args_.output_dir) / ".lock");
        clean_stale_checkpoints(args_.output_dir);
        clean_stale_files(args_.output_dir);
        clean_stale_files(fs::path(args_.output_dir) / "telemetry");
      },
      "taking the output folder");

  DataLoaderOptions loader_options = training_loader_options(args_, options_, *mesh_.data);
  if (args_.train_sampling_strategy == "group_by_length") {
    loader_options.sampler = std::make_shared<LengthGroupedSampler>(
        sample_lengths(*options_.train_dataset, args_.length_column_name == "length" ? "input_ids" : args_.length_column_name),
        LengthGroupedSamplerOptions{.batch_size = args_.per_device_train_batch_size * args_.gradient_accumulation_steps,
                                    .seed = args_.data_seed.value_or(args_.seed)});
    loader_options.shuffle = false;
  }
  run.loader = std::make_unique<DataLoader>(options_.train_dataset, loader_options);
  plan_ = plan_steps(args_, run.loader->batches_per_epoch());

  ParameterGroupOptions group_options{.weight_decay = args_.weight_decay};
  for (const ParameterGroupParams& group : args_.parameter_groups) {
    group_options.overrides.push_back({group.pattern, group.learning_rate, group.weight_decay, group.freeze});
  }
  // The weights first: what follows may split them over ranks.
  const fs::path checkpoint = args_.resume_from_checkpoint.empty() ? fs::path() : find_checkpoint();
  if (!checkpoint.empty()) restore_weights(checkpoint);
  std::vector<ParameterGroup> groups = make_parameter_groups(*model_, group_options);
  if (group_->world_size() > 1) set_up_ranks(run, checkpoint);
  if (run.sharding) groups = groups_of_shards(groups, run.sharding->shards());
  run.parameter_names = parameter_names(groups);
  NamedParameters trained;
  for (const ParameterGroup& group : groups) trained.insert(trained.end(), group.parameters.begin(), group.parameters.end());
  // In the model's order, as PyTorch sums the norm: another order rounds differently.
  const std::map<std::string, TensorSplit> splits = tensor_splits(*model_);
  for (const auto& [name, parameter] : unique_named_parameters(*model_)) {
    if (!parameter.requires_grad()) continue;
    run.parameters.push_back(parameter);
    if (mesh_.tensor->is_main() || splits.contains(name)) run.counted_parameters.push_back(parameter);
  }

  run.optimizer = options_.optimizers.optimizer;
  if (!run.optimizer) {
    run.optimizer = make_optimizer({.name = args_.optim,
                                    .learning_rate = args_.learning_rate,
                                    .adam_beta1 = args_.adam_beta1,
                                    .adam_beta2 = args_.adam_beta2,
                                    .adam_epsilon = args_.adam_epsilon,
                                    .sgd_momentum = args_.sgd_momentum,
                                    .full_precision_states = embedding_weights(*model_),
                                    .optim_args = args_.optim_args},
                                   groups);
  }
  run.scheduler = options_.optimizers.lr_scheduler;
  if (!run.scheduler) run.scheduler = make_scheduler(run);
  if (run.scheduler->needs_metric() && args_.eval_strategy == "no") {
    throw UserError("training.lr_scheduler_type",
                    "'" + args_.lr_scheduler_type + "' follows an evaluation metric: expected an eval_strategy other than 'no'",
                    "set training.eval_strategy");
  }
  if (args_.ema_decay) run.ema = std::make_unique<ExponentialMovingAverage>(trained, *args_.ema_decay);

  state_ = TrainerState();
  control_ = TrainerControl();
  const auto apply_plan = [&] {
    state_.max_steps = plan_.max_steps;
    state_.num_train_epochs = plan_.num_train_epochs;
    state_.logging_steps = plan_.logging_steps;
    state_.eval_steps = plan_.eval_steps;
    state_.save_steps = plan_.save_steps;
    state_.train_batch_size = args_.per_device_train_batch_size;
  };
  apply_plan();

  if (!checkpoint.empty()) {
    restore(run, checkpoint);
    apply_plan();
  } else if (starts_over() && group_->is_main()) {
    cut_metrics_file(metrics_path(args_.output_dir), kBeforeTheFirstStep);
  }

  TelemetryOptions telemetry{.output_dir = args_.output_dir, .rank = group_->rank()};
  if (!args_.logging_dir.empty()) telemetry.tensorboard_dir = args_.logging_dir;
  telemetry.enable_tensorboard =
      std::find(args_.report_to.begin(), args_.report_to.end(), "tensorboard") != args_.report_to.end();
  telemetry.enable_progress_bar = !args_.disable_tqdm.value_or(false);
  run.events = make_event_hub(telemetry);
  run.events->on_run_begin({.run_name = args_.run_name,
                            .output_dir = args_.output_dir,
                            .config_yaml = options_.config_yaml,
                            .start_step = state_.global_step,
                            .starts_over = checkpoint.empty() && starts_over(),
                            .total_steps = plan_.max_steps,
                            .rank = group_->rank(),
                            .world_size = group_->world_size()});
}

// Whether a run without a checkpoint may follow one that was stopped before its first: what that one logged is logged again.
bool Trainer::starts_over() const { return args_.resume_from_checkpoint == "last"; }

// The checkpoint that resume_from_checkpoint means, the same on every rank; empty when "last" finds none.
fs::path Trainer::find_checkpoint() {
  if (args_.resume_from_checkpoint != "last") return args_.resume_from_checkpoint;
  std::string found;
  group_->on_main(
      [&] {
        const ResumeSearch search = find_resume_checkpoint(args_.output_dir);
        for (const SkippedCheckpoint& skipped : search.skipped)
          log_warning("skipping " + skipped.path.string() + ": " + skipped.reason);
        if (search.checkpoint) found = search.checkpoint->string();
        if (found.empty()) log_info("no checkpoint to resume from in " + args_.output_dir + "; starting from the beginning");
      },
      "looking for a checkpoint");
  return group_->broadcast_text(found, "looking for a checkpoint");
}

namespace {

// What decides which collectives a rank makes, and when: where it differs, ranks wait for each other in vain.
std::string describe_plan(const TrainingArguments& args, const StepPlan& plan) {
  return cat(kVersion, "\nsteps ", plan.max_steps, "\nsharding ", static_cast<int>(args.sharding.mode),
             "\ngradient_accumulation_steps ", args.gradient_accumulation_steps, "\nseed ", args.seed, "\ndata_seed ",
             args.data_seed.value_or(args.seed), "\nlogging_steps ", plan.logging_steps, "\neval_strategy ", args.eval_strategy,
             "\neval_steps ", plan.eval_steps, "\nsave_strategy ", args.save_strategy, "\nsave_steps ", plan.save_steps,
             "\noptimizer ", args.optim, "\nasync_save ", args.async_save, "\nmax_grad_norm ", args.max_grad_norm,
             "\nnan_policy ", static_cast<int>(args.nan_policy), "\n");
}

// What travels between the copies of a model.
std::string describe_tensors(const Model& model) {
  std::string text;
  for (const auto& [name, tensor] : state_dict(model))
    text += cat(name, " ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(), "\n");
  return text;
}

}  // namespace

// Makes the ranks one run: the same weights to start from, and gradients averaged from here on.
void Trainer::set_up_ranks(Run& run, const fs::path& checkpoint) {
  if (args_.async_save) run.savers = group_->for_another_thread("savers");
  run.straggler = std::make_unique<StragglerWatch>(group_);
  require_same_on_all_ranks(*group_, describe_plan(args_, plan_), "the run's plan");
  check_tensor_parallel();
  require_same_on_all_ranks(*mesh_.data, describe_tensors(*model_), "the model's parameters");
  const LanguageModelPtr language = as_language_model(model_);
  agree_on_deferred_weights();
  run.weights_stay_sharded = model_->weights_deferred();
  std::vector<Tensor> tensors;
  for (const auto& [name, parameter] : unique_named_parameters(*model_)) {
    if (!model_->is_deferred(name)) tensors.push_back(parameter);
  }
  for (const Tensor& buffer : model_->buffers()) tensors.push_back(buffer);
  broadcast_from_main(*mesh_.data, tensors, "the initial weights");
  NamedParameters trained;
  for (const auto& [name, parameter] : unique_named_parameters(*model_)) {
    if (parameter.requires_grad()) trained.emplace_back(name, parameter);
  }
  GradientSyncOptions options{.find_unused_parameters = args_.ddp_find_unused_parameters.value_or(true)};
  if (args_.ddp_bucket_cap_mb) options.bucket_bytes = *args_.ddp_bucket_cap_mb * 1024 * 1024;
  if (args_.sharding.mode == ShardingMode::kNone) {
    run.gradient_sync = std::make_unique<GradientSync>(mesh_.data, trained, options);
    return;
  }
  if (has_adapters(*model_)) {
    throw UserError("training.use_peft",
                    "adapters with sharded state are not built yet: expected whole state, got a sharding strategy",
                    "train adapters on several ranks without fsdp and deepspeed");
  }
  if (options_.optimizers.optimizer || !is_elementwise_optimizer(args_.optim)) {
    throw UserError("training.optimizer",
                    "expected an optimizer that works element by element (adamw, adam, sgd, adagrad, rmsprop, lion) with "
                    "sharded state, got " +
                        (options_.optimizers.optimizer ? std::string("one of your own") : args_.optim),
                    "choose another optimizer, or train without sharding");
  }
  if (args_.sharding.mode == ShardingMode::kZero1) {
    run.shard_groups = make_shard_groups(mesh_.data, 0, "");
    run.sharding = shard_optimizer(mesh_.data, trained, options);
    spread_gradient_norm(run);
    return;
  }
  if (args_.ema_decay || args_.log_histograms) {
    throw UserError(args_.ema_decay ? "training.ema_decay" : "training.log_histograms",
                    "needs the whole weights after each step: expected none with sharded weights, got one",
                    "leave it out, or use a strategy that keeps weights whole (NO_SHARD, ZERO_1)");
  }
  run.shard_groups = make_shard_groups(mesh_.data, shard_group_size(), "fsdp.shard_group_size");
  const NamedParameters parameters = unique_named_parameters(*model_);
  std::set<std::string> shared;  // a tied head has no parameter
  for (const auto& [name, parameter] : parameters) {
    if (language && language->dimensions().tie_word_embeddings && parameter.is_same(language->output_head()->weight))
      shared.insert(name);
  }
  run.sharding = shard_model(run.shard_groups, *model_, parameters, args_.sharding, shared);
  spread_gradient_norm(run);
  if (run.weights_stay_sharded) take_weights_into_shards(run, checkpoint);
}

// A constructor that differs from rank to rank may have left other weights to be made on each: then they are made now.
void Trainer::agree_on_deferred_weights() {
  std::int64_t names = 0;
  for (const auto& [name, parameter] : unique_named_parameters(*model_)) {
    if (model_->is_deferred(name)) names = static_cast<std::int64_t>(std::hash<std::string>()(name + cat(names)) >> 1);
  }
  const std::vector<std::int64_t> highest = mesh_.data->max({names, -names}, "the weights that are to be made");
  if (highest[0] != -highest[1] && model_->weights_deferred()) model_->make_deferred_weights();
}

// Over the ranks of a tensor-parallel group: its first one counts what all of them have.
void Trainer::spread_gradient_norm(Run& run) const {
  if (mesh_.tensor->world_size() == 1) return;
  std::set<std::string> elsewhere;
  const std::map<std::string, TensorSplit> splits = tensor_splits(*model_);
  for (const ParameterShard& shard : run.sharding->shards()) {
    if (!mesh_.tensor->is_main() && !splits.contains(shard.name)) elsewhere.insert(shard.name);
  }
  run.sharding->spread_norm(mesh_.tensor, std::move(elsewhere));
}

// From a checkpoint, or those that the model was to begin with.
void Trainer::take_weights_into_shards(Run& run, const fs::path& checkpoint) {
  const auto take = [&](const std::string& name, const Tensor& value) { run.sharding->set_weight(name, value); };
  if (!checkpoint.empty()) {
    model_->defer_weights(nullptr);
    if (!has_weights_parts(checkpoint)) return model_->take_weights_of(checkpoint, take);
    return take_weights_parts(checkpoint, *model_, take);
  }
  if (as_language_model(model_)) return model_->take_deferred_weights(take);
  model_->take_deferred_weights([&](const std::string& name, const Tensor& value) {
    broadcast_from_main(*mesh_.data, {value}, "the initial weights");  // a constructor may differ from rank to rank
    take(name, value);
  });
}

// Whether files are written parameter by parameter from the ranks' shards.
bool Trainer::streams_weights(const Run& run) const {
  return run.sharding && args_.sharding.shards_weights() && !has_adapters(*model_) &&
         (as_language_model(model_) || model_->has_standard_files());
}

// Of hybrid sharding; 0 for none.
std::int64_t Trainer::shard_group_size() const {
  if (!args_.sharding.shard_within_machine) return args_.sharding.shard_group_size;
  const std::int64_t local = group_->layout().local_world_size;
  if (local % mesh_.tensor->world_size() == 0) return local / mesh_.tensor->world_size();
  throw UserError("fsdp.shard_group_size",
                  cat("a tensor-parallel group is spread over machines: expected a multiple of ", mesh_.tensor->world_size(),
                      " ranks on each, got ", local),
                  "set fsdp.shard_group_size");
}

// What a model that is spread over ranks rules out.
void Trainer::check_tensor_parallel() const {
  if (mesh_.tensor->world_size() == 1) return;
  const auto refuse = [](const char* key, const std::string& got) {
    throw UserError(key, "not built yet with parallel.tensor_model_parallel_size above 1: expected none, got " + got,
                    "leave it out, or shard the model with fsdp instead");
  };
  if (!as_language_model(model_) || !as_language_model(model_)->tensor_parallel()) {
    throw UserError("trainer", "expected a model that is spread over the mesh's tensor group, got a whole one",
                    "build it with LanguageModelOptions::tensor_parallel");
  }
  if (args_.ema_decay) refuse("training.ema_decay", cat(*args_.ema_decay));
  if (args_.log_histograms) refuse("training.log_histograms", "true");
  if (args_.save_hf_optimizer) refuse("training.save_hf_optimizer", "true");
  // Others work on rows and columns, of which a rank has some.
  if (options_.optimizers.optimizer || !is_elementwise_optimizer(args_.optim)) {
    refuse("training.optimizer", options_.optimizers.optimizer ? std::string("one of your own") : args_.optim);
  }
}

double Trainer::clip_gradients(Run& run) {
  if (run.sharding) return run.sharding->clip_gradients(args_.max_grad_norm);
  if (mesh_.tensor->world_size() == 1) return clip_grad_norm(run.parameters, args_.max_grad_norm).item<double>();
  // Parts of parameters count where they are, whole ones once.
  const double own = grad_norm(run.counted_parameters).item<double>();
  std::vector<double> squares{own * own};
  mesh_.tensor->sum(squares, "the gradient norm");
  const double norm = std::sqrt(squares[0]);
  scale_grads_to_norm(run.parameters, at::full({}, norm, at::TensorOptions().dtype(at::kFloat).device(device_)),
                      args_.max_grad_norm);
  return norm;
}

std::shared_ptr<LrScheduler> Trainer::make_scheduler(Run& run) const {
  return std::make_shared<LrScheduler>(*run.optimizer, ScheduleOptions{.type = args_.lr_scheduler_type,
                                                                       .warmup_steps = plan_.warmup_steps,
                                                                       .total_steps = plan_.max_steps,
                                                                       .kwargs = args_.lr_scheduler_kwargs});
}

TrainOutput Trainer::train(const std::string& resume_from_checkpoint) {
  if (!resume_from_checkpoint.empty()) args_.resume_from_checkpoint = resume_from_checkpoint;
  struct EndRun {
    std::unique_ptr<Run>& run;
    ~EndRun() {
      if (run && run->events) run->events->on_run_end();
      run.reset();
    }
  } end_run{run_};
  run_ = std::make_unique<Run>();
  Run& run = *run_;
  // Dropout of its own for every copy of the model; the data's order has a seed of its own, the same everywhere.
  at::manual_seed(args_.seed + static_cast<std::uint64_t>(mesh_.data->rank()));
  prepare(run);
  model_->train();
  mark_boundary(run);
  TrainOutput output;
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_train_begin(context); });
  if (args_.eval_on_start && state_.global_step == 0) {
    const RateMeter::Pause pause(run.rate);
    const MetricValues metrics = evaluate_or_stop(run);
    notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_evaluate(context, metrics); });
  }
  if (state_.evaluation_pending) {
    control_.should_evaluate = true;
    control_.should_save = args_.save_strategy != "no";
    maybe_log_evaluate_save(run);
  }
  if (state_.global_step < plan_.max_steps) {
    run_epochs(run);
  } else {
    log_info(cat("nothing left to train: the checkpoint is at step ", state_.global_step, " of ", plan_.max_steps,
                 "; raise training.max_steps or training.num_train_epochs to go on"));
  }
  finish(run, output);
  return output;
}

void Trainer::finish(Run& run, TrainOutput& output) {
  finish_background_save(run, BackgroundSave::kWait);
  if (run.sharding && !run.weights_stay_sharded) run.sharding->gather_for_good();
  if (args_.load_best_model_at_end && !state_.best_model_checkpoint.empty()) {
    log_info(cat("loading the best model (", best_metric_key(args_), " ", *state_.best_metric, ") from ",
                 state_.best_model_checkpoint));
    if (run.weights_stay_sharded) {
      take_weights_into_shards(run, state_.best_model_checkpoint);
    } else {
      load_checkpoint_weights(*model_, state_.best_model_checkpoint);
    }
  } else if (run.ema) {
    run.ema->swap();  // for good: what is saved is what was evaluated
  }
  const double seconds = run.seconds();
  const auto steps = state_.global_step - run.resumed_step;
  const auto samples = state_.samples_seen - run.resumed_samples;
  output.global_step = state_.global_step;
  output.training_loss = state_.global_step == 0 ? 0 : state_.total_loss / static_cast<double>(state_.global_step);
  output.metrics = {{"train_runtime", seconds},
                    {"train_samples_per_second", static_cast<double>(samples) / seconds},
                    {"train_steps_per_second", static_cast<double>(steps) / seconds},
                    {"train_loss", output.training_loss}};
  log(output.metrics, LogKind::kSummary);
  state_.train_seconds += seconds;
  group_->on_main(
      [&] {
        if (args_.save_strategy != "no" && args_.save_total_limit == 1 && !state_.best_model_checkpoint.empty() &&
            args_.load_best_model_at_end) {
          rotate_checkpoints(args_.output_dir,
                             {.save_total_limit = 1, .best_step = state_.best_global_step, .keep_newest = false});
        }
      },
      "removing checkpoints");
  if (args_.save_final_model) group_->on_all([&] { save_final_model(run); }, "saving the final model");
  ShownSamples shown;
  const auto show = [&] { shown = shown_samples(); };
  if (run.weights_stay_sharded) group_->on_all(show, "predicting the report's samples");
  group_->on_main(
      [&] {
        if (!run.weights_stay_sharded) show();
        write_report_data(shown);
        write_file_atomically(fs::path(args_.output_dir) / "trainer_state.json", state_.to_json().dump(2) + "\n");
      },
      "writing the run's report");
  notify([](TrainerCallback& callback, CallbackContext& context) { callback.on_train_end(context); });
}

void Trainer::save_final_model(Run& run) {
  if (!run.weights_stay_sharded) {
    if (mesh_.writes_model()) save_model();
  } else if (mesh_.writes_model()) {
    const WeightsOfShards streamed(*model_, *run.sharding);
    save_model();
  } else if (run.shard_groups.writes_shards()) {
    run.sharding->serve_weights();
  }
}

void Trainer::log(const MetricValues& values, LogKind kind) {
  if (run_ && run_->events) {
    const LogRecord record{.step = state_.global_step, .epoch = state_.epoch, .values = values};
    switch (kind) {
      case LogKind::kTraining: run_->events->on_log(record); break;
      case LogKind::kEvaluation: run_->events->on_eval(record); break;
      case LogKind::kSummary: run_->events->on_summary(record); break;
    }
  }
  Json entry = Json::object();
  for (const auto& [name, value] : values) entry[name] = value;
  entry["epoch"] = state_.epoch;
  entry["step"] = state_.global_step;
  state_.log_history.push_back(std::move(entry));
  notify([&](TrainerCallback& callback, CallbackContext& context) { callback.on_log(context, values); });
}

}  // namespace oumi
