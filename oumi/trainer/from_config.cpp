#include "oumi/trainer/from_config.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <thread>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"
#include "oumi/config/support.h"
#include "oumi/distributed/tensor_parallel.h"
#include "oumi/models/build_model.h"
#include "oumi/models/model_location.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/models/summary.h"
#include "oumi/plugin/plugin.h"
#include "oumi/telemetry/logging.h"
#include "oumi/telemetry/run_files.h"
#include "oumi/trainer/finetuning.h"
#include "oumi/trainer/operator_profiler.h"
#include "oumi/trainer/prediction_writer.h"
#include "oumi/trainer/run_data.h"
#include "oumi/trainer/sharding_from_config.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

// Oumi's heuristic for "auto": a quarter of the cores, between 1 and twice the local processes, at most 8.
std::int64_t resolve_workers(const IntOrString& workers) {
  if (const auto* count = std::get_if<std::int64_t>(&workers)) return *count;
  const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  return std::max<std::int64_t>(1, std::min<std::int64_t>({2, 8, cores / 4}));
}

void refuse_unsupported(const TrainingConfig& config) {
  if (!trains_on_cpu(config)) refuse_offloading(config);
  for (const SupportNote& note : support_notes(config)) {
    if (note.kind == SupportKind::kRefused) throw UserError(note.key, note.text);
    if (note.kind == SupportKind::kHonoured) continue;
    log_info(note.key + ": " + note.text);
  }
}

// What a run writes into its folder; everything else is the user's and never deleted.
bool is_run_file(const fs::path& path) {
  static const std::regex kNames(
      R"(model\.safetensors(\.index\.json)?|model-\d{5}-of-\d{5}\.safetensors|config\.json|trainer_state\.json|tensorboard|logs|telemetry|profiler|)"
      R"(report\.html|adapter|adapter_(model|config)\.(safetensors|json)|predictions\.(jsonl|parquet)|tokenizer(_config)?\.json|special_tokens_map\.json|chat_template\.jinja|vocab\.json|merges\.txt|metrics_rank\d+\.jsonl|checkpoint-\d+(\.(tmp|old|gone)-.*)?)");
  return std::regex_match(path.filename().string(), kNames);
}

void prepare_output_directory(const TrainingConfig& config, bool overwrite) {
  const fs::path directory = config.training.output_dir;
  make_directories(directory);
  const FileLock lock(directory / ".lock");  // not while another run writes there
  const bool resuming = config.training.resume_from_checkpoint || config.training.try_resume_from_last_checkpoint;
  if (resuming && !overwrite) return;
  std::vector<fs::path> run_files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name == ".lock") continue;
    if (is_run_file(entry.path())) {
      run_files.push_back(entry.path());
    } else if (!overwrite) {
      throw UserError("training.output_dir", directory.string() + " is not empty: found " + name,
                      "choose another folder; --overwrite deletes an earlier run's files there, "
                      "--training.try_resume_from_last_checkpoint true goes on with it");
    }
  }
  if (!overwrite && !run_files.empty()) {
    throw UserError(
        "training.output_dir", directory.string() + " holds an earlier run: found " + run_files.front().filename().string(),
        "choose another folder, or --overwrite it, or go on with it by --training.try_resume_from_last_checkpoint true");
  }
  for (const fs::path& path : run_files) fs::remove_all(path);
}

EnvironmentQuery environment_query() { return {.oumi_version = kVersion, .libraries = {{"LibTorch", TORCH_VERSION}}}; }

TrainerOptions trainer_options(const TrainingConfig& config, ModelPtr model) {
  TrainerOptions options;
  options.model = std::move(model);
  options.args = training_arguments(config);
  options.config_yaml = to_yaml(config);
  options.token_weighted_loss = config.training.trainer_type != TrainerType::kOumi;
  options.peft_save_mode = config.peft.peft_save_mode;
  options.eval_dataloader_kwargs = config.data.validation.dataloader_kwargs;
  if (config.training.metrics_function) {
    options.metrics = {metric_registry().at(*config.training.metrics_function, "training.metrics_function")()};
  }
  return options;
}

}  // namespace

