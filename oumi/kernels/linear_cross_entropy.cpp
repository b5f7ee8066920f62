#include "oumi/kernels/linear_cross_entropy.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/cpu/matrix_product.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Enough rows that adding a chunk's product to the gradient of the weight costs little beside the product.
constexpr std::int64_t kChunkRows = 512;

// Rows whose logits are there at once. Where gradients of the weight are summed in a wider type than they have (twice as wide),
// all rows are, as long as their logits take no more memory than the sums, which are not needed then.
std::int64_t chunk_rows(std::int64_t rows, std::int64_t hidden_size, bool sums_weight) {
  if (rows == 0 || (sums_weight && rows <= 2 * hidden_size)) return rows;
  const std::int64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
  return (rows + chunks - 1) / chunks;
}

// Entries of the vocabulary whose gradients are computed at a time where a product is then added to wider sums.
constexpr std::int64_t kBlockEntries = 8192;

struct Call {
  LinearCrossEntropyOptions options;
  at::ScalarType compute;  // of the products
  bool with_gradients;
};

struct Wanted {
  bool hidden, weight, bias;
};

// What a chunk's logits are turned into: summed losses (float64), and in `logits` the gradient of `factor` times their sum with
// respect to the projection's output.
struct ChunkLoss {
  const LinearCrossEntropyOptions& options;
  const Tensor& bias;  // of the projection; may be undefined
  double factor;
  bool with_gradients;
};

