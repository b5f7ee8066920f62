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
#include "oumi/models/state.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/run_data.h"
#include "oumi/trainer/step_plan.h"

namespace oumi::cli {

int check_command(const CommandLine& line) {
  const std::vector<std::filesystem::path> files(line.configs.begin(), line.configs.end());
  if (const int refused = config_check(files, line.overrides, std::cout); refused != 0) return refused;
  const TrainingConfig config = load_config(files, line.overrides);
  const TrainingArguments args = training_arguments(config);
  validate(args);

  at::manual_seed(args.seed);
  const ModelPtr model = build_model(config.model);
  std::int64_t total = 0, trainable = 0, bytes = 0;
  for (const Tensor& parameter : model->parameters()) {
    total += parameter.numel();
    bytes += static_cast<std::int64_t>(parameter.nbytes());
    if (parameter.requires_grad()) trainable += parameter.numel();
  }
  std::cout << "model: " << model->model_type() << ", " << total << " parameters, " << trainable << " of them trained\n";
  std::cout << "memory: weights " << format_bytes(static_cast<std::uint64_t>(bytes)) << ", gradients "
            << format_bytes(static_cast<std::uint64_t>(trainable * 4)) << ", optimizer (two moments) "
            << format_bytes(static_cast<std::uint64_t>(trainable * 8)) << "; activations depend on the batch\n";

  const RunData data(config, {.notice = [](const std::string& line) { std::cout << line << '\n'; }});
  const DatasetPtr dataset = data.dataset(DatasetSplitKind::kTrain);
  data.report(dataset, DatasetSplitKind::kTrain, *model);
  Json kwargs = config.data.train.dataloader_kwargs;
  if (!kwargs.contains("batch_size")) kwargs["batch_size"] = args.per_device_train_batch_size;
  DataLoaderOptions options = DataLoaderOptions::from_kwargs(kwargs);
  if (!options.collate_fn) options.collate_fn = data.collator(DatasetSplitKind::kTrain);
  DataLoader loader(dataset, options);
  const StepPlan plan = plan_steps(args, loader.batches_per_epoch());
  std::cout << "data: " << dataset->name();
  if (const auto length = dataset->length()) std::cout << ", " << *length << " samples";
  std::cout << "\nsteps: " << plan.max_steps << " updates in " << plan.num_train_epochs << " epochs, " << plan.batches_per_epoch
            << " batches an epoch, " << plan.warmup_steps << " warm-up steps\n";

  loader.start_epoch(0);
  const std::optional<Batch> batch = loader.next();
  if (!batch) throw UserError("data.train", "the training set yields no batch");
  for (const auto& [name, tensor] : *batch)
    std::cout << "batch: " << name << ' ' << tensor.scalar_type() << ' ' << tensor.sizes() << '\n';
  model->train();
  const Outputs outputs = (*model)(*batch);
  const Tensor& loss = outputs.loss();
  loss.backward();
  std::cout << "loss: " << loss.item<double>();
  const Tensor& logits = outputs.logits();
  if (logits.dim() >= 2) {
    const auto classes = logits.size(-1);
    std::cout << " (guessing among " << classes << " classes gives ln " << classes << " = "
              << std::log(static_cast<double>(classes)) << ")";
  }
  std::cout << '\n';
  std::vector<std::string> unused;
  for (const auto& item : model->named_parameters()) {
    if (item.value().requires_grad() && !item.value().grad().defined()) unused.push_back(item.key());
  }
  if (!unused.empty()) std::cout << "warning: no gradient reaches " << join(unused, ", ") << "\n";
  if (!std::isfinite(loss.item<double>()))
    throw UserError("model", cat("expected a finite loss on the first batch, got ", loss.item<double>()));
  std::cout << "ok\n";
  return 0;
}

}  // namespace oumi::cli