TrainingArguments training_arguments(const TrainingConfig& config) {
  const TrainingParams& t = config.training;
  TrainingArguments args;
  args.output_dir = t.output_dir;
  args.num_train_epochs = t.num_train_epochs;
  args.per_device_train_batch_size = t.per_device_train_batch_size;
  args.per_device_eval_batch_size = t.per_device_eval_batch_size;
  // A share of exactly 1 would read as one step: HF's warmup_steps takes 1.0 for a count, Oumi's warmup_ratio never is one.
  args.warmup_steps = t.warmup_steps.value_or(t.warmup_ratio ? std::min(*t.warmup_ratio, 0.999999999) : 0.0);
  args.weight_decay = t.weight_decay;
  args.logging_dir = t.logging_dir.value_or("");
  args.logging_steps = t.logging_steps;
  args.max_steps = t.max_steps;
  args.gradient_accumulation_steps = t.gradient_accumulation_steps;
  args.learning_rate = t.learning_rate;
  args.lr_scheduler_type = t.lr_scheduler_type;
  args.lr_scheduler_kwargs = t.lr_scheduler_kwargs;
  args.optim = t.optimizer;
  args.optim_args = t.optim_args.value_or("");
  args.adam_beta1 = t.adam_beta1;
  args.adam_beta2 = t.adam_beta2;
  args.adam_epsilon = t.adam_epsilon;
  args.sgd_momentum = t.sgd_momentum;
  args.max_grad_norm = t.max_grad_norm.value_or(0.0);
  args.parameter_groups = t.parameter_groups;
  args.ema_decay = t.ema_decay;
  args.label_smoothing_factor = t.label_smoothing_factor;
  args.class_weights = t.class_weights;
  args.nan_policy = t.nan_policy;
  args.bf16 = t.mixed_precision_dtype == MixedPrecisionDtype::kBf16;
  args.bf16_full_eval = t.bf16_full_eval;
  args.logging_strategy = t.logging_strategy;
  args.logging_first_step = t.logging_first_step;
  args.logging_nan_inf_filter = t.logging_nan_inf_filter;
  args.report_to = t.enable_tensorboard ? std::vector<std::string>{"tensorboard"} : std::vector<std::string>{};
  args.log_histograms = t.log_histograms;
  args.run_name = t.run_name.value_or("");
  args.disable_tqdm = t.disable_tqdm;
  const std::string tokens_seen = to_lower(t.include_num_input_tokens_seen);
  args.include_num_input_tokens_seen = tokens_seen == "true" ? "all" : tokens_seen == "false" ? "no" : tokens_seen;
  args.eval_strategy = t.eval_strategy;
  args.eval_steps = t.eval_steps;
  args.eval_delay = t.eval_delay;
  args.eval_on_start = t.eval_on_start;
  args.prediction_loss_only = t.prediction_loss_only;
  args.save_strategy = effective_save_strategy(t);
  args.save_steps = t.save_steps;
  args.save_total_limit = t.save_total_limit;
  args.save_only_model = t.save_only_model;
  args.save_final_model = t.save_final_model;
  args.save_hf_optimizer = t.save_hf_optimizer;
  args.async_save = t.async_save;
  args.load_best_model_at_end = t.load_best_model_at_end;
  args.metric_for_best_model = t.metric_for_best_model.value_or("");
  args.greater_is_better = t.greater_is_better;
  args.early_stopping_patience = t.early_stopping_patience;
  args.early_stopping_threshold = t.early_stopping_threshold;
  args.seed = static_cast<std::uint64_t>(t.seed);
  args.data_seed = static_cast<std::uint64_t>(t.data_seed);
  args.full_determinism = t.full_determinism || t.use_deterministic;
  args.ignore_data_skip = t.ignore_data_skip;
  args.resume_from_checkpoint = t.resume_from_checkpoint.value_or(t.try_resume_from_last_checkpoint ? "last" : "");
  args.dataloader_drop_last = t.dataloader_drop_last;
  args.dataloader_num_workers = resolve_workers(t.dataloader_num_workers);
  args.dataloader_prefetch_factor = args.dataloader_num_workers > 0 ? t.dataloader_prefetch_factor : std::nullopt;
  args.dataloader_persistent_workers = t.dataloader_persistent_workers;
  args.dataloader_pin_memory = t.dataloader_pin_memory;
  args.dataloader_in_order = t.dataloader_in_order;
  args.train_sampling_strategy = t.train_sampling_strategy;
  args.length_column_name = t.length_column_name;
  args.label_names = t.label_names.value_or(std::vector<std::string>{});
  args.use_cpu = t.use_cpu;
  args.ddp_timeout = t.nccl_default_timeout_minutes ? static_cast<std::int64_t>(std::ceil(*t.nccl_default_timeout_minutes * 60))
                                                    : t.ddp_timeout;
  // HF's rule: recomputed activations cut the graph that the search walks.
  args.ddp_find_unused_parameters = t.ddp_find_unused_parameters.value_or(!t.enable_gradient_checkpointing);
  args.sharding = sharding_options(config);
  args.average_tokens_across_devices = t.average_tokens_across_devices;
  args.ddp_bucket_cap_mb = t.ddp_bucket_cap_mb;
  args.ddp_broadcast_buffers = t.ddp_broadcast_buffers;
  return args;
}

