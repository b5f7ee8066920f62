#include "oumi/models/gpt2/gpt2.h"

#include <c10/core/GradMode.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>

#include <cmath>

#include "oumi/base/strings.h"
#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/gpt2/gpt2_block.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi {
namespace {

Gpt2Config read_gpt2(const HfConfig& config) {
  Gpt2Config gpt;
  // The names of other families work for this one too (Transformers' attribute_map).
  const auto size = [&](const char* name, const char* other, std::int64_t fallback) {
    config.raw(name);
    return config.raw(name) != nullptr ? config.size(name, fallback) : config.size(other, fallback);
  };
  gpt.vocab_size = config.size("vocab_size", 50257);
  gpt.hidden_size = size("n_embd", "hidden_size", 768);
  gpt.num_layers = size("n_layer", "num_hidden_layers", 12);
  gpt.num_heads = size("n_head", "num_attention_heads", 12);
  gpt.max_positions = size("n_positions", "max_position_embeddings", 1024);
  gpt.inner_size = config.get<std::int64_t>("n_inner", 4 * gpt.hidden_size);
  if (gpt.hidden_size % gpt.num_heads != 0)
    throw UserError(config.key("n_head"), cat("expected a divisor of n_embd (", gpt.hidden_size, "), got ", gpt.num_heads));
  gpt.activation =
      nn::parse_activation(config.get<std::string>("activation_function", "gelu_new"), config.key("activation_function"));
  gpt.layer_norm_eps = config.get<double>("layer_norm_epsilon", 1e-5);
  gpt.residual_dropout = config.get<double>("resid_pdrop", 0.1);
  gpt.embedding_dropout = config.get<double>("embd_pdrop", 0.1);
  gpt.attention_dropout = config.get<double>("attn_pdrop", 0.1);
  gpt.initializer_range = config.get<double>("initializer_range", 0.02);
  gpt.scale_attention = config.get<bool>("scale_attn_weights", true);
  gpt.scale_by_inverse_layer = config.get<bool>("scale_attn_by_inverse_layer_idx", false);
  gpt.tie_word_embeddings = config.get<bool>("tie_word_embeddings", true);
  return gpt;
}

// Parameters: wte, wpe, h.N, ln_f.
class GPT2ModelImpl : public Module {
 public:
  explicit GPT2ModelImpl(const Gpt2Config& config)
      : max_positions_(config.max_positions), parallel_(nn::ParameterScope::current().tensor_parallel) {
    wte = register_module("wte", nn::vocab_parallel_embedding(config.vocab_size, config.hidden_size));
    wpe = register_module("wpe", nn::Embedding(config.max_positions, config.hidden_size));
    drop = register_module("drop", nn::Dropout(config.embedding_dropout));
    const auto blocks = register_module("h", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
      blocks_.emplace_back(config, i);
      blocks->push_back(blocks_.back().ptr());
    }
    ln_f = register_module("ln_f", nn::LayerNorm(config.hidden_size, config.layer_norm_eps));
  }

  Tensor forward(const DecoderInputs& inputs) {
    const Tensor embedded = embed_inputs(inputs, wte, parallel_);
    const std::int64_t new_tokens = inputs.new_tokens();
    const Tensor positions = decoder_positions(inputs, new_tokens, embedded.device());
    if (!inputs.position_ids.defined() && new_tokens > 0) {
      const std::int64_t length = new_tokens + (inputs.cache == nullptr ? 0 : inputs.cache->length());
      if (length > max_positions_) {
        throw UserError(call_path::current_path(),
                        cat("expected at most ", max_positions_, " tokens (n_positions), got ", length),
                        "shorten the sequences: model.model_max_length");
      }
    }
    nn::DecoderContext context;
    context.segment_ids = decoder_segments(inputs, new_tokens);
    context.cache = inputs.cache;
    Tensor placed = wpe(positions.dim() == 1 ? positions.unsqueeze(0) : positions);  // [1 or B, T, hidden_size]
    if (parallel_) placed = parallel_->to_outside(placed);
    Tensor hidden = drop(embedded + placed);
    for (const GPT2Block& block : blocks_) hidden = block(hidden, context);
    return nn::enter(parallel_, ln_f(hidden));
  }

