#include "oumi/models/decoder/hf_config.h"

#include <array>
#include <cmath>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

// Keys of Transformers' configs that leave a causal model's logits and loss alone: what it is, how it generates, how it was
// saved, heads of other tasks, caches.
constexpr std::array kNeutralKeys = {"architectures",
                                     "model_type",
                                     "transformers_version",
                                     "torch_dtype",
                                     "dtype",
                                     "auto_map",
                                     "use_cache",
                                     "cache_implementation",
                                     "bos_token_id",
                                     "eos_token_id",
                                     "pad_token_id",
                                     "sep_token_id",
                                     "cls_token_id",
                                     "mask_token_id",
                                     "decoder_start_token_id",
                                     "forced_bos_token_id",
                                     "forced_eos_token_id",
                                     "tokenizer_class",
                                     "prefix",
                                     "pretraining_tp",
                                     "attn_implementation",
                                     "torchscript",
                                     "tie_encoder_decoder",
                                     "return_dict",
                                     "return_dict_in_generate",
                                     "output_attentions",
                                     "output_hidden_states",
                                     "output_scores",
                                     "id2label",
                                     "label2id",
                                     "num_labels",
                                     "problem_type",
                                     "finetuning_task",
                                     "task_specific_params",
                                     "max_length",
                                     "max_new_tokens",
                                     "min_length",
                                     "do_sample",
                                     "early_stopping",
                                     "num_beams",
                                     "num_beam_groups",
                                     "diversity_penalty",
                                     "temperature",
                                     "top_k",
                                     "top_p",
                                     "typical_p",
                                     "repetition_penalty",
                                     "length_penalty",
                                     "no_repeat_ngram_size",
                                     "encoder_no_repeat_ngram_size",
                                     "bad_words_ids",
                                     "num_return_sequences",
                                     "exponential_decay_length_penalty",
                                     "suppress_tokens",
                                     "begin_suppress_tokens",
                                     "remove_invalid_values",
                                     "chunk_size_feed_forward",
                                     "tf_legacy_loss",
                                     "use_bfloat16",
                                     "summary_type",
                                     "summary_use_proj",
                                     "summary_activation",
                                     "summary_proj_to_labels",
                                     "summary_first_dropout",
                                     "n_ctx",
                                     "reorder_and_upcast_attn",
                                     "is_decoder",
                                     "is_llama_config",
                                     "transformers.js_config",
                                     "unsloth_fixed",
                                     "unsloth_version",
                                     "router_aux_loss_coef",
                                     "classifier_dropout"};

bool is_unset(const Json& value) {
  return value.is_null() || value == false || (value.is_number() && value == 0) || value == "" ||
         ((value.is_array() || value.is_object()) && value.empty());
}

bool is_neutral(const std::string& name) {
  if (name.starts_with("_")) return true;
  for (const char* neutral : kNeutralKeys) {
    if (name == neutral) return true;
  }
  return false;
}

}  // namespace

HfConfig::HfConfig(Json values, std::string origin) : values_(std::move(values)), origin_(std::move(origin)) {
  if (!values_.is_object()) throw UserError(origin_, "expected a JSON object, got " + json_type_name(values_));
}

void HfConfig::mark_overrides(const Json& overrides) {
  for (const auto& [name, value] : overrides.items()) overridden_.insert(name);
}

std::string HfConfig::key(const std::string& name) const {
  return overridden_.contains(name) ? "model.model_kwargs." + name : origin_ + ":" + name;
}

const Json* HfConfig::raw(const std::string& name) const {
  read_.insert(name);
  const auto found = values_.find(name);
  return found == values_.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t HfConfig::size(const std::string& name, std::int64_t fallback) const {
  const auto value = get<std::int64_t>(name, fallback);
  if (value < 1) throw UserError(key(name), cat("expected at least 1, got ", value));
  return value;
}

bool HfConfig::is_whole(const Json& value) {
  return value.is_number_float() && std::floor(value.get<double>()) == value.get<double>() &&
         std::abs(value.get<double>()) < 1e15;
}

void HfConfig::refuse(const std::string& name, const std::string& why) const {
  const Json* value = raw(name);
  if (value != nullptr && !is_unset(*value)) throw UserError(key(name), "got " + value->dump() + ": " + why);
}

void HfConfig::check_all_read() const {
  refuse("quantization_config", "quantised checkpoints are not read");
  refuse("is_encoder_decoder", "only decoders are built");
  refuse("add_cross_attention", "only decoders are built");
  refuse("pruned_heads", "pruned heads are not built");
  for (const auto& [name, value] : values_.items()) {
    if (read_.contains(name) || is_unset(value) || is_neutral(name)) continue;
    throw UserError(key(name), "this setting is not known for this family, and could change the result: got " + value.dump(),
                    suggestion(name, {read_.begin(), read_.end()}) +
                        (overridden_.contains(name) ? "" : "; model.model_kwargs: {" + name + ": null} leaves it out"));
  }
}

}  // namespace oumi
