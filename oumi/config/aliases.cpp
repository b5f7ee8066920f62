#include "oumi/config/aliases.h"

#include <string_view>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/codec.h"

namespace oumi {
namespace {

constexpr HfAlias kAliases[] = {
    {"optim", AliasKind::kRename, "training.optimizer"},
    {"gradient_checkpointing", AliasKind::kRename, "training.enable_gradient_checkpointing"},
    {"activation_checkpointing", AliasKind::kRename, "training.enable_gradient_checkpointing"},
    {"activation_checkpointing_kwargs", AliasKind::kRename, "training.gradient_checkpointing_kwargs"},
    {"torch_compile", AliasKind::kRename, "training.compile"},
    {"use_liger_kernel", AliasKind::kRename, "model.enable_liger_kernel"},
    {"torch_empty_cache_steps", AliasKind::kRename, "training.empty_device_cache_steps"},
    {"evaluation_strategy", AliasKind::kRename, "training.eval_strategy"},
    {"no_cuda", AliasKind::kRename, "training.use_cpu"},
    {"include_tokens_per_second", AliasKind::kRename, "training.include_performance_metrics"},
    {"bf16", AliasKind::kPrecision, "training.mixed_precision_dtype"},
    {"fp16", AliasKind::kPrecision, "training.mixed_precision_dtype"},
    {"group_by_length", AliasKind::kGroupLength, "training.train_sampling_strategy"},
    {"report_to", AliasKind::kReportTo, "training.enable_tensorboard, enable_wandb, enable_mlflow"},
    {"dispatch_batches", AliasKind::kAccelerator, "training.accelerator_config.dispatch_batches"},
    {"split_batches", AliasKind::kAccelerator, "training.accelerator_config.split_batches"},

    {"optim_target_modules", AliasKind::kUnused, "GaLore and APOLLO optimizers are not among ours"},
    {"torch_compile_backend", AliasKind::kUnused, "nothing is compiled at run time"},
    {"torch_compile_mode", AliasKind::kUnused, "nothing is compiled at run time"},
    {"liger_kernel_config", AliasKind::kUnused, "fused kernels are always on"},
    {"use_cache", AliasKind::kUnused, "training never keeps a key-value cache"},
    {"log_on_each_node", AliasKind::kUnused, "each rank has a log file of its own"},
    {"project", AliasKind::kUnused, "there is no tracking service"},
    {"trackio_space_id", AliasKind::kUnused, "there is no tracking service"},
    {"trackio_bucket_id", AliasKind::kUnused, "there is no tracking service"},
    {"trackio_static_space_id", AliasKind::kUnused, "there is no tracking service"},
    {"eval_do_concat_batches", AliasKind::kUnused, "metrics are streamed, predictions never joined"},
    {"eval_use_gather_object", AliasKind::kUnused, "metrics are streamed, predictions never joined"},
    {"eval_accumulation_steps", AliasKind::kUnused, "metrics are streamed, predictions never joined"},
    {"include_for_metrics", AliasKind::kUnused, "metrics see inputs, outputs and losses"},
    {"batch_eval_metrics", AliasKind::kUnused, "metrics are always streamed by batch"},
    {"save_on_each_node", AliasKind::kUnused, "checkpoints go to one shared folder"},
    {"save_safetensors", AliasKind::kUnused, "weights are always safetensors"},
    {"push_to_hub", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_token", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_private_repo", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_model_id", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_strategy", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_always_push", AliasKind::kUnused, "nothing is uploaded"},
    {"hub_revision", AliasKind::kUnused, "nothing is uploaded"},
    {"parallelism_config", AliasKind::kUnused, "parallel layouts are set under parallel"},
    {"fsdp", AliasKind::kUnused, "sharding is set under the top-level fsdp"},
    {"fsdp_config", AliasKind::kUnused, "sharding is set under the top-level fsdp"},
    {"deepspeed", AliasKind::kUnused, "ZeRO is set under the top-level deepspeed"},
    {"dataloader_multiprocessing_context", AliasKind::kUnused, "the loader has threads, not processes"},
    {"debug", AliasKind::kUnused, "there is no debug mode to switch on"},
    {"skip_memory_metrics", AliasKind::kUnused, "memory is always measured"},
    {"do_train", AliasKind::kUnused, "the verb of the command line decides"},
    {"do_eval", AliasKind::kUnused, "the verb of the command line decides"},
    {"do_predict", AliasKind::kUnused, "the verb of the command line decides"},
    {"local_rank", AliasKind::kUnused, "ranks come from the environment"},
    {"half_precision_backend", AliasKind::kUnused, "there is one backend"},
    {"fp16_backend", AliasKind::kUnused, "there is one backend"},
    {"fp16_opt_level", AliasKind::kUnused, "there is one backend"},
    {"past_index", AliasKind::kUnused, "models carry no memory between batches"},
    {"torchdynamo", AliasKind::kUnused, "nothing is compiled at run time"},
    {"jit_mode_eval", AliasKind::kUnused, "nothing is compiled at run time"},
    {"ray_scope", AliasKind::kUnused, "there is no hyper-parameter search"},
    {"mp_parameters", AliasKind::kUnused, "parallel layouts are set under parallel"},
    {"tpu_num_cores", AliasKind::kUnused, "there is no TPU backend"},
    {"use_mps_device", AliasKind::kUnused, "the device is chosen by itself"},
};

// The dict at `name` of `parent`, made where there is none. A value of another type is left for the typed reading to refuse.
Value& dict_at(Value& parent, const std::string& name, const Location& location) {
  if (Value* found = parent.find(name)) return *found;
  Value made;
  made.kind = Value::Kind::kDict;
  made.location = location;
  parent.entries.push_back({name, true, location, std::move(made)});
  return parent.entries.back().value;
}

void set(Value& root, const std::string& dotted, Value value, const Location& location, const std::string& alias) {
  Value* owner = &root;
  const std::vector<std::string> parts = split(dotted, '.');
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    owner = &dict_at(*owner, parts[i], location);
    if (owner->kind != Value::Kind::kDict) return;
  }
  if (const Value* given = owner->find(parts.back())) {
    if (value_to_json(*given, dotted) != value_to_json(value, dotted)) {
      throw UserError("training." + alias,
                      "expected the same value as " + dotted + ", got " + describe_value(value) + at(location) + " and " +
                          describe_value(*given) + at(given->location),
                      "set one of the two");
    }
    return;
  }
  owner->entries.push_back({parts.back(), true, location, std::move(value)});
}

Value text_value(const char* text, const Location& location) {
  Value value = value_from_json(text);
  value.location = location;
  return value;
}

Value bool_value(bool flag, const Location& location) {
  Value value = value_from_json(flag);
  value.location = location;
  return value;
}

std::string current_text(const Value& current, const char* name) {
  const Value* training = current.find("training");
  const Value* value = training == nullptr ? nullptr : training->find(name);
  return value != nullptr && value->kind == Value::Kind::kString ? to_lower(value->scalar.get<std::string>()) : "";
}

void report_to(Value& root, const Entry& entry) {
  const Location& location = entry.key_location;
  std::vector<std::string> names;
  if (entry.value.kind == Value::Kind::kList) {
    Codec<std::vector<std::string>>::read(entry.value, "training.report_to", names);
  } else if (entry.value.kind != Value::Kind::kNull) {
    names.push_back(read_string(entry.value, "training.report_to"));
  }
  bool tensorboard = false, wandb = false, mlflow = false;
  Json others = Json::array();
  for (const std::string& name : names) {
    const std::string word = to_lower(name);
    tensorboard = tensorboard || word == "tensorboard" || word == "all";
    wandb = wandb || word == "wandb";
    mlflow = mlflow || word == "mlflow";
    if (word != "tensorboard" && word != "wandb" && word != "mlflow" && word != "none" && word != "all") others.push_back(name);
  }
  set(root, "training.enable_tensorboard", bool_value(tensorboard, location), location, "report_to");
  set(root, "training.enable_wandb", bool_value(wandb, location), location, "report_to");
  set(root, "training.enable_mlflow", bool_value(mlflow, location), location, "report_to");
  if (!others.empty()) set(root, "training.unused_hf_arguments.report_to", value_from_json(others), location, "report_to");
}

void apply(Value& root, const HfAlias& alias, Entry entry, const Value& current) {
  const Location& location = entry.key_location;
  const std::string key = std::string("training.") + alias.name;
  switch (alias.kind) {
    case AliasKind::kRename:
    case AliasKind::kAccelerator:
      // Null is Hugging Face's default for some of these; it means what leaving the name out means.
      if (entry.value.kind == Value::Kind::kNull) return;
      set(root, alias.target, std::move(entry.value), location, alias.name);
      return;
    case AliasKind::kPrecision: {
      const bool on = read_bool(entry.value, key);
      if (on) {
        set(root, alias.target, text_value(std::string_view(alias.name) == "bf16" ? "BF16" : "FP16", location), location,
            alias.name);
      } else if (current_text(current, "mixed_precision_dtype") == alias.name) {
        set(root, alias.target, text_value("NONE", location), location, alias.name);
      }
      return;
    }
    case AliasKind::kGroupLength:
      if (read_bool(entry.value, key)) {
        set(root, alias.target, text_value("group_by_length", location), location, alias.name);
      } else if (current_text(current, "train_sampling_strategy") == "group_by_length") {
        set(root, alias.target, text_value("random", location), location, alias.name);
      }
      return;
    case AliasKind::kReportTo: report_to(root, entry); return;
    case AliasKind::kUnused:
      set(root, std::string("training.unused_hf_arguments.") + alias.name, std::move(entry.value), location, alias.name);
      return;
  }
}

}  // namespace

std::span<const HfAlias> hf_aliases() { return kAliases; }

void rewrite_aliases(Value& source, const Value& current) {
  Value* training = source.find("training");
  if (training == nullptr || training->kind != Value::Kind::kDict) return;
  std::vector<std::pair<const HfAlias*, Entry>> found;
  std::vector<Entry> kept;
  for (Entry& entry : training->entries) {
    const HfAlias* match = nullptr;
    for (const HfAlias& alias : kAliases) {
      if (entry.key == alias.name) match = &alias;
    }
    if (match == nullptr) {
      kept.push_back(std::move(entry));
    } else {
      found.emplace_back(match, std::move(entry));
    }
  }
  training->entries = std::move(kept);
  for (auto& [alias, entry] : found) apply(source, *alias, std::move(entry), current);
}

}  // namespace oumi
