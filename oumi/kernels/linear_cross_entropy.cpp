#include "oumi/kernels/linear_cross_entropy.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "oumi/kernels/checks.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kChunkRows = 512;

struct Call {
  LinearCrossEntropyOptions options;
  at::ScalarType compute;  // of the products
  bool with_gradients;
};

struct Wanted {
  bool hidden, weight, bias;
};

// Loss of a chunk as a float64 scalar; logits [rows, vocabulary] in the accumulation type become the loss's gradient with respect to
// the projection's output.
Tensor chunk_loss(Tensor& logits, const Tensor& labels, const LinearCrossEntropyOptions& options, bool with_gradients) {
  Tensor slope;
  if (options.soft_cap > 0) {
    logits.div_(options.soft_cap).tanh_();
    if (with_gradients) slope = 1 - logits.square();
    logits.mul_(options.soft_cap);
  }
  const double smoothing = options.label_smoothing;
  const Tensor log_sum = at::logsumexp(logits, 1, /*keepdim=*/true);
  const Tensor index = labels.unsqueeze(1);
  Tensor loss = log_sum - logits.gather(1, index) * (1 - smoothing);
  if (smoothing > 0) loss -= logits.mean(1, /*keepdim=*/true) * smoothing;
  if (with_gradients) {
    logits.sub_(log_sum).exp_();
    if (smoothing > 0) logits.sub_(smoothing / static_cast<double>(logits.size(1)));
    logits.scatter_add_(1, index, at::full_like(log_sum, smoothing - 1));
    if (slope.defined()) logits.mul_(slope);
  }
  return loss.sum(at::kDouble);
}

// The loss and its gradients in one pass. Gradients are those of the reduced loss; hidden's has a row for each of hidden's.
struct Result {
  Tensor loss, hidden, weight, bias;
};

Result compute(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels, const Call& call, Wanted wanted) {
  const auto wide = accumulation_type(call.compute);
  const auto wide_options = hidden.options().dtype(wide);
  const Tensor kept = at::nonzero(labels.ne(call.options.ignore_index)).squeeze(1);
  const std::int64_t rows = kept.size(0);
  const bool all = rows == labels.size(0);
  const Tensor kept_labels = all ? labels : labels.index_select(0, kept);
  const Tensor input = (all ? hidden : hidden.index_select(0, kept)).to(call.compute);
  const Tensor table = weight.to(call.compute);
  const bool with_gradients = wanted.hidden || wanted.weight || wanted.bias;

  Result result;
  Tensor grad_input;
  if (wanted.hidden) grad_input = at::empty_like(input);
  if (wanted.weight) result.weight = at::zeros(weight.sizes(), wide_options);
  if (wanted.bias) result.bias = at::zeros(bias.sizes(), wide_options);
  Tensor total = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (std::int64_t first = 0; first < rows; first += kChunkRows) {
    const std::int64_t count = std::min(kChunkRows, rows - first);
    const Tensor chunk = input.narrow(0, first, count);
    Tensor logits = at::mm(chunk, table.t()).to(wide);
    if (bias.defined()) logits += bias;
    total += chunk_loss(logits, kept_labels.narrow(0, first, count), call.options, with_gradients);
    if (!with_gradients) continue;
    if (call.options.reduction == LossReduction::kMean) logits.div_(static_cast<double>(rows));
    if (wanted.bias) result.bias += logits.sum(0);
    const Tensor grad_logits = logits.to(call.compute);
    if (wanted.hidden) {
      Tensor out = grad_input.narrow(0, first, count);
      at::mm_out(out, grad_logits, table);
    }
    if (!wanted.weight) continue;
    if (wide == call.compute) {
      result.weight.addmm_(grad_logits.t(), chunk);
    } else {
      result.weight += at::mm(grad_logits.t(), chunk);
    }
  }
  if (call.options.reduction == LossReduction::kMean) total /= static_cast<double>(rows);
  result.loss = total.to(wide);
  if (wanted.hidden) {
    grad_input = grad_input.to(hidden.scalar_type());
    result.hidden = all ? grad_input : at::zeros_like(hidden).index_copy_(0, kept, grad_input);
  }
  if (wanted.weight) result.weight = result.weight.to(weight.scalar_type());
  if (wanted.bias) result.bias = result.bias.to(bias.scalar_type());
  return result;
}