  nn::Embedding wte{nullptr}, wpe{nullptr};

 private:
  std::int64_t max_positions_;
  TensorParallelPtr parallel_;
  nn::Dropout drop{nullptr};
  std::vector<GPT2Block> blocks_;
  nn::LayerNorm ln_f{nullptr};
};
OUMI_MODULE(GPT2Model);

// Matrices that files hold as [in, out].
bool is_transposed(const std::string& name) {
  return name.ends_with(".c_attn.weight") || name.ends_with(".c_proj.weight") || name.ends_with(".c_fc.weight");
}

class GPT2LMHeadModel : public LanguageModel {
 public:
  explicit GPT2LMHeadModel(const Gpt2Config& config) : gpt_(config) {
    transformer_ = register_module("transformer", GPT2Model(config));
    lm_head_ =
        register_module("lm_head", nn::column_parallel_linear(config.hidden_size, {config.vocab_size}, /*with_bias=*/false));
    if (config.tie_word_embeddings) lm_head_->share_weight(transformer_->wte->weight);
  }

  Tensor hidden_states(const DecoderInputs& inputs) override { return transformer_(inputs); }
  Tensor logits(const Tensor& hidden) override { return whole_logits(output_head()(hidden)); }
  nn::Embedding input_embeddings() override { return transformer_->wte; }
  nn::Linear output_head() override {
    if (gpt_.tie_word_embeddings) lm_head_->weight = transformer_->wte->weight;
    return lm_head_;
  }

  LanguageModelDimensions dimensions() const override {
    return {.vocab_size = gpt_.vocab_size,
            .hidden_size = gpt_.hidden_size,
            .num_hidden_layers = gpt_.num_layers,
            .num_attention_heads = gpt_.num_heads,
            .num_key_value_heads = gpt_.num_heads,
            .head_dim = gpt_.hidden_size / gpt_.num_heads,
            .max_position_embeddings = gpt_.max_positions,
            .tie_word_embeddings = gpt_.tie_word_embeddings};
  }

  // The residual stream sums 2 num_layers projections; smaller ones keep its variance (Radford et al. 2019).
  void initialize_weights() override {
    initialize_normal(*this, gpt_.initializer_range);
    const c10::AutoGradMode no_grad(false);
    for (const auto& item : named_modules("", /*include_self=*/false)) {
      if (!item.key().ends_with(".c_proj")) continue;
      auto& projection = dynamic_cast<nn::LinearImpl&>(*item.value());
      nn::initialize_whole(projection, "weight", projection.weight, [&](Tensor& weight) {
        weight.normal_(0, gpt_.initializer_range / std::sqrt(2.0 * static_cast<double>(gpt_.num_layers)));
      });
    }
  }

  StateDict to_hf_state_dict(StateDict state) const override {
    for (auto& [name, tensor] : state) {
      if (is_transposed(name)) tensor = tensor.t();
    }
    return state;
  }

  StateDict from_hf_state_dict(const StateDict& weights, const std::string& origin) const override {
    StateDict state;
    for (const auto& [name, tensor] : weights) {
      if (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")) continue;  // the causal mask of old files
      state.set(name, is_transposed(name) && tensor.dim() == 2 ? tensor.t() : tensor);
    }
    return LanguageModel::from_hf_state_dict(state, origin);
  }

 protected:
  const char* base_prefix() const override { return "transformer"; }

 private:
  Gpt2Config gpt_;
  GPT2Model transformer_{nullptr};
  nn::Linear lm_head_{nullptr};
};

}  // namespace

LanguageModelFamily gpt2_family() {
  return {.model_type = "gpt2", .architecture = "GPT2LMHeadModel", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<GPT2LMHeadModel>(read_gpt2(config));
          }};
}

}  // namespace oumi
