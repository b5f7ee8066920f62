// The feed-forward parts of decoders: gated, and gated with experts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "oumi/nn/layers.h"

namespace oumi::nn {

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };

// By transformers' names: "silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", ... `key` is the config key to
// blame.
Activation parse_activation(const std::string& name, const std::string& key);

Tensor activate(Activation activation, const Tensor& input);
// activation(gate) * up, fused where there is a kernel.
Tensor activate_gated(Activation activation, const Tensor& gate, const Tensor& up);

struct GatedMlpConfig {
  std::int64_t hidden_size = 0, intermediate_size = 0;
  Activation activation = Activation::kSilu;
  bool bias = false;
  bool fused_gate_up = false;  // one gate_up_proj (Phi 3) instead of gate_proj, up_proj
};

// down_proj(activation(gate_proj(x)) * up_proj(x)). Parameters: gate_proj, up_proj, down_proj (or gate_up_proj, down_proj).
class GatedMlpImpl : public Module {
 public:
  explicit GatedMlpImpl(const GatedMlpConfig& config);
  // [*, hidden_size] -> the same shape.
  Tensor forward(const Tensor& outside);

 private:
  // down_proj(activation(gate) * up). Backward makes the product's input again, which is the largest activation of a layer.
  Tensor project_gated(const Tensor& gate, const Tensor& up);

  GatedMlpConfig config_;
  std::shared_ptr<const TensorParallel> parallel_;
  Linear gate_proj{nullptr}, up_proj{nullptr}, down_proj{nullptr}, gate_up_proj{nullptr};
};
OUMI_MODULE(GatedMlp);

struct SparseMoeConfig {
  std::int64_t hidden_size = 0, intermediate_size = 0;
  std::int64_t num_experts = 0, num_experts_per_token = 0;
  bool normalize_top_k = false;  // the chosen experts' probabilities sum to 1
  Activation activation = Activation::kSilu;
};

// Each token goes through its num_experts_per_token most probable experts; their outputs are summed with their probabilities.
// Parameters as in Qwen3-MoE's files: gate.weight [num_experts, hidden_size], experts.N.{gate,up,down}_proj.weight.
// Every expert with tokens costs three products over its own tokens.
class SparseMoeImpl : public Module {
 public:
  explicit SparseMoeImpl(const SparseMoeConfig& config);
  // [*, hidden_size] -> the same shape.
  Tensor forward(const Tensor& hidden);

 private:
  SparseMoeConfig config_;
  Linear gate{nullptr};
  std::vector<GatedMlp> experts_;
};
OUMI_MODULE(SparseMoe);

}  // namespace oumi::nn