// One pass over each row, which stays in the second-level cache. logits [rows, vocabulary] float32 or bfloat16 on the CPU.
double chunk_loss_fused(const ChunkLoss& call, const Tensor& logits, const Tensor& labels) {
  const std::int64_t rows = logits.size(0), size = logits.size(1);
  const Tensor bias = call.bias.defined() ? call.bias.detach().to(at::kFloat).contiguous() : Tensor();
  const Tensor packed_labels = labels.contiguous();
  std::vector<double> losses(static_cast<std::size_t>(rows));
  cpu::by_type(logits.scalar_type(), [&](auto type) {
    using T = decltype(type);
    cpu::parallel_for(0, rows, cpu::grain_of(8 * size), [&](std::int64_t first, std::int64_t last) {
      thread_local std::vector<float> scratch;
      if (logits.scalar_type() != at::kFloat && scratch.size() < static_cast<std::size_t>(size))
        scratch.resize(static_cast<std::size_t>(size));
      const cpu::CrossEntropy<T> arguments{cpu::pointer<T>(logits),
                                           cpu::pointer<float>(bias),
                                           packed_labels.const_data_ptr<std::int64_t>(),
                                           size,
                                           static_cast<float>(call.options.label_smoothing),
                                           static_cast<float>(call.options.soft_cap),
                                           static_cast<float>(call.factor),
                                           call.with_gradients,
                                           losses.data(),
                                           scratch.data()};
      cpu::simd().loops<T>().cross_entropy(arguments, first, last);
    });
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  return total;
}

double chunk_loss_composed(const ChunkLoss& call, Tensor& logits, const Tensor& labels) {
  const LinearCrossEntropyOptions& options = call.options;
  const bool with_gradients = call.with_gradients;
  if (call.bias.defined()) logits += call.bias;
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
    logits.mul_(call.factor);
  }
  return loss.sum(at::kDouble).item<double>();
}

// The loss and its gradients in one pass. Gradients are those of the reduced loss; hidden's has a row for each of hidden's.
struct Result {
  Tensor loss, hidden, weight, bias;
};

Result compute(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels, const Call& call,
               Wanted wanted) {
  const auto wide = accumulation_type(call.compute);
  const auto wide_options = hidden.options().dtype(wide);
  const Tensor kept = at::nonzero(labels.ne(call.options.ignore_index)).squeeze(1);
  const std::int64_t rows = kept.size(0);
  const bool all = rows == labels.size(0);
  const Tensor kept_labels = all ? labels : labels.index_select(0, kept);
  const bool narrow_weight = wanted.weight && wide != call.compute && weight.scalar_type() == call.compute;
  const std::int64_t chunk_size = chunk_rows(rows, hidden.size(1), narrow_weight);
  // Blocks read bfloat16 where it lies.
  const bool by_blocks = call.compute == at::kFloat && cpu::goes_by_blocks(hidden.narrow(0, 0, chunk_size), weight.t());
  const auto operand = [&](const Tensor& tensor) { return by_blocks ? tensor : tensor.to(call.compute); };
  const Tensor input = operand(all ? hidden : hidden.index_select(0, kept)), table = operand(weight);
  const bool with_gradients = wanted.hidden || wanted.weight || wanted.bias;

  Result result;
  Tensor grad_input;
  if (wanted.hidden) grad_input = at::empty_like(input);
  const bool sums_weight = wanted.weight && !(narrow_weight && rows > 0 && chunk_size == rows);
  const bool first_product_sets = wide == call.compute && rows > 0;
  if (sums_weight)
    result.weight = first_product_sets ? at::empty(weight.sizes(), wide_options) : at::zeros(weight.sizes(), wide_options);
  if (wanted.bias) result.bias = at::zeros(bias.sizes(), wide_options);
  const bool mean = call.options.reduction == LossReduction::kMean;
  const ChunkLoss chunk_loss{call.options, bias, mean ? 1 / static_cast<double>(rows) : 1.0, with_gradients};
  const bool fused = cpu::has_loops(input);
  // Reused by every chunk.
  Tensor buffer = at::empty({chunk_size, table.size(0)}, input.options().dtype(call.compute));
  double total = 0;
  for (std::int64_t first = 0; first < rows; first += chunk_size) {
    const std::int64_t count = std::min(chunk_size, rows - first);
    const Tensor chunk = input.narrow(0, first, count), chunk_labels = kept_labels.narrow(0, first, count);
    Tensor logits = buffer.narrow(0, 0, count);
    cpu::product_into(logits, chunk, table.t());
    if (fused) {
      total += chunk_loss_fused(chunk_loss, logits, chunk_labels);
    } else {
      Tensor wide_logits = logits.to(wide);
      total += chunk_loss_composed(chunk_loss, wide_logits, chunk_labels);
      logits = wide_logits.to(call.compute);
    }
    if (!with_gradients) continue;
    if (wanted.bias) result.bias += logits.sum(0, /*keepdim=*/false, wide);
    if (wanted.hidden) cpu::product_into(grad_input.narrow(0, first, count), logits, table);
    if (!wanted.weight) continue;
    if (!sums_weight) {
      result.weight = cpu::product(logits.t(), chunk, call.compute);
    } else if (wide == call.compute) {
      if (first == 0) {
        cpu::product_into(result.weight, logits.t(), chunk);
      } else {
        cpu::add_product(result.weight, logits.t(), chunk);
      }
    } else {
      for (std::int64_t entry = 0; entry < table.size(0); entry += kBlockEntries) {
        const std::int64_t entries = std::min(kBlockEntries, table.size(0) - entry);
        cpu::add_product(result.weight.narrow(0, entry, entries), logits.narrow(1, entry, entries).t(), chunk);
      }
    }
  }
  buffer.reset();
  if (mean) total /= static_cast<double>(rows);
  result.loss = at::full({}, total, wide_options);
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
    context->saved_data["gradients"] =
        std::vector<std::optional<Tensor>>{optional(result.hidden), optional(result.weight), optional(result.bias)};
    return result.loss;
  }

  static variable_list backward(AutogradContext* context, variable_list outputs) {
    const auto saved = context->saved_data.find("gradients");
    if (saved == context->saved_data.end()) {
      throw InternalError(
          "linear_cross_entropy: expected one backward pass, got a second; its gradients are gone after the first");
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
  static std::optional<Tensor> optional(const Tensor& tensor) {
    return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
  }
};

void check(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& labels,
           const LinearCrossEntropyOptions& options) {
  const char* name = "linear_cross_entropy";
  expect(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1), name,
         "hidden [rows, hidden] and weight [vocabulary, hidden]", hidden.sizes(), " and ", weight.sizes());
  expect(is_float_type(hidden.scalar_type()) && is_float_type(weight.scalar_type()), name, "floating point",
         hidden.scalar_type(), " and ", weight.scalar_type());
  if (bias.defined())
    expect(bias.dim() == 1 && bias.size(0) == weight.size(0), name, cat("bias [", weight.size(0), "]"), bias.sizes());
  expect(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong, name,
         cat("labels int64 [", hidden.size(0), "]"), labels.scalar_type(), " ", labels.sizes());
  expect(options.label_smoothing >= 0 && options.label_smoothing <= 1, name, "label_smoothing in [0, 1]",
         options.label_smoothing);
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
  RECORD_FUNCTION("oumi::linear_cross_entropy", std::vector<c10::IValue>({hidden, weight}));
  check(hidden, weight, bias.value_or(Tensor()), labels, options);
  const auto device = hidden.device().type();
  const bool autocast = at::autocast::is_autocast_enabled(device) && hidden.scalar_type() != at::kDouble;
  auto compute = autocast ? at::autocast::get_autocast_dtype(device) : hidden.scalar_type();
  if (compute == at::kBFloat16 && hidden.device().is_cpu() && !cpu::has_bfloat16_products()) compute = at::kFloat;
  return LinearCrossEntropy::apply(hidden, weight, bias, labels, Call{options, compute, c10::GradMode::is_enabled()});
}

}  // namespace oumi::kernels
