#include "oumi/config/support.h"

#include <span>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/aliases.h"
#include "oumi/config/field_notes.h"

namespace oumi {
namespace {

using Config = TrainingConfig;

bool is_one_of(const std::string& value, std::initializer_list<const char*> words) {
  for (const char* word : words) {
    if (to_lower(value) == word) return true;
  }
  return false;
}

template <class Predicate>
bool any_split(const Config& config, Predicate predicate) {
  return predicate(config.data.train) || predicate(config.data.validation) || predicate(config.data.test);
}

template <class Predicate>
bool any_dataset(const Config& config, Predicate predicate) {
  return any_split(config, [&](const DatasetSplitParams& split) {
    for (const DatasetParams& dataset : split.datasets) {
      if (predicate(dataset)) return true;
    }
    return false;
  });
}

bool is_trl(const Config& config, TrainerType type) { return config.training.trainer_type == type; }

template <auto kMember>
bool fsdp_changed(const Config& config) {
  return config.fsdp.enable_fsdp && config.fsdp.*kMember != FSDPParams{}.*kMember;
}

template <auto kMember>
bool deepspeed_changed(const Config& config) {
  return config.deepspeed.enable_deepspeed && config.deepspeed.*kMember != DeepSpeedParams{}.*kMember;
}

template <auto kMember, DeepSpeedOffloadDevice kDevice>
bool offloads(const Config& config) {
  const auto& offload = config.deepspeed.*kMember;
  return config.deepspeed.enable_deepspeed && offload && offload->device == kDevice;
}

// Of settings that refuse_offloading looks for.
constexpr const char* kInHostMemory =
    "on a CPU weights, gradients and optimizer state are in host memory already; refused on a GPU, where moving them is not "
    "built";
constexpr const char* kOnDisk = "state on disks is not built; CPU keeps it in host memory";

constexpr SupportKind kHonoured = SupportKind::kHonoured;
constexpr SupportKind kNative = SupportKind::kMetNatively;
constexpr SupportKind kMapped = SupportKind::kMapped;
constexpr SupportKind kRefused = SupportKind::kRefused;

// One row per setting or value. Building a feature flips its row from kRefused.
struct Row {
  const char* key;
  const char* value;  // what of it, for the docs
  SupportKind kind;
  const char* text;
  bool (*applies)(const Config&);
};

// clang-format off
constexpr Row kRows[] = {
    // --- kind of run ---
    {"training.trainer_type", "HF", kHonoured, "Hugging Face's semantics of steps, losses, logging and saving", [](const Config&) { return false; }},
    {"training.trainer_type", "OUMI", kMapped, "the same engine as HF; losses are means of micro-batches, as in Oumi's own loop, which counts and saves otherwise",
     [](const Config& c) { return is_trl(c, TrainerType::kOumi); }},
    {"training.trainer_type", "TRL_SFT", kHonoured, "Hugging Face's semantics, which TRL's trainer has; the settings are those of this config, not TRL's defaults",
     [](const Config&) { return false; }},
    {"training.trainer_type", "TRL_DPO", kRefused, "direct preference optimisation is not built yet", [](const Config& c) { return is_trl(c, TrainerType::kTrlDpo); }},
    {"training.trainer_type", "TRL_KTO", kRefused, "Kahneman-Tversky optimisation is not built yet", [](const Config& c) { return is_trl(c, TrainerType::kTrlKto); }},
    {"training.trainer_type", "TRL_GRPO", kRefused, "reinforcement learning is not built yet", [](const Config& c) { return is_trl(c, TrainerType::kTrlGrpo); }},
    {"training.trainer_type", "TRL_GKD", kRefused, "distillation is not built yet", [](const Config& c) { return is_trl(c, TrainerType::kTrlGkd); }},
    {"training.trainer_type", "TRL_GOLD", kRefused, "distillation is not built yet", [](const Config& c) { return is_trl(c, TrainerType::kTrlGold); }},
    {"training.trainer_type", "VERL_GRPO", kRefused, "verl is a Python system", [](const Config& c) { return is_trl(c, TrainerType::kVerlGrpo); }},
    {"peft.q_lora_bits", "8", kRefused, "8-bit base weights are not built; 4-bit ones are",
     [](const Config& c) { return c.peft.q_lora && c.peft.q_lora_bits == 8; }},
    {"peft.bnb_4bit_quant_storage", "other than uint8", kNative, "packed weights are bytes in memory, and are not written",
     [](const Config& c) { return c.peft.q_lora && to_lower(c.peft.bnb_4bit_quant_storage) != "uint8"; }},
    {"peft.lora_init_weights", "EVA, PISA, PISSA_NITER, LOFTQ, OLORA", kRefused, "is not built; DEFAULT, GAUSSIAN and RANDOM are",
     [](const Config& c) {
       return c.training.use_peft && c.peft.lora_init_weights != LoraWeightInitialization::kDefault && c.peft.lora_init_weights != LoraWeightInitialization::kGaussian &&
              c.peft.lora_init_weights != LoraWeightInitialization::kRandom;
     }},
    {"peft.lora_target_parameters", "set", kRefused, "adapters on single parameters are not built",
     [](const Config& c) { return c.training.use_peft && c.peft.lora_target_parameters && !c.peft.lora_target_parameters->empty(); }},
    // --- data ---
    {"data.train.collator_name", "vision_*", kRefused, "vision-language models are not built",
     [](const Config& c) { return any_split(c, [](const auto& s) { return s.collator_name && to_lower(*s.collator_name).starts_with("vision_"); }); }},
    {"data.train.pack", "true", kHonoured,
     "samples share rows by best fit and don't see each other; training.trainer_kwargs.packing_strategy: bfd, bfd_split, wrapped or "
     "concatenated (Oumi's)",
     [](const Config&) { return false; }},
    {"data.train.use_torchdata", "set", kNative, "one loader serves map-style and streamed datasets",
     [](const Config& c) { return any_split(c, [](const auto& s) { return s.use_torchdata.has_value(); }); }},
    {"data.train.target_col", "set", kMapped, "deprecated, and has no effect", [](const Config& c) { return any_split(c, [](const auto& s) { return s.target_col.has_value(); }); }},
    {"data.train.datasets[].trust_remote_code", "true", kMapped, "no remote code is run; datasets are read natively",
     [](const Config& c) { return any_dataset(c, [](const auto& d) { return d.trust_remote_code; }); }},
    // --- model ---
    {"model.processor_kwargs", "set", kRefused, "image and audio processors are not built", [](const Config& c) { return !c.model.processor_kwargs.empty(); }},
    {"model.text_only", "true", kHonoured, "of a multi-modal checkpoint the text part is built in any case (Gemma 3)", [](const Config& c) { return c.model.text_only; }},
    {"model.trust_remote_code", "true", kMapped, "no remote code is run; models are native", [](const Config& c) { return c.model.trust_remote_code; }},
    {"model.device_map", "other than auto", kMapped, "placement follows the ranks", [](const Config& c) { return c.model.device_map != "auto"; }},
    {"model.attn_implementation", "sdpa, eager, flash_attention_2", kNative, "attention has one exact implementation for each device",
     [](const Config& c) { return c.model.attn_implementation && is_one_of(*c.model.attn_implementation, {"sdpa", "eager", "flash_attention_2", "flash_attention_3"}); }},
    {"model.attn_implementation", "others", kMapped, "attention has one exact implementation for each device",
     [](const Config& c) { return c.model.attn_implementation && !is_one_of(*c.model.attn_implementation, {"sdpa", "eager", "flash_attention_2", "flash_attention_3"}); }},
    {"model.enable_liger_kernel", "true", kNative, "fused kernels are always on", [](const Config& c) { return c.model.enable_liger_kernel; }},
    {"model.shard_for_eval", "true", kMapped, "evaluation uses the layout of training", [](const Config& c) { return c.model.shard_for_eval; }},
    {"model.torch_dtype_str", "uint8", kRefused, "whole-number weights can't be trained", [](const Config& c) { return is_one_of(c.model.torch_dtype_str, {"uint8"}); }},
    // --- the run ---
    {"training.compile", "true", kNative, "the native loop has nothing left to compile", [](const Config& c) { return c.training.compile; }},
    {"training.mixed_precision_dtype", "FP16", kRefused, "float16 with loss scaling is not built yet; BF16 is",
     [](const Config& c) { return c.training.mixed_precision_dtype == MixedPrecisionDtype::kFp16; }},
    {"training.enable_wandb", "true", kMapped, "metrics go to TensorBoard and JSONL files", [](const Config& c) { return c.training.enable_wandb; }},
    {"training.enable_mlflow", "true", kMapped, "metrics go to TensorBoard and JSONL files", [](const Config& c) { return c.training.enable_mlflow; }},
    {"training.enable_jit_checkpoint", "true", kNative, "SIGTERM always saves a whole checkpoint", [](const Config& c) { return c.training.enable_jit_checkpoint; }},
    {"training.nccl_default_timeout_minutes", "set", kHonoured, "wins over ddp_timeout", [](const Config& c) { return c.training.nccl_default_timeout_minutes.has_value(); }},
    {"training.auto_find_batch_size", "true", kRefused, "a batch size that changes by itself changes the result; lower it by hand",
     [](const Config& c) { return c.training.auto_find_batch_size; }},
    {"training.fp16_full_eval", "true", kRefused, "evaluation in float16 is not built yet", [](const Config& c) { return c.training.fp16_full_eval; }},
    {"training.train_sampling_strategy", "batch_rebalance", kRefused, "batches of varying size are not built yet",
     [](const Config& c) { return is_one_of(c.training.train_sampling_strategy, {"batch_rebalance"}); }},
    {"training.reward_functions", "set", kRefused, "reinforcement learning is not built yet", [](const Config& c) { return c.training.reward_functions && !c.training.reward_functions->empty(); }},
    // --- ranks ---
    {"fsdp.enable_fsdp", "true", kHonoured, "weights, gradients and optimizer state are sharded over ranks; docs/distributed.md",
     [](const Config&) { return false; }},
    {"fsdp.sharding_strategy", "HYBRID_SHARD, HYBRID_SHARD_ZERO2", kHonoured, "sharded within a machine, or groups of shard_group_size ranks, and copied between them", [](const Config&) { return false; }},
    {"fsdp.cpu_offload", "true", kNative, kInHostMemory, [](const Config& c) { return c.fsdp.enable_fsdp && c.fsdp.cpu_offload; }},
    {"fsdp.mixed_precision", "fp16", kRefused, "float16 with loss scaling is not built yet; bf16 is",
     [](const Config& c) { return c.fsdp.enable_fsdp && c.fsdp.mixed_precision && to_lower(*c.fsdp.mixed_precision) == "fp16"; }},
    {"fsdp.state_dict_type", "LOCAL_STATE_DICT", kMapped, "saved as SHARDED_STATE_DICT",
     [](const Config& c) { return c.fsdp.enable_fsdp && c.fsdp.state_dict_type == StateDictType::kLocalStateDict; }},
    {"fsdp.use_orig_params", "set", kNative, "parameters always keep their names",
     [](const Config& c) { return c.fsdp.enable_fsdp && c.fsdp.use_orig_params.has_value(); }},
    {"fsdp.backward_prefetch", "BACKWARD_POST", kMapped, "as BACKWARD_PRE",
     [](const Config& c) { return c.fsdp.enable_fsdp && c.fsdp.backward_prefetch == BackwardPrefetch::kBackwardPost; }},
    {"deepspeed.enable_deepspeed", "true", kMapped, "ZERO_1 shards optimizer state, ZERO_2 is SHARD_GRAD_OP, ZERO_3 is FULL_SHARD",
     [](const Config& c) { return c.deepspeed.enable_deepspeed; }},
    {"deepspeed.deepspeed_config_path", "set", kRefused, "DeepSpeed's own files are not read; set the fields of deepspeed",
     [](const Config& c) { return c.deepspeed.enable_deepspeed && c.deepspeed.deepspeed_config_path.has_value(); }},
    {"deepspeed.offload_optimizer", "device: CPU", kNative, kInHostMemory, offloads<&DeepSpeedParams::offload_optimizer, DeepSpeedOffloadDevice::kCpu>},
    {"deepspeed.offload_optimizer", "device: NVME", kRefused, kOnDisk, offloads<&DeepSpeedParams::offload_optimizer, DeepSpeedOffloadDevice::kNvme>},
    {"deepspeed.offload_param", "device: CPU", kNative, kInHostMemory, offloads<&DeepSpeedParams::offload_param, DeepSpeedOffloadDevice::kCpu>},
    {"deepspeed.offload_param", "device: NVME", kRefused, kOnDisk, offloads<&DeepSpeedParams::offload_param, DeepSpeedOffloadDevice::kNvme>},
    {"deepspeed.precision", "FP16", kRefused, "float16 with loss scaling is not built yet; BF16 is",
     [](const Config& c) { return c.deepspeed.enable_deepspeed && c.deepspeed.precision == DeepSpeedPrecision::kFp16; }},
    {"deepspeed.train_batch_size", "a number", kRefused, "set training.per_device_train_batch_size and leave this auto",
     [](const Config& c) {
       const auto number = [](const IntOrString& value) { return std::holds_alternative<std::int64_t>(value); };
       return c.deepspeed.enable_deepspeed && (number(c.deepspeed.train_batch_size) || number(c.deepspeed.train_micro_batch_size_per_gpu) ||
                                               number(c.deepspeed.gradient_accumulation_steps) || number(c.deepspeed.gradient_clipping));
     }},
    {"fsdp.sync_module_states", "false", kNative, "ranks always start from rank 0's weights", fsdp_changed<&FSDPParams::sync_module_states>},
    {"deepspeed.overlap_comm", "other than the default", kNative, "gradients are always averaged while backward goes on", deepspeed_changed<&DeepSpeedParams::overlap_comm>},
    {"deepspeed.contiguous_gradients", "other than the default", kNative, "gradients always go through contiguous buffers", deepspeed_changed<&DeepSpeedParams::contiguous_gradients>},
    {"deepspeed.reduce_bucket_size", "other than the default", kMapped, "has no effect: what travels at once follows the sharding units; training.ddp_bucket_cap_mb is for ZERO_1", deepspeed_changed<&DeepSpeedParams::reduce_bucket_size>},
    {"deepspeed.allgather_bucket_size", "other than the default", kMapped, "has no effect: what travels at once follows the sharding units; training.ddp_bucket_cap_mb is for ZERO_1", deepspeed_changed<&DeepSpeedParams::allgather_bucket_size>},
    {"deepspeed.stage3_prefetch_bucket_size", "other than the default", kMapped, "has no effect: what travels at once follows the sharding units; training.ddp_bucket_cap_mb is for ZERO_1", deepspeed_changed<&DeepSpeedParams::stage3_prefetch_bucket_size>},
    {"deepspeed.allgather_partitions", "other than the default", kMapped, "has no effect: weights are gathered and gradients scattered by collectives", deepspeed_changed<&DeepSpeedParams::allgather_partitions>},
    {"deepspeed.round_robin_gradients", "other than the default", kMapped, "has no effect: it concerns offloading", deepspeed_changed<&DeepSpeedParams::round_robin_gradients>},
    {"deepspeed.stage3_param_persistence_threshold", "other than the default", kMapped, "has no effect: a unit is whole only while it computes", deepspeed_changed<&DeepSpeedParams::stage3_param_persistence_threshold>},
    {"deepspeed.stage3_max_live_parameters", "other than the default", kMapped, "has no effect: a unit is whole only while it computes", deepspeed_changed<&DeepSpeedParams::stage3_max_live_parameters>},
    {"deepspeed.stage3_max_reuse_distance", "other than the default", kMapped, "has no effect: a unit is whole only while it computes", deepspeed_changed<&DeepSpeedParams::stage3_max_reuse_distance>},
    {"deepspeed.sub_group_size", "other than the default", kMapped, "has no effect: a unit is whole only while it computes", deepspeed_changed<&DeepSpeedParams::sub_group_size>},
    {"deepspeed.stage3_gather_16bit_weights_on_model_save", "other than the default", kNative, "saved weights are whole", deepspeed_changed<&DeepSpeedParams::stage3_gather_16bit_weights_on_model_save>},
    {"deepspeed.zero_allow_untested_optimizer", "other than the default", kMapped, "has no effect: optimizers that work element by element are accepted", deepspeed_changed<&DeepSpeedParams::zero_allow_untested_optimizer>},
    {"deepspeed.zero_force_ds_cpu_optimizer", "other than the default", kMapped, "has no effect: there is one implementation of each optimizer", deepspeed_changed<&DeepSpeedParams::zero_force_ds_cpu_optimizer>},
    {"deepspeed.activation_checkpointing", "other than the default", kMapped, "has no effect: see training.enable_gradient_checkpointing", deepspeed_changed<&DeepSpeedParams::activation_checkpointing>},
    {"deepspeed.memory_efficient_linear", "other than the default", kMapped, "has no effect", deepspeed_changed<&DeepSpeedParams::memory_efficient_linear>},
    {"deepspeed.steps_per_print", "other than the default", kMapped, "has no effect: see training.logging_steps", deepspeed_changed<&DeepSpeedParams::steps_per_print>},
    {"deepspeed.wall_clock_breakdown", "other than the default", kMapped, "has no effect: see training.logging_steps", deepspeed_changed<&DeepSpeedParams::wall_clock_breakdown>},
    {"deepspeed.train_micro_batch_size_per_gpu", "a number", kRefused, "as deepspeed.train_batch_size: the fields of training count", [](const Config&) { return false; }},
    {"deepspeed.gradient_clipping", "a number", kRefused, "as deepspeed.train_batch_size: the fields of training count", [](const Config&) { return false; }},
    {"training.ddp_static_graph", "true", kMapped, "buckets are fixed; unused parameters follow ddp_find_unused_parameters",
     [](const Config& c) { return c.training.ddp_static_graph.value_or(false); }},
    {"training.dataloader_main_process_only", "true", kMapped, "every rank reads its own part of the data",
     [](const Config& c) { return c.training.dataloader_main_process_only.value_or(false); }},
    {"parallel.tensor_model_parallel_size", "above 1", kHonoured, "of the dense language models, combined with data parallelism, fsdp and deepspeed; docs/distributed.md", [](const Config&) { return false; }},
    {"parallel.tensor_model_parallel_size", "above 1, with q_lora", kRefused, "4-bit weights that are spread over ranks are not built yet; LoRA on dense ones is",
     [](const Config& c) { return c.parallel.tensor_model_parallel_size > 1 && c.peft.q_lora; }},
    {"parallel.tensor_model_parallel_size", "above 1, with ema_decay, log_histograms or save_hf_optimizer", kRefused, "what needs whole weights on one rank is not built with it yet",
     [](const Config& c) {
       return c.parallel.tensor_model_parallel_size > 1 && (c.training.ema_decay || c.training.log_histograms || c.training.save_hf_optimizer);
     }},
    {"parallel.sequence_parallel", "with neftune_noise_alpha", kRefused, "noise on embeddings that are spread over ranks is not built yet",
     [](const Config& c) { return c.parallel.sequence_parallel && c.training.neftune_noise_alpha.value_or(0) > 0; }},
    {"parallel.pipeline_model_parallel_size", "above 1", kRefused, "pipeline parallelism is not built", [](const Config& c) { return c.parallel.pipeline_model_parallel_size > 1; }},
    {"parallel.context_parallel_size", "above 1", kRefused, "context parallelism is not built", [](const Config& c) { return c.parallel.context_parallel_size > 1; }},
};
// clang-format on

// Arguments kept in unused_hf_arguments whose non-default value asks for something that training can't leave out.
bool is_refused_argument(const std::string& name, const Json& value) {
  const bool set = !value.is_null() && value != false && value != "" && value != Json::array() && value != Json::object();
  return set && is_one_of(name, {"push_to_hub", "fsdp", "deepspeed", "optim_target_modules", "parallelism_config"});
}

void note_unused_arguments(const Config& config, std::vector<SupportNote>& notes) {
  for (const auto& [name, value] : config.training.unused_hf_arguments.items()) {
    const char* text = "has no meaning here";
    for (const HfAlias& alias : hf_aliases()) {
      if (alias.kind == AliasKind::kUnused && name == alias.name) text = alias.target;
    }
    const SupportKind kind = is_refused_argument(name, value) ? kRefused : kMapped;
    notes.push_back({"training." + name, kind, kind == kRefused ? text : std::string("has no effect: ") + text});
  }
}

// What trainer_kwargs asks of TRL's SFTConfig when it asks for nothing: accepted. The keys that say more are not built.
bool is_usual_sft_setting(const Config& config, const std::string& name, const Json& value) {
  if (name == "dataset_num_proc" || name == "dataset_kwargs" || name == "max_length" || name == "max_seq_length") return true;
  if (name == "loss_type") return value == "nll";
  // Rows of text are made before the trainer sees them, under this name.
  if (name == "dataset_text_field") return value == "text" || value.is_null();
  if (name == "packing" && value == true) return config.data.train.pack;
  if (name == "truncation_mode") return value == "keep_start";
  if (name == "activation_offloading") return value.is_boolean() || value.is_null();
  return is_one_of(name, {"packing", "eval_packing", "padding_free", "assistant_only_loss"}) &&
         (value == false || value.is_null());
}

// Oumi hands trainer_kwargs to the trainer's own arguments.
void note_trainer_kwargs(const Config& config, std::vector<SupportNote>& notes) {
  const FieldList fields = fields_of(&config.training);
  for (const auto& [name, value] : config.training.trainer_kwargs.items()) {
    if (name == "packing_strategy") continue;  // read where data.*.pack is
    if (is_trl(config, TrainerType::kTrlSft) && is_usual_sft_setting(config, name, value)) {
      const bool offloads = name == "activation_offloading" && value == true;
      const char* text = offloads                   ? kInHostMemory
                         : name.starts_with("max_") ? "samples are cut to model.model_max_length where they are read"
                                                    : "is so already";
      notes.push_back({"training.trainer_kwargs." + name, kNative, text});
      continue;
    }
    std::string text = name == "packing" ? "set data.train.pack instead" : "this argument of TRL's trainers is not built";
    for (const Field& field : fields) {
      if (name == field.name) text = "set training." + name + " instead";
    }
    for (const HfAlias& alias : hf_aliases()) {
      if (name == alias.name) text = "set training." + name + " instead";
    }
    notes.push_back({"training.trainer_kwargs." + name, kRefused, text});
  }
}

// One note for each field, or for each section, that differs from its default without being read.
void note_changed_fields(const Config& config, std::vector<SupportNote>& notes) {
  const std::vector<std::string> changed = changed_fields(config);
  for (const FieldNote& note : field_notes()) {
    if (note.applies != nullptr && !note.applies(config)) continue;
    std::vector<std::string> keys;
    for (const std::string& key : changed) {
      if (covers(note, key)) keys.push_back(key);
    }
    if (!keys.empty()) notes.push_back({join(keys, ", "), note.kind, note.text});
  }
}

// accelerate's settings of the loader: all but one hold by themselves, or ask for another order of samples.
void note_accelerator_config(const Config& config, std::vector<SupportNote>& notes) {
  const auto is = [&](const char* name, bool value) {
    const auto found = config.training.accelerator_config.find(name);
    return found != config.training.accelerator_config.end() && *found == value;
  };
  const std::string key = "training.accelerator_config.";
  for (const auto& [name, value] : config.training.accelerator_config.items()) {
    if (name == "split_batches" && is("split_batches", true)) {
      notes.push_back({key + name, kRefused, "divide training.per_device_train_batch_size by the number of ranks instead"});
    } else if (name == "even_batches" && is("even_batches", false)) {
      notes.push_back({key + name, kRefused, "ranks always get the same number of batches"});
    } else if (name == "use_seedable_sampler" && is("use_seedable_sampler", false)) {
      notes.push_back({key + name, kRefused, "the order of samples always follows training.data_seed"});
    } else if (name == "dispatch_batches" && is("dispatch_batches", true)) {
      notes.push_back({key + name, kMapped, "each rank reads its own share of the data"});
    } else if (!is_one_of(name, {"split_batches", "even_batches", "use_seedable_sampler", "dispatch_batches"})) {
      notes.push_back({key + name, kMapped, "has no meaning here"});
    }
  }
}

}  // namespace

const char* support_word(SupportKind kind) {
  switch (kind) {
    case SupportKind::kHonoured: return "honoured";
    case SupportKind::kMetNatively: return "met natively";
    case SupportKind::kMapped: return "mapped";
    case SupportKind::kRefused: return "refused";
  }
  return "?";
}

std::vector<SupportNote> support_notes(const TrainingConfig& config) {
  std::vector<SupportNote> notes;
  for (const Row& row : kRows) {
    if (row.applies(config)) notes.push_back({row.key, row.kind, row.text});
  }
  note_changed_fields(config, notes);
  note_accelerator_config(config, notes);
  note_trainer_kwargs(config, notes);
  note_unused_arguments(config, notes);
  return notes;
}

void require_supported(const TrainingConfig& config) {
  std::vector<std::string> refused;
  std::string first;
  for (const SupportNote& note : support_notes(config)) {
    if (note.kind != SupportKind::kRefused) continue;
    if (first.empty()) first = note.key;
    refused.push_back(note.key + ": " + note.text);
  }
  if (refused.empty()) return;
  throw UserError(first, "expected settings that can be trained, got " + join(refused, "; "),
                  "oumi-cpp config check lists what becomes of each setting");
}

void refuse_offloading(const TrainingConfig& config) {
  for (const SupportNote& note : support_notes(config)) {
    if (note.text != kInHostMemory) continue;
    throw UserError(note.key, "on a GPU, weights, gradients and state stay in its memory: expected no offloading, got it",
                    "unset it, or train on the CPU with training.use_cpu: true");
  }
}

std::string support_table_markdown() {
  std::string out = "| setting | value | what happens | |\n|---|---|---|---|\n";
  for (const Row& row : kRows)
    out += cat("| `", row.key, "` | ", row.value, " | ", support_word(row.kind), " | ", row.text, " |\n");
  for (const FieldNote& note : field_notes())
    out += cat("| `", note.key, "` | other than the default | ", support_word(note.kind), " | ", note.text, " |\n");
  return out;
}

}  // namespace oumi
