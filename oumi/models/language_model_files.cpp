// A language model's files: names of weights, config.json.
#include <ATen/ops/equal.h>

#include <algorithm>
#include <map>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/output_file.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/language_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/state.h"
#include "oumi/models/tensor_parallel_state.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

// Tables that old files carry and every model computes for itself.
bool is_computed_table(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

std::string dtype_name(const StateDict& weights) {
  for (const auto& [name, weight] : weights) {
    switch (weight.scalar_type()) {
      case at::kBFloat16: return "bfloat16";
      case at::kHalf: return "float16";
      case at::kDouble: return "float64";
      case at::kFloat: return "float32";
      default: break;  // quantised bases don't say
    }
  }
  return "float32";
}

// Transformers 4 knows rope_theta and rope_scaling alone, and falls back to its defaults, without a word, where it finds
// neither.
void add_older_rope_keys(Json& config) {
  const auto found = config.find("rope_parameters");
  if (found == config.end() || !found->is_object()) return;
  const Json parameters = *found;
  const bool nested = parameters.contains("full_attention");
  const Json& main = nested ? parameters["full_attention"] : parameters;
  if (!main.is_object()) return;
  if (main.contains("rope_theta") && !config.contains("rope_theta")) config["rope_theta"] = main["rope_theta"];
  const std::string type = main.value("rope_type", "default");
  if (type != "default" && !config.contains("rope_scaling")) {
    Json scaling = main;
    scaling.erase("rope_theta");
    scaling.erase("partial_rotary_factor");
    if (type == "longrope") {  // its readers insist on just these, and on the length beside them
      if (main.contains("original_max_position_embeddings") && !config.contains("original_max_position_embeddings")) {
        config["original_max_position_embeddings"] = main["original_max_position_embeddings"];
      }
      scaling = Json{{"type", "longrope"}, {"short_factor", main["short_factor"]}, {"long_factor", main["long_factor"]}};
      if (main.contains("attention_factor")) scaling["attention_factor"] = main["attention_factor"];
    }
    config["rope_scaling"] = std::move(scaling);
  }
  if (main.contains("partial_rotary_factor") && !config.contains("partial_rotary_factor")) {
    config["partial_rotary_factor"] = main["partial_rotary_factor"];
  }
  const bool has_local_base = config.value("model_type", "").starts_with("gemma3");
  if (nested && has_local_base && parameters.contains("sliding_attention") &&
      parameters["sliding_attention"].contains("rope_theta") && !config.contains("rope_local_base_freq")) {
    config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"];
  }
}

}  // namespace

StateDict LanguageModel::own_state_dict() const { return state_dict(*this); }

StateDict LanguageModel::from_hf_state_dict(const StateDict& weights, const std::string& origin) const {
  const std::string prefix = std::string(base_prefix()) + ".";
  const bool bare =
      std::none_of(weights.begin(), weights.end(), [&](const auto& entry) { return entry.first.starts_with(prefix); });
  StateDict result;
  for (const auto& [name, tensor] : weights) {
    if (is_computed_table(name)) continue;
    result.set(bare && !name.starts_with("lm_head.") ? prefix + name : name, tensor);
  }
  // A tied head is the embedding. Files may hold it twice; two different ones contradict the config.
  if (const Tensor* head = result.find("lm_head.weight"); head != nullptr && dimensions().tie_word_embeddings) {
    for (const auto& [name, tensor] : result) {
      const bool is_embedding = name == prefix + "embed_tokens.weight" || name == prefix + "wte.weight";
      if (!is_embedding || (tensor.sizes() == head->sizes() && at::equal(tensor, *head))) continue;
      throw UserError(origin,
                      "tensor 'lm_head.weight' differs from '" + name + "', and tie_word_embeddings says that they are one",
                      "set model.model_kwargs: {tie_word_embeddings: false} to keep both");
    }
    result.erase("lm_head.weight");
  }
  return result;
}

void LanguageModel::load_weights_from(const fs::path& directory) {
  load_own_state_dict(from_hf_state_dict(load_language_weights(directory), directory.string()), directory.string());
}

void LanguageModel::load_own_state_dict(const StateDict& weights, const std::string& origin) {
  load_state_dict(*this, tensor_parallel_ ? own_parts(*this, weights, origin) : weights, /*strict=*/true, origin);
}

Json LanguageModel::config_to_save() const {
  Json config = config_;
  config["architectures"] = Json::array({model_type()});
  const std::string dtype = dtype_name(weight_source() ? weight_source()->shapes() : own_state_dict());
  if (config.contains("dtype")) config["dtype"] = dtype;
  config["torch_dtype"] = dtype;  // read by every version; "dtype" from 4.56 on
  add_older_rope_keys(config);
  return config;
}

void LanguageModel::save_pretrained(const fs::path& directory) const { save_pretrained(directory, kMaxShardSize); }

void LanguageModel::write_weights(const fs::path& directory, std::uint64_t max_shard_size) const {
  std::shared_ptr<WeightSource> source = weight_source();
  if (tensor_parallel_) source = std::make_shared<WholeWeights>(*this, *tensor_parallel_, std::move(source));
  if (!source) {
    save_sharded_safetensors(directory, hf_state_dict(), {.max_shard_size = max_shard_size});
    return;
  }
  const auto to_file = [this](const std::string& name, const Tensor& tensor) {
    StateDict one;
    one.set(name, tensor);
    return to_hf_state_dict(std::move(one));
  };
  StateDict shapes;
  std::map<std::string, std::string> own_names;
  for (const auto& [own_name, shape] : source->shapes()) {
    for (const auto& [name, tensor] : to_file(own_name, shape)) {
      shapes.set(name, tensor);
      own_names[name] = own_name;
    }
  }
  const TensorSource values = [&](const std::string& name) {
    const std::string& own_name = own_names.at(name);
    return to_file(own_name, source->gather(own_name)).at(name);
  };
  save_sharded_safetensors(directory, shapes, {.max_shard_size = max_shard_size, .base_name = "model", .values = values});
}

void LanguageModel::save_pretrained(const fs::path& directory, std::uint64_t max_shard_size) const {
  if (tensor_parallel_ && tensor_parallel_->rank() != 0) return send_parts(*this, *tensor_parallel_, weight_source());
  write_weights(directory, max_shard_size);
  write_output_file(directory / "config.json", config_to_save().dump(2) + "\n");
  if (!generation_config_.is_null()) write_output_file(directory / "generation_config.json", generation_config_.dump(2) + "\n");
}

}  // namespace oumi
