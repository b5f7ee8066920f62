#include "oumi/models/qwen3_moe/qwen3_moe.h"

#include <algorithm>

#include "oumi/base/strings.h"
#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/qwen2/qwen_window.h"

namespace oumi {
namespace {

struct Qwen3MoeDecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

class Qwen3MoeForCausalLM : public CausalDecoder {
 public:
  using CausalDecoder::CausalDecoder;

  // Transformers 5 keeps a layer's experts in one tensor: gate_up_proj [experts, 2 intermediate, hidden], gate first, and
  // down_proj [experts, hidden, intermediate]. The Hub's files, and ours, have one tensor for each.
  StateDict from_hf_state_dict(const StateDict& weights, const std::string& origin) const override {
    StateDict split;
    for (const auto& [name, tensor] : weights) {
      const bool both = name.ends_with(".experts.gate_up_proj"), down = name.ends_with(".experts.down_proj");
      if ((!both && !down) || tensor.dim() != 3) {
        split.set(name, tensor);
        continue;
      }
      const std::string prefix = name.substr(0, name.rfind('.') + 1);
      for (std::int64_t i = 0; i < tensor.size(0); ++i) {
        const std::string expert = prefix + std::to_string(i) + ".";
        if (down) {
          split.set(expert + "down_proj.weight", tensor[i]);
          continue;
        }
        const std::int64_t size = tensor.size(1) / 2;
        split.set(expert + "gate_proj.weight", tensor[i].narrow(0, 0, size));
        split.set(expert + "up_proj.weight", tensor[i].narrow(0, size, tensor.size(1) - size));
      }
    }
    return CausalDecoder::from_hf_state_dict(split, origin);
  }

 protected:
  Json config_to_save() const override {
    Json config = CausalDecoder::config_to_save();
    // Versions differ in the name.
    if (config.contains("num_local_experts") && !config.contains("num_experts"))
      config["num_experts"] = config["num_local_experts"];
    return config;
  }
};

bool is_sparse_layer(const std::vector<std::int64_t>& dense_layers, std::int64_t step, std::int64_t layer) {
  return std::find(dense_layers.begin(), dense_layers.end(), layer) == dense_layers.end() && (layer + 1) % step == 0;
}

DecoderConfig read_qwen3_moe(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 151936,
                                                     .hidden_size = 2048,
                                                     .intermediate_size = 6144,
                                                     .num_hidden_layers = 24,
                                                     .num_key_value_heads = 4,
                                                     .max_position_embeddings = 32768});
  decoder.rotary = {read_rotary(config, decoder)};
  const bool attention_bias = config.get<bool>("attention_bias", false);
  set_attention_bias(decoder, attention_bias, attention_bias);
  config.refuse("output_router_logits", "the load-balancing loss of the router is not built");

  nn::SparseMoeConfig experts;
  experts.hidden_size = decoder.dimensions.hidden_size;
  experts.intermediate_size = config.size("moe_intermediate_size", 768);
  experts.num_experts = config.find<std::int64_t>("num_experts").value_or(config.get<std::int64_t>("num_local_experts", 128));
  config.raw("num_local_experts");
  experts.num_experts_per_token = config.size("num_experts_per_tok", 8);
  experts.normalize_top_k = config.get<bool>("norm_topk_prob", false);
  if (experts.num_experts < 0 || (experts.num_experts > 0 && experts.num_experts_per_token > experts.num_experts)) {
    throw UserError(config.key("num_experts_per_tok"),
                    cat("expected at most num_experts (", experts.num_experts, "), got ", experts.num_experts_per_token));
  }
  const auto dense_layers = config.get<std::vector<std::int64_t>>("mlp_only_layers", {});
  const std::int64_t step = config.size("decoder_sparse_step", 1);
  const std::int64_t window = read_qwen_window(config).size;  // on every layer, unlike the dense models
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    nn::DecoderLayerConfig& layer = decoder.layers[i];
    layer.attention.qk_norm = nn::QkNorm::kPerHead;
    layer.attention.core.sliding_window = window;
    experts.activation = layer.mlp.activation;
    if (experts.num_experts > 0 && is_sparse_layer(dense_layers, step, static_cast<std::int64_t>(i))) layer.experts = experts;
  }
  return decoder;
}

}  // namespace

LanguageModelFamily qwen3_moe_family() {
  return {
      .model_type = "qwen3_moe", .architecture = "Qwen3MoeForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
        return std::make_shared<Qwen3MoeForCausalLM>(read_qwen3_moe(config), decoder_layer_factory<Qwen3MoeDecoderLayerImpl>());
      }};
}

}  // namespace oumi
