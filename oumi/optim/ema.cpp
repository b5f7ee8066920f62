#include "oumi/optim/ema.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

ExponentialMovingAverage::ExponentialMovingAverage(NamedParameters parameters, double decay)
    : parameters_(std::move(parameters)), decay_(decay) {
  if (!(decay >= 0 && decay < 1)) throw UserError("ema.decay", cat("expected a value from 0 to below 1, got ", decay));
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : parameters_) averages_.push_back(at::empty_like(parameter).copy_(parameter));
}

void ExponentialMovingAverage::update() {
  if (swapped_in_) throw InternalError("the moving average was updated while it stood in for the parameters");
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(parameters_[i].second, 1.0 - decay_);
}

void ExponentialMovingAverage::swap() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    // The contents move, not the storage: views of the parameters, such as flat buffers, stay valid.
    Tensor& parameter = parameters_[i].second;
    const Tensor current = at::empty_like(parameter).copy_(parameter);
    parameter.copy_(averages_[i]);
    averages_[i].copy_(current);
  }
  swapped_in_ = !swapped_in_;
}

StateDict ExponentialMovingAverage::state_dict() const {
  if (swapped_in_) throw InternalError("the moving average was saved while it stood in for the parameters");
  StateDict state;
  for (std::size_t i = 0; i < averages_.size(); ++i) state.set(parameters_[i].first, averages_[i]);
  return state;
}

void ExponentialMovingAverage::load_state_dict(const StateDict& state) {
  if (swapped_in_) throw InternalError("the moving average was loaded while it stood in for the parameters");
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    const std::string where = cat("moving average '", parameters_[i].first, "'");
    const Tensor* saved = state.find(parameters_[i].first);
    if (saved == nullptr) throw UserError(where, "expected a tensor, got none");
    if (saved->sizes() != averages_[i].sizes() || saved->scalar_type() != averages_[i].scalar_type()) {
      throw UserError(where, cat("expected ", averages_[i].sizes(), " ", averages_[i].scalar_type(), ", got ", saved->sizes(),
                                 " ", saved->scalar_type()));
    }
  }
  for (const auto& [name, tensor] : state) {
    bool known = false;
    for (const auto& parameter : parameters_) known = known || parameter.first == name;
    if (!known)
      throw UserError(cat("moving average '", name, "'"), "expected no such tensor: the model has no parameter of that name");
  }
  for (std::size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(state.at(parameters_[i].first));
}

}  // namespace oumi
