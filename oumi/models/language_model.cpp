#include "oumi/models/language_model.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full_like.h>
#include <torch/types.h>

#include "oumi/base/strings.h"
#include "oumi/kernels/linear_cross_entropy.h"
#include "oumi/kernels/products.h"
#include "oumi/nn/parameter_scope.h"
#include "oumi/nn/vocab_parallel_cross_entropy.h"

namespace oumi {
namespace {

constexpr std::int64_t kIgnored = -100;

// labels[t + 1] at position t, nothing at the last one and where the next token begins another sample.
Tensor shifted_labels(const Batch& batch, const Tensor& labels) {
  Tensor shifted = at::full_like(labels, kIgnored, labels.options().dtype(at::kLong));
  const std::int64_t length = labels.size(1);
  if (length < 2) return shifted;
  Tensor targets = labels.narrow(1, 1, length - 1);
  if (const Tensor* segments = batch.find("segment_ids")) {
    targets = targets.masked_fill(segments->narrow(1, 1, length - 1) != segments->narrow(1, 0, length - 1), kIgnored);
  }
  shifted.narrow(1, 0, length - 1).copy_(targets);
  return shifted;
}

// Rows filled up at their ends, where causal attention hides it from every token, to a multiple of `divisor` tokens.
Batch filled_up(const Batch& batch, std::int64_t divisor) {
  const Tensor* embeds = batch.find("inputs_embeds");
  const Tensor* tokens = embeds != nullptr ? embeds : batch.find("input_ids");
  const std::int64_t missing = tokens == nullptr || tokens->dim() < 2 ? 0 : (divisor - tokens->size(1) % divisor) % divisor;
  Batch result = batch;
  if (missing == 0) return result;
  // Counted here: the length that some rotary rules look at is the row's own.
  if (!batch.contains("position_ids"))
    result.set("position_ids", at::arange(tokens->size(1), tokens->options().dtype(at::kLong)));
  if (embeds != nullptr) result.set("inputs_embeds", at::constant_pad_nd(*embeds, {0, 0, 0, missing}));
  const std::pair<const char*, std::int64_t> fields[] = {
      {"input_ids", 0}, {"attention_mask", 1}, {"position_ids", 0}, {"segment_ids", -1}, {"labels", kIgnored}};
  for (const auto& [name, filler] : fields) {
    if (const Tensor* field = result.find(name)) result.set(name, Tensor(at::constant_pad_nd(*field, {0, missing}, filler)));
  }
  return result;
}

Tensor optional(const Batch& batch, const char* name) {
  const Tensor* found = batch.find(name);
  return found == nullptr ? Tensor() : *found;
}

}  // namespace

LanguageModel::LanguageModel() : tensor_parallel_(nn::ParameterScope::current().tensor_parallel) {
  kernels::allow_widest_products();
}

Tensor LanguageModel::whole_logits(const Tensor& local) const {
  return tensor_parallel_ ? tensor_parallel_->gather_last(local, dimensions().vocab_size) : local;
}

Tensor LanguageModel::run(const DecoderInputs& inputs) {
  return call_path::call(*this, [this](const DecoderInputs& arguments) { return hidden_states(arguments); }, inputs);
}

Outputs LanguageModel::forward(const Batch& given) {
  const bool fills = tensor_parallel_ && tensor_parallel_->sequence_parallel();
  const Batch batch = fills ? filled_up(given, tensor_parallel_->size()) : given;
  DecoderInputs inputs{.input_ids = optional(batch, "input_ids"),
                       .inputs_embeds = optional(batch, "inputs_embeds"),
                       .attention_mask = optional(batch, "attention_mask"),
                       .position_ids = optional(batch, "position_ids"),
                       .segment_ids = optional(batch, "segment_ids")};
  const Tensor& tokens = inputs.inputs_embeds.defined() ? inputs.inputs_embeds : inputs.input_ids;
  if (!tokens.defined() || tokens.dim() < 2) {
    throw UserError(call_path::current_path(),
                    tokens.defined()
                        ? cat("input_ids: expected [batch, tokens], got ", tokens.sizes())
                        : "the batch lacks its input: expected 'input_ids', got [" + join(batch.names(), ", ") + "]",
                    "language models take tokenised text");
  }
  const std::int64_t filler =
      fills ? tokens.size(1) - (given.contains("inputs_embeds") ? given.at("inputs_embeds") : given.at("input_ids")).size(1)
            : 0;
  const Tensor hidden = hidden_states(inputs);
  const Tensor* labels = batch.find("labels");
  Outputs outputs;
  if (labels != nullptr) outputs.set("loss", loss(hidden, batch));
  if (labels == nullptr || (!is_training() && !loss_only_)) {
    outputs.set("logits", logits(hidden.narrow(1, 0, tokens.size(1) - filler)));
  }
  return outputs;
}

Tensor LanguageModel::loss(const Tensor& hidden, const Batch& batch) {
  const Tensor& labels = batch.at("labels");
  if (labels.dim() != 2 || labels.size(0) != hidden.size(0) || labels.size(1) != hidden.size(1)) {
    throw UserError(call_path::current_path(),
                    cat("labels: expected [", hidden.size(0), ", ", hidden.size(1), "], got ", labels.sizes()));
  }
  const Tensor targets = shifted_labels(batch, labels).flatten();
  const Tensor rows = hidden.flatten(0, 1);
  nn::Linear head = output_head();
  Tensor sum;
  if (head->adapter) {
    // An adapter's product is no plain weight, so these logits are whole.
    const Tensor logits_NV = logits(rows).to(at::kFloat);
    sum = at::cross_entropy_loss(logits_NV, targets, {}, at::Reduction::Sum, kIgnored, label_smoothing_);
  } else {
    const kernels::LinearCrossEntropyOptions options{.ignore_index = kIgnored,
                                                     .label_smoothing = label_smoothing_,
                                                     .soft_cap = final_logit_soft_cap(),
                                                     .reduction = kernels::LossReduction::kSum};
    // On the head's call path: where it is a unit of FSDP, its weight is there within its calls alone.
    const auto fused = [&head = *head, targets, options, parallel = tensor_parallel_,
                        vocabulary = dimensions().vocab_size](const Tensor& input) {
      const std::optional<Tensor> bias = head.bias.defined() ? std::optional<Tensor>(head.bias) : std::nullopt;
      return parallel ? nn::vocab_parallel_cross_entropy(input, head.weight, bias, targets, vocabulary, *parallel, options)
                      : kernels::linear_cross_entropy(input, head.weight, bias, targets, options);
    };
    sum = call_path::call(*head, fused, rows);
  }
  if (const Tensor* items = batch.find("num_items_in_batch")) return sum / items->to(sum.device(), sum.scalar_type());
  // No label that counts: 0 with a graph, where a mean would be NaN.
  return sum / targets.ne(kIgnored).sum().clamp_min(1).to(sum.scalar_type());
}

void LanguageModel::set_config(Json config, Json generation_config) {
  config_ = std::move(config);
  generation_config_ = std::move(generation_config);
}

}  // namespace oumi
