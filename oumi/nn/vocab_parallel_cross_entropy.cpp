#include "oumi/nn/vocab_parallel_cross_entropy.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "oumi/base/strings.h"
#include "oumi/kernels/checks.h"

namespace oumi::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kRowsAtOnce = 512;
constexpr const char* kExchanging = "the loss over a spread vocabulary";

struct SpreadLoss {
  const TensorParallel& parallel;
  kernels::LinearCrossEntropyOptions options;
  std::int64_t vocabulary;
  at::ScalarType compute;  // of the products
  bool with_gradients;
};

// Summed losses of the rows, and in `logits` [rows, own part] (wide, before the soft cap) the gradient of `factor` times the
// sum.
double rows_loss(const SpreadLoss& call, Tensor& logits, const Tensor& labels, double factor) {
  const kernels::LinearCrossEntropyOptions& options = call.options;
  Tensor slope;
  if (options.soft_cap > 0) {
    logits.div_(options.soft_cap).tanh_();
    if (call.with_gradients) slope = 1 - logits.square();
    logits.mul_(options.soft_cap);
  }
  ProcessGroup& group = call.parallel.group();
  const Tensor largest = at::amax(logits, {1});
  group.all_reduce(largest, ReduceKind::kMax, kExchanging);
  logits.sub_(largest.unsqueeze(1));

  const auto [first, size] = TensorSplit::range(call.vocabulary, call.parallel.rank(), call.parallel.size());
  const Tensor own = labels.ge(first).logical_and(labels.lt(first + size));
  const Tensor index = (labels - first).clamp(0, size - 1).unsqueeze(1);
  const Tensor target = logits.gather(1, index).squeeze(1) * own;
  const Tensor totals = at::stack({logits.exp().sum(1), target, logits.sum(1)});  // [3, rows]
  group.all_reduce(totals, ReduceKind::kSum, kExchanging);

  const double smoothing = options.label_smoothing, share = smoothing / static_cast<double>(call.vocabulary);
  const Tensor log_sum = totals[0].log();
  const Tensor loss = log_sum - totals[1] * (1 - smoothing) - totals[2] * share;
  if (call.with_gradients) {
    logits.sub_(log_sum.unsqueeze(1)).exp_();
    if (smoothing > 0) logits.sub_(share);
    logits.scatter_add_(1, index, (own.to(logits.scalar_type()) * (smoothing - 1)).unsqueeze(1));
    if (slope.defined()) logits.mul_(slope);
    if (factor != 1) logits.mul_(factor);
  }
  return loss.sum(at::kDouble).item<double>();
}

struct SpreadResult {
  Tensor loss;
  std::vector<Tensor> gradients;  // of hidden, weight, bias; undefined where none is wanted
};

SpreadResult all_rows(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels,
                      const SpreadLoss& call) {
  const auto wide = kernels::accumulation_type(call.compute);
  const auto wide_options = hidden.options().dtype(wide);
  const auto wants = [&](const Tensor& tensor) { return call.with_gradients && tensor.defined() && tensor.requires_grad(); };
  const bool wants_hidden = wants(hidden), wants_weight = wants(weight), wants_bias = wants(bias);
  const Tensor kept = at::nonzero(labels.ne(call.options.ignore_index)).squeeze(1);
  const Tensor kept_labels = labels.index_select(0, kept);
  const Tensor input = hidden.detach().index_select(0, kept).to(call.compute), table = weight.detach().to(call.compute);
  const std::int64_t rows = kept.size(0);
  const bool mean = call.options.reduction == kernels::LossReduction::kMean;
  const double factor = mean ? 1 / static_cast<double>(rows) : 1;

  SpreadResult result{.loss = {}, .gradients = std::vector<Tensor>(3)};
  Tensor grad_input;
  if (wants_hidden) grad_input = at::zeros_like(input);
  if (wants_weight) result.gradients[1] = at::zeros(weight.sizes(), wide_options);
  if (wants_bias) result.gradients[2] = at::zeros(bias.sizes(), wide_options);
  double total = 0;
  for (std::int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, rows - first);
    const Tensor chunk = input.narrow(0, first, count);
    Tensor logits = at::mm(chunk, table.t()).to(wide);
    if (bias.defined()) logits += bias.detach();
    total += rows_loss(call, logits, kept_labels.narrow(0, first, count), factor);
    const Tensor gradient = logits.to(call.compute);
    if (wants_bias) result.gradients[2] += logits.sum(0);
    if (wants_hidden) grad_input.narrow(0, first, count).copy_(at::mm(gradient, table));
    if (wants_weight) result.gradients[1] += at::mm(gradient.t(), chunk);
  }
  if (mean) total /= static_cast<double>(rows);
  result.loss = at::full({}, total, wide_options);
  if (wants_hidden) result.gradients[0] = at::zeros_like(hidden).index_copy_(0, kept, grad_input.to(hidden.scalar_type()));
  if (wants_weight) result.gradients[1] = result.gradients[1].to(weight.scalar_type());
  if (wants_bias) result.gradients[2] = result.gradients[2].to(bias.scalar_type());
  return result;
}

