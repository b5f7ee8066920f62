// ZeRO-1: optimizer state split over ranks.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/gradient_sync.h"
#include "oumi/distributed/sharding.h"

namespace oumi {
namespace {

// Bytes gathered at once: bounds what is held twice.
constexpr std::int64_t kGatherBytes = 16 * 1024 * 1024;

class ShardedOptimizer final : public Sharding {
 public:
  ShardedOptimizer(std::shared_ptr<ProcessGroup> group, const NamedTensors& trained, const GradientSyncOptions& options)
      : group_(std::move(group)), sync_(group_, trained, options) {
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : trained) {
      parameters_.push_back(parameter);
      shards_.push_back({.name = name, .shape = parameter.sizes().vec()});
    }
    std::vector<bool> placed(parameters_.size(), false);
    for (std::size_t first = 0; first < parameters_.size(); ++first) {
      if (placed[first]) continue;
      std::vector<std::size_t> members;
      for (std::size_t i = first; i < parameters_.size(); ++i) {
        if (placed[i] || parameters_[i].scalar_type() != parameters_[first].scalar_type()) continue;
        members.push_back(i);
        placed[i] = true;
      }
      place(members);
    }
  }

  void backward(const Tensor& loss, bool last) override {
    if (last) sync_.before_backward(loss);
    sync_.backward(loss);
  }

  double clip_gradients(double max_norm) override {
    const at::NoGradGuard no_grad;
    // Gradients are whole and equal on every rank here.
    std::vector<Tensor> gradients, norms;
    double norm = 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Tensor& gradient = parameters_[i].grad();
      if (!gradient.defined()) continue;
      gradients.push_back(gradient);
      if (!counts(shards_[i].name)) continue;
      const bool half = gradient.scalar_type() == at::kHalf || gradient.scalar_type() == at::kBFloat16;
      norms.push_back(
          at::linalg_vector_norm(gradient, 2, at::OptionalIntArrayRef(), false, half ? std::optional(at::kFloat) : std::nullopt)
              .to(at::kFloat));
    }
    if (!norms.empty()) norm = at::linalg_vector_norm(at::stack(norms)).item<double>();
    norm = norm_over_parts(norm);
    const float factor = 1.0F / (static_cast<float>(norm) + 1e-6F) * static_cast<float>(max_norm);
    if (max_norm > 0 && !(factor >= 1.0F)) at::_foreach_mul_(gradients, static_cast<double>(factor));
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      ParameterShard& shard = shards_[i];
      if (!shard.value.defined()) continue;
      const Tensor& gradient = parameters_[i].grad();
      shard.value.mutable_grad() =
          gradient.defined() ? gradient.reshape({-1}).narrow(0, shard.begin, shard.end - shard.begin) : Tensor();
    }
    return norm;
  }

  void after_step() override {
    const at::NoGradGuard no_grad;
    const std::int64_t world = group_->world_size(), rank = group_->rank();
    for (const Tensor& flat : buffers_) {
      const std::int64_t part = flat.numel() / world,
                         piece = std::max<std::int64_t>(1, kGatherBytes / flat.element_size() / world);
      for (std::int64_t begin = 0; begin < part; begin += piece) {
        const std::int64_t size = std::min(piece, part - begin);
        const Tensor all = at::empty({world * size}, flat.options());
        group_->all_gather(all, flat.narrow(0, rank * part + begin, size), "gathering updated weights").wait();
        for (std::int64_t other = 0; other < world; ++other) {
          if (other != rank) flat.narrow(0, other * part + begin, size).copy_(all.narrow(0, other * size, size));
        }
      }
    }
  }

  void zero_grad() override {
    for (Tensor& parameter : parameters_) parameter.mutable_grad().reset();
    for (ParameterShard& shard : shards_) {
      if (shard.value.defined()) shard.value.mutable_grad().reset();
    }
  }

 private:
  // Moves parameters of one dtype into a buffer and finds this rank's part of each.
  void place(const std::vector<std::size_t>& members) {
    const std::int64_t world = group_->world_size(), rank = group_->rank();
    std::int64_t total = 0;
    for (const std::size_t i : members) total += parameters_[i].numel();
    const std::int64_t part = (total + world - 1) / world;
    const Tensor flat = at::zeros({part * world}, parameters_[members.front()].options().requires_grad(false));
    std::int64_t offset = 0;
    for (const std::size_t i : members) {
      Tensor& parameter = parameters_[i];
      const std::int64_t size = parameter.numel();
      const Tensor place = flat.narrow(0, offset, size).view(parameter.sizes());
      place.copy_(parameter);
      parameter.set_data(place);
      ParameterShard& shard = shards_[i];
      shard.begin = std::clamp<std::int64_t>(rank * part - offset, 0, size);
      shard.end = std::clamp<std::int64_t>((rank + 1) * part - offset, 0, size);
      if (shard.end > shard.begin) shard.value = flat.narrow(0, offset + shard.begin, shard.end - shard.begin).detach();
      offset += size;
    }
    buffers_.push_back(flat);
  }

  std::shared_ptr<ProcessGroup> group_;
  GradientSync sync_;
  std::vector<Tensor> parameters_, buffers_;
};

}  // namespace

std::unique_ptr<Sharding> shard_optimizer(std::shared_ptr<ProcessGroup> group, const NamedTensors& trained,
                                          const GradientSyncOptions& options) {
  return std::make_unique<ShardedOptimizer>(std::move(group), trained, options);
}

}  // namespace oumi