class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Tensor& labels, const Call& call) {
    // The products pick their type themselves.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const Tensor bias_or_none = bias.value_or(Tensor());
    const bool grads = call.with_gradients;
    const Wanted wanted{grads && hidden.requires_grad(), grads && weight.requires_grad(),
                        grads && bias_or_none.defined() && bias_or_none.requires_grad()};
    Result result = compute(hidden, weight, bias_or_none, labels, call, wanted);
    context->saved_data["gradients"] = std::vector<std::optional<Tensor>>{optional(result.hidden), optional(result.weight), optional(result.bias)};
    return result.loss;
  }

  static variable_list backward(AutogradContext* context, variable_list outputs) {
    const auto saved = context->saved_data.find("gradients");
    if (saved == context->saved_data.end()) {
      throw InternalError("linear_cross_entropy: expected one backward pass, got a second; its gradients are gone after the first");
    }
    // Taken out, so that the gradient is nobody else's and becomes the parameter's without a copy.
    std::vector<Tensor> gradients;
    {
      auto held = std::move(saved->second).to<std::vector<std::optional<Tensor>>>();
      context->saved_data.erase(saved);
      for (auto& gradient : held) gradients.push_back(gradient.value_or(Tensor()));
    }
    const double scale = outputs[0].item<double>();
    for (Tensor& gradient : gradients) {
      if (gradient.defined() && scale != 1) gradient.mul_(scale);
    }
    return {gradients[0], gradients[1], gradients[2], Tensor(), Tensor()};
  }

 private:
  static std::optional<Tensor> optional(const Tensor& tensor) { return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt; }
};

void check(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels, const LinearCrossEntropyOptions& options) {
  const char* name = "linear_cross_entropy";
  expect(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1), name, "hidden [rows, hidden] and weight [vocabulary, hidden]",
         hidden.sizes(), " and ", weight.sizes());
  expect(is_float_type(hidden.scalar_type()) && is_float_type(weight.scalar_type()), name, "floating point", hidden.scalar_type(), " and ",
         weight.scalar_type());
  if (bias.defined()) expect(bias.dim() == 1 && bias.size(0) == weight.size(0), name, cat("bias [", weight.size(0), "]"), bias.sizes());
  expect(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong, name,
         cat("labels int64 [", hidden.size(0), "]"), labels.scalar_type(), " ", labels.sizes());
  expect(options.label_smoothing >= 0 && options.label_smoothing <= 1, name, "label_smoothing in [0, 1]", options.label_smoothing);
  if (!labels.device().is_cpu()) return;
  const std::int64_t* label = labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0, stride = labels.stride(0); i < labels.size(0); ++i) {
    const std::int64_t value = label[i * stride];
    if (value == options.ignore_index || (value >= 0 && value < weight.size(0))) continue;
    expect(false, name, cat("labels in [0, ", weight.size(0), ") or ", options.ignore_index), value);
  }
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& labels,
                            const LinearCrossEntropyOptions& options) {
  check(hidden, weight, bias.value_or(Tensor()), labels, options);
  const auto device = hidden.device().type();
  const bool autocast = at::autocast::is_autocast_enabled(device) && hidden.scalar_type() != at::kDouble;
  const auto compute = autocast ? at::autocast::get_autocast_dtype(device) : hidden.scalar_type();
  return LinearCrossEntropy::apply(hidden, weight, bias, labels, Call{options, compute, c10::GradMode::is_enabled()});
}

}  // namespace oumi::kernels
