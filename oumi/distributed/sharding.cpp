#include "oumi/distributed/sharding.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "oumi/base/error.h"

namespace oumi {

void Sharding::spread_norm(std::shared_ptr<ProcessGroup> group, std::set<std::string> counted_elsewhere) {
  norm_group_ = std::move(group);
  counted_elsewhere_ = std::move(counted_elsewhere);
}

double Sharding::norm_over_parts(double own) const {
  if (!norm_group_) return own;
  std::vector<double> squares{own * own};
  norm_group_->sum(squares, "the gradient norm");
  return std::sqrt(squares[0]);
}

Tensor Sharding::gather_weight(const std::string& name) { throw InternalError("there is no sharded weight " + name); }

void Sharding::set_weight(const std::string& name, const Tensor& whole) {
  const auto shard =
      std::find_if(shards_.begin(), shards_.end(), [&](const ParameterShard& each) { return each.name == name; });
  if (shard == shards_.end()) throw InternalError("there is no sharded weight " + name);
  if (!shard->value.defined()) return;
  const at::NoGradGuard no_grad;
  shard->value.copy_(whole.reshape({-1}).narrow(0, shard->begin, shard->end - shard->begin));
}

}  // namespace oumi
