// The loss of a batch: the model's own, or one that the arguments ask for.
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <torch/types.h>

#include <string_view>

#include "oumi/base/strings.h"
#include "oumi/models/language_model.h"
#include "oumi/trainer/label_check.h"
#include "oumi/trainer/precision.h"
#include "oumi/trainer/run.h"
#include "oumi/trainer/trainer.h"

namespace oumi {

bool Trainer::uses_own_loss() const {
  // A language model smooths its own labels (set in the constructor): here they are not shifted.
  const bool smooths = args_.label_smoothing_factor > 0 && !as_language_model(model_);
  return static_cast<bool>(options_.compute_loss_func) || smooths || !args_.class_weights.empty();
}

Tensor Trainer::compute_loss(Model& model, const Batch& batch, Outputs* outputs) {
  try {
    return loss_of(model, batch, outputs);
  } catch (const std::exception& error) {
    const std::string_view message = error.what();
    const bool may_be_a_label = message.find("out of bounds") != message.npos || message.find("out of range") != message.npos;
    const std::string label = may_be_a_label ? describe_bad_label(model, batch) : "";
    if (label.empty()) throw;
    throw UserError("labels", label, "correct the data, or give the model as many classes as it has");
  }
}

Tensor Trainer::loss_of(Model& model, const Batch& batch, Outputs* outputs) {
  Outputs results = model(batch);
  Tensor loss;
  if (options_.compute_loss_func) {
    loss = options_.compute_loss_func(results, batch);
  } else if (uses_own_loss()) {
    // Mean over the samples or tokens whose label is not -100 of (1 - e) nll + e mean_v(-log p_v), as HF's LabelSmoother.
    const Tensor logits = results.logits();
    const Tensor& labels = batch.at("labels");
    Tensor weights;
    if (!args_.class_weights.empty()) {
      if (static_cast<std::int64_t>(args_.class_weights.size()) != logits.size(-1)) {
        throw UserError("training.class_weights", cat("expected one weight for each of the model's ", logits.size(-1),
                                                      " classes, got ", args_.class_weights.size()));
      }
      weights = torch::tensor(args_.class_weights, torch::TensorOptions().dtype(at::kFloat).device(logits.device()));
    }
    loss = at::cross_entropy_loss(logits.reshape({-1, logits.size(-1)}).to(at::kFloat), labels.reshape({-1}), weights,
                                  at::Reduction::Mean, -100, args_.label_smoothing_factor);
  } else {
    loss = results.loss();
  }
  if (loss.numel() != 1) {
    throw UserError("model", cat("expected a scalar loss, got shape ", loss.sizes()), "reduce it, e.g. to its mean");
  }
  if (outputs != nullptr) *outputs = std::move(results);
  return loss;
}

Tensor Trainer::training_step(Model& model, const Batch& batch, std::int64_t micro_batches) {
  Tensor loss;
  {
    const AutocastScope autocast(device_, args_.bf16);
    loss = compute_loss(model, batch, nullptr);
  }
  if (micro_batches > 1) loss = loss / micro_batches;
  backward(loss);
  return loss.detach();
}

void Trainer::backward(const Tensor& loss) {
  try {
    if (run_ && run_->sharding) {
      run_->sharding->backward(loss, run_->last_micro_batch);
    } else if (run_ && run_->gradient_sync) {
      if (run_->last_micro_batch) run_->gradient_sync->before_backward(loss);
      run_->gradient_sync->backward(loss);
    } else {
      loss.backward();
    }
  } catch (const std::exception& error) {
    rethrow_naming_memory(error, "the backward pass");
  }
}

}  // namespace oumi