bool trains_on_cpu(const TrainingConfig& config) { return !at::hasCUDA() || config.training.use_cpu; }

TrainOutput train_from_config(const TrainingConfig& config, const TrainRunOptions& options) {
  const std::shared_ptr<ProcessGroup> group = connect_ranks(training_arguments(config));
  group->on_main([&] { prepare_output_directory(config, options.overwrite || config.training.overwrite_output_dir); },
                 "preparing the output folder");
  const fs::path directory = config.training.output_dir;
  init_logging({.directory = directory / "logs",
                .rank = group->rank(),
                .level = parse_log_level(config.training.log_level),
                .console = group->is_main()});
  try {
    refuse_unsupported(config);
    const RankMesh mesh = make_rank_mesh(group, config.parallel.tensor_model_parallel_size);
    TensorParallelPtr tensor_parallel;
    if (mesh.tensor->world_size() > 1) {
      tensor_parallel = TensorParallel::create(mesh.tensor, {.sequence_parallel = config.parallel.sequence_parallel});
    }
    // The model first: its initial weights depend on the seed alone, not on what the data draws.
    at::manual_seed(static_cast<std::uint64_t>(config.training.seed));
    TrainingConfig local = config;  // what is written keeps the names that were given
    local.model = with_local_files(config.model);
    // Sharded weights are made part by part: all of them may not fit into a rank's memory.
    const bool shards_weights = sharding_options(config).shards_weights() && group->world_size() > 1;
    const bool defer = shards_weights && trains_on_cpu(config) && !config.training.use_peft && !config.model.adapter_model;
    const ModelPtr model =
        build_model(local.model, {.tensor_parallel = tensor_parallel, .defer_weights = defer, .notice = log_info});
    TrainingConfig named = config;  // adapters are written with their base model's name, not with where its files lie
    named.model.adapter_model = local.model.adapter_model;
    prepare_for_training(*model, named);
    if (config.training.log_model_summary) log_info(model_summary(*model));
    TrainerOptions trainer = trainer_options(config, model);
    trainer.mesh = mesh;
    if (CallbackPtr profiler =
            make_operator_profiler(config.training.profiler, directory, group->rank(), group->layout().local_rank))
      trainer.callbacks.push_back(std::move(profiler));
    const RunData data(local, {.notice = log_info, .plans_training = true});
    trainer.train_dataset = data.dataset(DatasetSplitKind::kTrain);
    data.report(trainer.train_dataset, DatasetSplitKind::kTrain, *trainer.model);
    if (data.has(DatasetSplitKind::kValidation)) {
      const DatasetPtr validation = data.dataset(DatasetSplitKind::kValidation);
      data.report(validation, DatasetSplitKind::kValidation, *trainer.model);
      trainer.eval_dataset = validation;
    }
    const bool own_collator = config.data.train.dataloader_kwargs.contains("collate_fn") && !config.data.train.collator_name;
    if (!own_collator) trainer.data_collator = data.collator(DatasetSplitKind::kTrain);
    trainer.save_beside_weights = [&data](const fs::path& folder) { data.save_tokenizer(folder); };
    trainer.dataloader_kwargs = config.data.train.dataloader_kwargs;
    // Which code ran beside the config's own: comments, so that the file stays a config.
    std::string plugins;
    for (const LoadedPlugin& plugin : loaded_plugins())
      plugins += "# plugin: " + plugin.path + " xxh3_128 " + plugin.hash + "\n";
    if (group->is_main()) {
      write_run_files(directory / "telemetry", {.training_config_yaml = plugins + trainer.config_yaml,
                                                .environment = environment_info(environment_query()),
                                                .world_size = group->world_size(),
                                                .local_world_size = group->layout().local_world_size});
    }
    return Trainer(std::move(trainer)).train();
  } catch (const StoppedBySignal& stopped) {
    log_warning(std::string(stopped.what()) + "; go on with --training.try_resume_from_last_checkpoint true");
    throw;
  } catch (const std::exception& error) {
    log_to_file(LogLevel::kError, describe(error));
    throw;
  }
}

