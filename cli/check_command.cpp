// oumi-cpp config check: what the settings become, then a dry run of model, data and one batch.
#include <c10/core/GradMode.h>

#include <cmath>
#include <iostream>

#include "cli/config_command.h"
#include "cli/train_commands.h"
#include "oumi/base/strings.h"
#include "oumi/config/support.h"
#include "oumi/data/data_loader.h"
#include "oumi/models/build_model.h"
#include "oumi/models/language_model.h"
#include "oumi/models/model_location.h"
#include "oumi/models/state.h"
#include "oumi/trainer/finetuning.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/memory_estimate.h"
#include "oumi/trainer/run_data.h"
#include "oumi/trainer/step_plan.h"

namespace oumi::cli {
namespace {

// What of the batch counts: for texts the tokens that aren't padding.
std::optional<std::int64_t> tokens_of(const Batch& batch) {
  const Tensor* ids = batch.find("input_ids");
  if (ids == nullptr) return std::nullopt;
  if (const Tensor* segments = batch.find("segment_ids")) return segments->ge(0).sum().item<std::int64_t>();
  if (const Tensor* mask = batch.find("attention_mask")) return mask->sum().item<std::int64_t>();
  return ids->numel();
}

void print_model(const Model& model) {
  std::int64_t total = 0, trainable = 0;
  for (const Tensor& parameter : model.parameters()) {
    total += parameter.numel();
    if (parameter.requires_grad()) trainable += parameter.numel();
  }
  std::cout << "model: " << model.model_type() << ", " << total << " parameters, " << trainable << " of them trained\n";
}

void print_memory(const Model& model, const TrainingConfig& config, const Batch& batch) {
  const Tensor* ids = batch.find("input_ids");
  const MemoryEstimate memory =
      estimate_memory(model, {.optimizer = config.training.optimizer,
                              .sgd_momentum = config.training.sgd_momentum,
                              .tokens = ids == nullptr ? 0 : ids->numel(),
                              .checkpoint_activations = config.training.enable_gradient_checkpointing,
                              .bf16_autocast = config.training.mixed_precision_dtype == MixedPrecisionDtype::kBf16});
  std::cout << "memory: weights " << format_bytes(memory.weights) << ", gradients " << format_bytes(memory.gradients)
            << ", optimizer (" << config.training.optimizer << ") " << format_bytes(memory.optimizer);
  if (memory.activations) {
    std::cout << ", activations about " << format_bytes(*memory.activations) << ", together about "
              << format_bytes(memory.weights + memory.gradients + memory.optimizer + *memory.activations) << '\n';
  } else {
    std::cout << "; activations depend on the batch\n";
  }
}

void print_steps(const StepPlan& plan, const TrainingArguments& args, const std::optional<std::int64_t>& tokens) {
  std::cout << "steps: " << plan.max_steps << " updates in " << plan.num_train_epochs << " epochs, " << plan.batches_per_epoch
            << " batches an epoch, " << plan.warmup_steps << " warm-up steps\n";
  if (tokens) {
    std::cout << "tokens: " << *tokens << " in the first batch, about " << *tokens * args.gradient_accumulation_steps
              << " per step on each rank, " << *tokens * args.gradient_accumulation_steps * plan.max_steps << " in all\n";
  }
}

// Classes that the loss chooses among.
std::optional<std::int64_t> classes_of(const Model& model, const Outputs& outputs) {
  if (const auto* language = dynamic_cast<const LanguageModel*>(&model)) return language->dimensions().vocab_size;
  const Tensor& logits = outputs.logits();
  return logits.dim() >= 2 ? std::optional(logits.size(-1)) : std::nullopt;
}

void print_loss(const Model& model, const Outputs& outputs) {
  const double loss = outputs.loss().item<double>();
  std::cout << "loss: " << loss;
  if (const auto classes = classes_of(model, outputs)) {
    std::cout << " (guessing among " << *classes << " classes gives ln " << *classes << " = "
              << std::log(static_cast<double>(*classes)) << ")";
  }
  std::cout << '\n';
  if (!std::isfinite(loss)) throw UserError("model", cat("expected a finite loss on the first batch, got ", loss));
}

void warn_of_unused_parameters(const Model& model) {
  std::vector<std::string> unused;
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad() && !item.value().grad().defined()) unused.push_back(item.key());
  }
  if (!unused.empty()) std::cout << "warning: no gradient reaches " << join(unused, ", ") << "\n";
}

}  // namespace

int check_command(const CommandLine& line) {
  const std::vector<std::filesystem::path> files(line.configs.begin(), line.configs.end());
  if (const int refused = config_check(files, line.overrides, std::cout); refused != 0) return refused;
  TrainingConfig config = load_config(files, line.overrides);
  if (!trains_on_cpu(config)) refuse_offloading(config);
  const TrainingArguments args = training_arguments(config);
  validate(args);

  config.model = with_local_files(config.model);
  at::manual_seed(args.seed);
  const ModelPtr model = build_model(config.model);
  prepare_for_training(*model, config);
  print_model(*model);

  const RunData data(config, {.notice = [](const std::string& text) { std::cout << text << '\n'; }, .plans_training = true});
  const DatasetPtr dataset = data.dataset(DatasetSplitKind::kTrain);
  data.report(dataset, DatasetSplitKind::kTrain, *model);
  Json kwargs = config.data.train.dataloader_kwargs;
  if (!kwargs.contains("batch_size")) kwargs["batch_size"] = args.per_device_train_batch_size;
  DataLoaderOptions options = DataLoaderOptions::from_kwargs(kwargs);
  if (!options.collate_fn) options.collate_fn = data.collator(DatasetSplitKind::kTrain);
  DataLoader loader(dataset, options);
  std::cout << "data: " << dataset->name();
  if (const auto length = dataset->length()) std::cout << ", " << *length << " samples";
  std::cout << '\n';

  loader.start_epoch(0);
  const std::optional<Batch> batch = loader.next();
  if (!batch) throw UserError("data.train", "the training set yields no batch");
  print_steps(plan_steps(args, loader.batches_per_epoch()), args, tokens_of(*batch));
  for (const auto& [name, tensor] : *batch)
    std::cout << "batch: " << name << ' ' << tensor.scalar_type() << ' ' << tensor.sizes() << '\n';
  print_memory(*model, config, *batch);
  model->train();
  const Outputs outputs = (*model)(*batch);
  outputs.loss().backward();
  print_loss(*model, outputs);
  warn_of_unused_parameters(*model);
  std::cout << "ok\n";
  return 0;
}

}  // namespace oumi::cli
