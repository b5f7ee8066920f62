// The config of `oumi-cpp infer`: Oumi's InferenceConfig, or a training config, whose trained model is then talked to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "oumi/config/training_config.h"

namespace oumi {

// `generation:` - how text is generated. What is unset comes from the model's generation_config.json.
struct GenerationParams {
  std::optional<std::int64_t> max_new_tokens{};
  std::int64_t batch_size = 1;
  bool exclude_prompt_from_response = true;
  std::optional<std::int64_t> seed{};
  std::optional<double> temperature{};
  std::optional<std::int64_t> top_k{};
  std::optional<double> top_p{};
  std::optional<double> min_p{};
  std::optional<double> repetition_penalty{};
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::optional<std::vector<std::string>> stop_strings{};
  std::optional<std::vector<std::int64_t>> stop_token_ids{};
  Json logit_bias = Json::object();
  bool use_cache = true;
  std::int64_t num_beams = 1;
  std::optional<bool> use_sampling{};
  std::optional<Json> guided_decoding{};
  bool skip_special_tokens = true;

  bool operator==(const GenerationParams&) const = default;
};

FieldList fields_of(const GenerationParams*);

struct InferenceConfig {
  // Model, adapter, tokenizer; for a training config all of it. Rules between fields of training are not checked.
  TrainingConfig run;
  GenerationParams generation;
  std::optional<std::string> input_path;
  std::optional<std::string> output_path;
  std::optional<std::string> system_prompt;
  bool is_training_config = false;       // it has a section `training`: the run's output_dir may hold the model
  bool model_named_by_override = false;  // model.model_name was given on the command line
};

// Reads the files in order (a later one wins), then the overrides, as load_config does. Beside the sections of a training
// config: `generation`, `input_path`, `output_path`, `system_prompt`, `engine` and `remote_params`. Throws UserError naming
// key, file, line and column: unknown keys, wrong types, values out of range, an engine that is no local one, what is not built
// (beams, guided decoding).
InferenceConfig load_inference_config(const std::vector<std::filesystem::path>& files,
                                      const std::vector<std::string>& overrides = {});

}  // namespace oumi
