#include "oumi/distributed/tensor_parallel.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum class Exchange : std::int64_t { kNothing, kSum, kGather, kSumScatter, kSlice };

// One direction's exchange along `dim`, which has `size` elements when whole.
Tensor exchange(const TensorParallel& parallel, Exchange kind, const Tensor& input, std::int64_t dim, std::int64_t size,
                const char* what) {
  ProcessGroup& group = parallel.group();
  const std::int64_t ranks = parallel.size();
  switch (kind) {
    case Exchange::kNothing: return input.view_as(input);
    case Exchange::kSum: {
      const Tensor result = input.clone(at::MemoryFormat::Contiguous);
      group.all_reduce(result, ReduceKind::kSum, what);
      return result;
    }
    case Exchange::kGather: {
      const std::int64_t share = (size + ranks - 1) / ranks;
      const TensorSplit split{.dim = dim, .pieces = {size}};
      Tensor own = input;
      if (own.size(dim) < share) {  // the last rank's
        std::vector<std::int64_t> pad(static_cast<std::size_t>(2 * (input.dim() - dim)), 0);
        pad.back() = share - own.size(dim);
        own = at::constant_pad_nd(own, pad);
      }
      own = own.contiguous();
      std::vector<std::int64_t> shape = own.sizes().vec();
      shape.insert(shape.begin(), ranks);
      const Tensor all = at::empty(shape, own.options());
      group.all_gather(all.view({-1}), own.view({-1}), what).wait();
      return all.movedim(0, dim).flatten(dim, dim + 1).narrow(dim, 0, size);
    }
    case Exchange::kSumScatter: {
      std::vector<std::int64_t> shape = input.sizes().vec();
      shape[static_cast<std::size_t>(dim)] /= ranks;
      const Tensor all = input.unflatten(dim, {ranks, shape[static_cast<std::size_t>(dim)]}).movedim(dim, 0).contiguous();
      const Tensor own = at::empty(shape, input.options());
      group.reduce_scatter(own.view({-1}), all.view({-1}), what).wait();
      return own;
    }
    case Exchange::kSlice: return TensorSplit{.dim = dim, .pieces = {size}}.slice(input, parallel.rank(), ranks).contiguous();
  }
  return input;
}

struct Held : torch::CustomClassHolder {
  explicit Held(std::shared_ptr<const TensorParallel> value) : parallel(std::move(value)) {}
  std::shared_ptr<const TensorParallel> parallel;
};

struct Border {
  const char* name;  // of the operation, in errors
  Exchange forward, backward;
  std::int64_t dim = 0, size = 0;
};

struct CrossBorder : torch::autograd::Function<CrossBorder> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const std::shared_ptr<const TensorParallel>& parallel,
                        const Border& border) {
    context->saved_data["parallel"] = at::IValue::make_capsule(c10::make_intrusive<Held>(parallel));
    context->saved_data["backward"] = static_cast<std::int64_t>(border.backward);
    context->saved_data["dim"] = border.dim;
    context->saved_data["size"] = border.size;
    return exchange(*parallel, border.forward, input, border.dim, border.size, border.name);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<Held>(context->saved_data.at("parallel").toCapsule());
    const auto kind = static_cast<Exchange>(context->saved_data.at("backward").toInt());
    return {exchange(*held->parallel, kind, gradients[0], context->saved_data.at("dim").toInt(),
                     context->saved_data.at("size").toInt(), "exchanging gradients within a tensor-parallel group"),
            Tensor(), Tensor()};
  }
};

constexpr const char* kName = "exchanging activations within a tensor-parallel group";

// A generator of this rank's own: the same draw on every rank, and a seed beside it as far apart as Megatron's.
at::Generator own_generator(const TensorParallel& parallel, c10::Device device) {
  std::uint64_t seed = 0;
  {
    at::Generator shared = at::globalContext().defaultGenerator(at::kCPU);
    const std::lock_guard<std::mutex> lock(shared.mutex());
    seed = at::check_generator<at::CPUGeneratorImpl>(shared)->random64();
  }
  seed += 2718 + static_cast<std::uint64_t>(parallel.rank());
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Generator generator = at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

std::shared_ptr<const TensorParallel> TensorParallel::create(std::shared_ptr<ProcessGroup> group,
                                                             const TensorParallelOptions& options) {
  return std::make_shared<const TensorParallel>(std::move(group), options);
}

std::int64_t TensorParallel::share_of(std::int64_t count, const char* what) const {
  if (count % size() == 0) return count / size();
  throw UserError("parallel.tensor_model_parallel_size",
                  cat("expected a divisor of the model's ", what, " (", count, "), got ", size()),
                  "each rank has the same share of them: choose a smaller size");
}

Tensor TensorParallel::enter(const Tensor& hidden) const {
  if (!sequence_parallel()) return sum_gradient(hidden);
  return CrossBorder::apply(hidden, shared_from_this(),
                            Border{kName, Exchange::kGather, Exchange::kSumScatter, 1, hidden.size(1) * size()});
}

Tensor TensorParallel::leave(const Tensor& partial) const {
  if (!sequence_parallel())
    return CrossBorder::apply(partial, shared_from_this(), Border{kName, Exchange::kSum, Exchange::kNothing});
  share_of(partial.size(1), "tokens in a row");
  return CrossBorder::apply(partial, shared_from_this(),
                            Border{kName, Exchange::kSumScatter, Exchange::kGather, 1, partial.size(1)});
}

Tensor TensorParallel::to_outside(const Tensor& whole) const {
  if (!sequence_parallel()) return whole;
  share_of(whole.size(1), "tokens in a row");
  return CrossBorder::apply(whole, shared_from_this(), Border{kName, Exchange::kSlice, Exchange::kGather, 1, whole.size(1)});
}

Tensor TensorParallel::sum_gradient(const Tensor& parameter) const {
  return CrossBorder::apply(parameter, shared_from_this(), Border{kName, Exchange::kNothing, Exchange::kSum});
}

Tensor TensorParallel::sum(const Tensor& partial) const {
  return CrossBorder::apply(partial, shared_from_this(), Border{kName, Exchange::kSum, Exchange::kSum});
}

Tensor TensorParallel::gather_last(const Tensor& local, std::int64_t size) const {
  return CrossBorder::apply(local, shared_from_this(),
                            Border{kName, Exchange::kGather, Exchange::kSlice, local.dim() - 1, size});
}

Tensor TensorParallel::dropout_inside(const Tensor& input, double p, bool train) const {
  if (!train || p == 0) return input;
  if (p == 1) return input * 0;
  const Tensor mask = at::empty_like(input).bernoulli_(1 - p, own_generator(*this, input.device())).div_(1 - p);
  return input * mask;
}

Tensor TensorParallel::dropout_outside(const Tensor& input, double p, bool train) const {
  return sequence_parallel() ? dropout_inside(input, p, train) : at::dropout(input, p, train);
}

Tensor TensorParallel::gather(const Tensor& local, const TensorSplit& split) const {
  const std::int64_t largest = split.local_size(0, size());
  const Tensor all = exchange(*this, Exchange::kGather, local.detach(), split.dim, largest * size(),
                              "gathering weights within a tensor-parallel group");
  std::vector<Tensor> parts;
  for (std::int64_t rank = 0; rank < size(); ++rank)
    parts.push_back(all.narrow(split.dim, rank * largest, split.local_size(rank, size())));
  return split.join(parts);
}

}  // namespace oumi
