#include "oumi/nn/mlp.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>
#include <torch/nn/modules/container/modulelist.h>

#include <map>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/kernels/gated_activation.h"
#include "oumi/nn/discarded_activation.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {

Activation parse_activation(const std::string& name, const std::string& key) {
  static const std::map<std::string, Activation> kNames = {
      {"silu", Activation::kSilu},         {"swish", Activation::kSilu},         {"gelu", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh}, {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu}};
  const auto found = kNames.find(name);
  if (found != kNames.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& entry : kNames) names.push_back(entry.first);
  throw UserError(key, "unknown activation '" + name + "'", "known: " + join(names, ", "));
}

Tensor activate(Activation activation, const Tensor& input) {
  switch (activation) {
    case Activation::kSilu: return at::silu(input);
    case Activation::kGelu: return at::gelu(input);
    case Activation::kGeluTanh: return at::gelu(input, "tanh");
    case Activation::kRelu: return at::relu(input);
  }
  return {};
}

Tensor activate_gated(Activation activation, const Tensor& gate, const Tensor& up) {
  switch (activation) {
    case Activation::kSilu: return kernels::swiglu(gate, up);
    case Activation::kGeluTanh: return kernels::geglu(gate, up);
    default: return activate(activation, gate) * up;
  }
}

GatedMlpImpl::GatedMlpImpl(const GatedMlpConfig& config)
    : config_(config), parallel_(ParameterScope::current().tensor_parallel) {
  config_.intermediate_size = share_of(parallel_, config.intermediate_size, "intermediate_size");
  if (config.fused_gate_up) {
    gate_up_proj = register_module(
        "gate_up_proj",
        column_parallel_linear(config.hidden_size, {config.intermediate_size, config.intermediate_size}, config.bias));
  } else {
    gate_proj =
        register_module("gate_proj", column_parallel_linear(config.hidden_size, {config.intermediate_size}, config.bias));
    up_proj = register_module("up_proj", column_parallel_linear(config.hidden_size, {config.intermediate_size}, config.bias));
  }
  down_proj = register_module("down_proj", row_parallel_linear(config.intermediate_size, config.hidden_size, config.bias));
}

Tensor GatedMlpImpl::forward(const Tensor& outside) {
  const Tensor hidden = enter(parallel_, outside);
  if (!config_.fused_gate_up) {
    const std::vector<Tensor> projected = outputs_of(hidden, {gate_proj, up_proj});
    return project_gated(projected[0], projected[1]);
  }
  const Tensor both = gate_up_proj(hidden);
  return project_gated(both.narrow(-1, 0, config_.intermediate_size),
                       both.narrow(-1, config_.intermediate_size, config_.intermediate_size));
}

Tensor GatedMlpImpl::project_gated(const Tensor& gate, const Tensor& up) {
  const Tensor gated = activate_gated(config_.activation, gate, up);
  Tensor result = down_proj(gated);
  if (!has_call_hooks(*down_proj) && is_kept_for_backward(gated, result)) {
    discard_until_backward(gated, result, [activation = config_.activation, gate = gate.detach(), up = up.detach()] {
      return activate_gated(activation, gate, up);
    });
  }
  return result;
}

SparseMoeImpl::SparseMoeImpl(const SparseMoeConfig& config) : config_(config) {
  const auto experts = register_module("experts", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_experts; ++i) {
    experts_.emplace_back(GatedMlpConfig{config.hidden_size, config.intermediate_size, config.activation});
    experts->push_back(experts_.back().ptr());
  }
  gate = register_module("gate", Linear(config.hidden_size, config.num_experts, /*with_bias=*/false));
}

Tensor SparseMoeImpl::forward(const Tensor& hidden) {
  const Tensor tokens = hidden.reshape({-1, hidden.size(-1)});
  const Tensor probabilities = at::softmax(gate(tokens), -1, at::kFloat);
  auto [weights, chosen] = probabilities.topk(config_.num_experts_per_token, -1);  // [tokens, k]
  if (config_.normalize_top_k) weights = weights / weights.sum(-1, /*keepdim=*/true);
  weights = weights.to(tokens.scalar_type());

  // Tokens sorted by expert: one slice for each.
  const Tensor order = chosen.flatten().argsort(/*stable=*/true, 0, /*descending=*/false);
  const Tensor counts = chosen.flatten().bincount({}, config_.num_experts).cpu();
  const Tensor token_of = order.div(config_.num_experts_per_token, "floor");
  const Tensor weight_of = weights.flatten().index_select(0, order).unsqueeze(1);
  Tensor output = at::zeros_like(tokens);
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < config_.num_experts; ++i) {
    const std::int64_t count = counts[i].item<std::int64_t>();
    if (count == 0) continue;
    const Tensor rows = token_of.narrow(0, begin, count);
    const Tensor result = experts_[static_cast<std::size_t>(i)](tokens.index_select(0, rows));
    output.index_add_(0, rows, (result * weight_of.narrow(0, begin, count)).to(output.scalar_type()));
    begin += count;
  }
  return output.view_as(hidden);
}

}  // namespace oumi::nn
