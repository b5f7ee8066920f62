#include "oumi/config/field_notes.h"

#include <algorithm>
#include <string_view>

#include "oumi/base/strings.h"
#include "oumi/config/schema.h"

namespace oumi {
namespace {

using Config = TrainingConfig;

constexpr SupportKind kNative = SupportKind::kMetNatively;
constexpr SupportKind kMapped = SupportKind::kMapped;
constexpr SupportKind kRefused = SupportKind::kRefused;

// clang-format off
constexpr FieldNote kNotes[] = {
    // --- sections that another setting switches on ---
    {"peft.*", kMapped, "no effect: training.use_peft is off", [](const Config& c) { return !c.training.use_peft; }},
    {"fsdp.*", kMapped, "no effect: fsdp.enable_fsdp is off", [](const Config& c) { return !c.fsdp.enable_fsdp; }},
    {"deepspeed.*", kMapped, "no effect: deepspeed.enable_deepspeed is off", [](const Config& c) { return !c.deepspeed.enable_deepspeed; }},
    {"training.grpo.*", kMapped, "no effect: training.trainer_type is neither TRL_GRPO nor VERL_GRPO",
     [](const Config& c) { return c.training.trainer_type != TrainerType::kTrlGrpo && c.training.trainer_type != TrainerType::kVerlGrpo; }},
    {"training.gkd.*", kMapped, "no effect: training.trainer_type is not TRL_GKD", [](const Config& c) { return c.training.trainer_type != TrainerType::kTrlGkd; }},
    {"training.gold.*", kMapped, "no effect: training.trainer_type is not TRL_GOLD", [](const Config& c) { return c.training.trainer_type != TrainerType::kTrlGold; }},
    {"training.verl_config_overrides", kMapped, "no effect: training.trainer_type is not VERL_GRPO",
     [](const Config& c) { return c.training.trainer_type != TrainerType::kVerlGrpo; }},
    {"training.gradient_checkpointing_kwargs", kMapped, "no effect: training.enable_gradient_checkpointing is off",
     [](const Config& c) { return !c.training.enable_gradient_checkpointing; }},
    // --- data ---
    {"data.train.datasets[].subset", kMapped, "no effect: dataset_path names the files that are read"},
    {"data.train.datasets[].transform_num_workers", kMapped, "transforms run in the loader's threads: see training.dataloader_num_workers"},
    // --- model ---
    {"model.tool_call_parser", kMapped, "no effect: tool calls in generated text are not parsed"},
    // --- the run ---
    {"training.label_names", kRefused, "the labels' field is called labels; rename the column in the data",
     [](const Config& c) { return c.training.label_names && *c.training.label_names != std::vector<std::string>{"labels"}; }},
    {"training.remove_unused_columns", kNative, "models take what they know of a batch and leave the rest"},
    {"training.restore_callback_states_from_checkpoint", kNative, "callbacks always get their saved state back"},
    {"training.include_performance_metrics", kNative, "token and sample rates are always logged"},
    {"training.include_alternative_mfu_metrics", kMapped, "no effect: the utilisation of a model's FLOPs is not logged"},
    {"training.log_examples", kMapped, "no effect: oumi-cpp tokenize prints samples as the model gets them"},
    {"training.dep_log_level", kMapped, "no effect: libraries write into the run's own log, under training.log_level"},
    {"training.log_level_replica", kMapped, "no effect: each rank has a log file of its own, under training.log_level"},
    {"training.dataloader_main_process_only", kMapped, "each rank reads its own share of the data"},
    {"training.empty_device_cache_steps", kMapped, "no effect: on the CPU there is no device cache"},
    {"training.tf32", kMapped, "no effect on the CPU, whose float32 products are exact"},
    {"training.profiler.with_stack", kMapped, "no effect: LibTorch records stacks of Python and TorchScript alone"},
    {"training.profiler.with_modules", kMapped, "no effect: LibTorch records modules of TorchScript alone"},
    {"training.telemetry.telemetry_dir", kMapped, "no effect: what a run records about itself is in output_dir/telemetry"},
    {"training.telemetry.collect_telemetry_for_all_ranks", kMapped, "no effect: rank 0 records the environment"},
    {"training.telemetry.track_gpu_temperature", kMapped, "no effect: temperatures are not recorded"},
};
// clang-format on

void collect(const std::string& prefix, FieldList fields, const Json& values, const Json& defaults,
             std::vector<std::string>& out) {
  for (const Field& field : fields) {
    const std::string key = prefix.empty() ? field.name : prefix + "." + field.name;
    const Json &value = values.at(field.name), &standard = defaults.at(field.name);
    const FieldList children = field.type->children();
    if (field.type->is_list && !children.empty()) {
      for (const Json& item : value) collect(key + "[]", children, item, field.type->child_defaults(), out);
    } else if (!children.empty() && value.is_object()) {
      collect(key, children, value, standard.is_object() ? standard : field.type->child_defaults(), out);
    } else if (value != standard) {
      out.push_back(key);
    }
  }
}

}  // namespace

std::span<const FieldNote> field_notes() { return kNotes; }

std::vector<std::string> changed_fields(const TrainingConfig& config) {
  std::vector<std::string> keys;
  collect("", fields_of(&config), to_json(config), to_json(TrainingConfig{}), keys);
  std::vector<std::string> unique;  // items of a list repeat theirs
  for (std::string& key : keys) {
    if (std::find(unique.begin(), unique.end(), key) == unique.end()) unique.push_back(std::move(key));
  }
  return unique;
}

bool covers(const FieldNote& note, const std::string& key) {
  std::string_view pattern = note.key;
  std::string standard = key;
  for (const std::string_view split : {"data.test.", "data.validation."}) {
    if (key.starts_with(split)) standard = "data.train." + key.substr(split.size());
  }
  if (!pattern.ends_with(".*")) return standard == pattern;
  pattern.remove_suffix(1);
  return standard.starts_with(pattern);
}

}  // namespace oumi