ModelPtr load_trained_model(const TrainingConfig& config) {
  ModelParams params = config.model;
  if (!fs::is_directory(params.model_name) && trained_adapter(config).empty()) {
    const fs::path saved = config.training.output_dir;
    const PretrainedConfig written = read_pretrained_config(saved);
    if (!written.model_type.empty() && !is_pretrained_model(saved) && model_registry().find(written.model_type) == nullptr) {
      throw UserError((saved / "config.json").string(), "unknown model '" + written.model_type + "'",
                      "give the plug-in that registers it: --plugin LIB");
    }
    if (!is_pretrained_model(saved)) {
      throw UserError("model.model_name",
                      "there are no trained weights: expected a saved model in training.output_dir (" + saved.string() + ")",
                      "run oumi-cpp train with this config first, or set model.model_name to a saved model's folder");
    }
    params.model_name = saved.string();
    params.model_kwargs = Json::object();  // the saved config.json has them
  }
  params.load_pretrained_weights = true;
  ModelPtr model = build_model(params);
  apply_trained_adapter(*model, config);
  return model;
}

MetricValues evaluate_from_config(const TrainingConfig& config) {
  if (config.data.validation.datasets.empty()) {
    throw UserError("data.validation.datasets", "there is nothing to evaluate on: expected at least one dataset, got none",
                    "add data.validation to the config");
  }
  TrainerOptions options = trainer_options(config, load_trained_model(config));
  options.args.load_best_model_at_end = false;  // about training; its rules do not matter here
  const RunData data(config, {.notice = log_info});
  options.data_collator = data.collator(DatasetSplitKind::kValidation);
  options.eval_dataset = data.dataset(DatasetSplitKind::kValidation);
  return Trainer(std::move(options)).evaluate();
}

MetricValues predict_from_config(const TrainingConfig& config, const fs::path& output) {
  const bool has_test = !config.data.test.datasets.empty();
  const DatasetSplitParams& split = has_test ? config.data.test : config.data.validation;
  if (read_rank_layout().world_size > 1) {
    throw UserError("predict", "runs in one process: expected no other ranks, got a world size above 1",
                    "unset RANK and WORLD_SIZE");
  }
  if (split.datasets.empty())
    throw UserError("data.test.datasets", "there is nothing to predict: expected a test or validation set, got none",
                    "add data.test to the config");
  TrainerOptions options = trainer_options(config, load_trained_model(config));
  options.args.load_best_model_at_end = false;
  const RunData data(config, {.notice = log_info});
  const DatasetSplitKind kind = has_test ? DatasetSplitKind::kTest : DatasetSplitKind::kValidation;
  options.data_collator = data.collator(kind);
  options.eval_dataloader_kwargs = split.dataloader_kwargs;
  Trainer trainer(std::move(options));
  PredictionWriter writer(output);
  MetricValues metrics = trainer.predict(data.dataset(kind), [&](const PredictionBatch& batch) { writer.write(batch); });
  writer.close();
  return metrics;
}

}  // namespace oumi
