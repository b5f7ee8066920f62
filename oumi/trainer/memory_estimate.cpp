#include "oumi/trainer/memory_estimate.h"

#include "oumi/base/strings.h"
#include "oumi/models/language_model.h"
#include "oumi/nn/quantized_linear.h"

namespace oumi {
namespace {

// Bytes of state that the optimizer keeps for a trained tensor.
std::uint64_t optimizer_bytes(const Tensor& parameter, const MemoryQuestion& question) {
  const std::string name = to_lower(question.optimizer);
  const auto elements = static_cast<std::uint64_t>(parameter.numel());
  const std::uint64_t one = elements * parameter.element_size();
  if (name.find("8bit") != std::string::npos)
    return elements * 2 + elements / 32;  // two moments and a float for every 256 values of each
  if (name.find("adafactor") != std::string::npos) {
    if (parameter.dim() < 2) return one;
    return static_cast<std::uint64_t>(parameter.numel() / parameter.size(-1) + parameter.numel() / parameter.size(-2)) * 4;
  }
  if (name.find("adam") != std::string::npos) return 2 * one;
  if (name.find("sgd") != std::string::npos) return question.sgd_momentum > 0 ? one : 0;
  return one;  // adagrad, rmsprop, lion
}

std::int64_t number(const Json& config, std::initializer_list<const char*> keys, std::int64_t fallback) {
  for (const char* key : keys) {
    if (config.is_object() && config.contains(key) && config[key].is_number_integer()) return config[key];
  }
  return fallback;
}

std::uint64_t activation_bytes(const LanguageModel& model, const MemoryQuestion& question) {
  const LanguageModelDimensions d = model.dimensions();
  const Json& config = model.config();
  std::int64_t width = number(config, {"intermediate_size", "n_inner"}, 4 * d.hidden_size);
  // Of a mixture of experts each token sees some.
  if (const std::int64_t experts = number(config, {"num_experts_per_tok"}, 0); experts > 0) {
    width = experts * number(config, {"moe_intermediate_size"}, width);
  }
  const std::int64_t head = d.head_dim * (2 * d.num_attention_heads + 2 * d.num_key_value_heads);
  const std::int64_t layer = 4 * d.hidden_size + head + 3 * width;
  const std::int64_t kept =
      question.checkpoint_activations ? d.hidden_size * d.num_hidden_layers + layer : layer * d.num_hidden_layers;
  const Tensor first = model.parameters().front();
  const auto element = static_cast<std::int64_t>(question.bf16_autocast ? 2 : first.element_size());
  return static_cast<std::uint64_t>((kept + 2 * d.hidden_size) * question.tokens * element);
}

}  // namespace

MemoryEstimate estimate_memory(const Model& model, const MemoryQuestion& question) {
  MemoryEstimate estimate;
  for (const Tensor& parameter : model.parameters()) {
    estimate.weights += parameter.nbytes();
    if (!parameter.requires_grad()) continue;
    estimate.gradients += parameter.nbytes();
    estimate.optimizer += optimizer_bytes(parameter, question);
  }
  for (const auto& module : model.modules()) {
    const auto* layer = dynamic_cast<const nn::LinearImpl*>(module.get());
    const nn::QuantizedWeight* quantized = layer == nullptr ? nullptr : nn::quantized_weight(*layer);
    if (quantized != nullptr) estimate.weights += quantized->bytes();
  }
  if (const auto* language = dynamic_cast<const LanguageModel*>(&model); language != nullptr && question.tokens > 0) {
    estimate.activations = activation_bytes(*language, question);
  }
  return estimate;
}

}  // namespace oumi