struct VocabParallelCrossEntropy : torch::autograd::Function<VocabParallelCrossEntropy> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Tensor& labels, const SpreadLoss& call) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const SpreadResult result = all_rows(hidden, weight, bias.value_or(Tensor()), labels, call);
    std::vector<std::optional<Tensor>> gradients;
    for (const Tensor& gradient : result.gradients)
      gradients.push_back(gradient.defined() ? std::optional<Tensor>(gradient) : std::nullopt);
    context->saved_data["gradients"] = gradients;
    return result.loss;
  }

  static variable_list backward(AutogradContext* context, variable_list outputs) {
    const auto saved = context->saved_data.find("gradients");
    if (saved == context->saved_data.end()) {
      throw InternalError(
          "vocab_parallel_cross_entropy: expected one backward pass, got a second; its gradients are gone after the first");
    }
    auto held = std::move(saved->second).to<std::vector<std::optional<Tensor>>>();
    context->saved_data.erase(saved);
    const double scale = outputs[0].item<double>();
    variable_list gradients;
    for (auto& gradient : held) {
      gradients.push_back(gradient.value_or(Tensor()));
      if (gradients.back().defined() && scale != 1) gradients.back().mul_(scale);
    }
    gradients.resize(5);  // of labels and call
    return gradients;
  }
};

}  // namespace

Tensor vocab_parallel_cross_entropy(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias,
                                    const Tensor& labels, std::int64_t vocabulary, const TensorParallel& parallel,
                                    const kernels::LinearCrossEntropyOptions& options) {
  const char* name = "vocab_parallel_cross_entropy";
  kernels::expect(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1), name,
                  "hidden [rows, hidden] and weight [own part, hidden]", hidden.sizes(), " and ", weight.sizes());
  kernels::expect(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong, name,
                  cat("labels int64 [", hidden.size(0), "]"), labels.scalar_type(), " ", labels.sizes());
  const Tensor outside = labels.ne(options.ignore_index).logical_and(labels.lt(0).logical_or(labels.ge(vocabulary)));
  if (outside.any().item<bool>()) {
    kernels::expect(false, name, cat("labels in [0, ", vocabulary, ") or ", options.ignore_index),
                    labels.masked_select(outside)[0].item<std::int64_t>());
  }
  const auto device = hidden.device().type();
  const bool autocast = at::autocast::is_autocast_enabled(device) && hidden.scalar_type() != at::kDouble;
  const auto compute = autocast ? at::autocast::get_autocast_dtype(device) : hidden.scalar_type();
  return VocabParallelCrossEntropy::apply(hidden, weight, bias, labels,
                                          SpreadLoss{parallel, options, vocabulary, compute, c10::GradMode::is_enabled()});
}

}  // namespace oumi::nn
