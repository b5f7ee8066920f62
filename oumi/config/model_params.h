// `model:` - what is trained. One entry per field: model_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/config/field.h"

namespace oumi {

struct ModelParams {
  std::string model_name{};
  std::optional<std::string> adapter_model{};
  bool adapter_trainable = false;
  std::optional<std::string> tokenizer_name{};
  std::optional<std::string> tokenizer_pad_token{};
  Json tokenizer_kwargs = Json::object();
  Json processor_kwargs = Json::object();
  std::optional<std::int64_t> model_max_length{};
  bool load_pretrained_weights = true;
  bool trust_remote_code = false;
  std::string torch_dtype_str = "auto";
  bool compile = false;
  std::optional<std::string> chat_template{};
  std::optional<Json> chat_template_kwargs{};
  std::optional<std::string> attn_implementation{};
  std::optional<std::string> device_map = "auto";
  Json model_kwargs = Json::object();
  bool enable_liger_kernel = false;
  bool shard_for_eval = false;
  std::vector<std::string> freeze_layers{};
  bool text_only = false;
  std::optional<std::string> model_revision{};
  std::optional<std::string> tool_call_parser{};

  bool operator==(const ModelParams&) const = default;
};

FieldList fields_of(const ModelParams*);

}  // namespace oumi
