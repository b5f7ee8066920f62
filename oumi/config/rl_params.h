// `training.grpo`, `training.gkd` and `training.gold` - settings of the preference and distillation trainers. One entry per
// field: rl_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oumi/config/field.h"

namespace oumi {

struct GrpoParams {
  Json model_init_kwargs = Json::object();
  std::optional<std::int64_t> max_prompt_length;
  std::optional<std::int64_t> max_completion_length;
  std::optional<std::int64_t> num_generations;
  double temperature = 0.9;
  bool remove_unused_columns = false;
  std::optional<double> repetition_penalty = 1.0;
  bool use_vllm = false;
  std::optional<std::string> vllm_mode;
  double vllm_gpu_memory_utilization = 0.9;
  double epsilon = 0.2;
  bool log_completions = false;
  std::optional<std::string> rollout_function;

  bool operator==(const GrpoParams&) const = default;
};

struct GkdParams {
  std::optional<std::string> teacher_model_name_or_path;
  Json teacher_model_init_kwargs = Json{{"dtype", "auto"}};
  double temperature = 0.9;
  double lmbda = 0.5;
  double beta = 0.5;
  std::int64_t max_new_tokens = 128;
  bool disable_dropout = true;
  bool seq_kd = false;

  bool operator==(const GkdParams&) const = default;
};

struct GoldParams {
  std::optional<std::string> teacher_model_name_or_path;
  Json teacher_model_init_kwargs = Json{{"torch_dtype", "auto"}};
  std::optional<std::string> teacher_tokenizer_name_or_path;
  double temperature = 0.9;
  double top_p = 0.95;
  std::int64_t top_k = 0;
  double lmbda = 0.5;
  double beta = 0.5;
  std::int64_t max_completion_length = 128;
  bool disable_dropout = true;
  bool seq_kd = false;
  bool use_uld_loss = false;
  bool use_extended_uld = true;
  bool uld_use_hybrid_loss = false;
  std::optional<double> uld_hybrid_matched_weight;
  std::optional<double> uld_hybrid_unmatched_weight;
  double uld_crossentropy_weight = 0.0;
  double uld_distillation_weight = 1.0;
  double uld_student_temperature = 1.0;
  double uld_teacher_temperature = 1.0;
  bool uld_skip_student_eos = true;
  bool uld_skip_teacher_eos = true;
  bool use_transformers_paged = false;
  bool use_vllm = false;
  std::string vllm_mode = "server";
  std::string vllm_server_host = "0.0.0.0";
  std::int64_t vllm_server_port = 8001;
  double vllm_server_timeout = 240.0;
  double vllm_gpu_memory_utilization = 0.9;
  std::int64_t vllm_tensor_parallel_size = 1;
  std::optional<std::string> vllm_guided_decoding_regex;
  std::int64_t vllm_sync_frequency = 1;
  bool vllm_enable_sleep_mode = false;

  bool operator==(const GoldParams&) const = default;
};

FieldList fields_of(const GrpoParams*);
FieldList fields_of(const GkdParams*);
FieldList fields_of(const GoldParams*);

}  // namespace oumi
