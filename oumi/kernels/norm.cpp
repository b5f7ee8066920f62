#include "oumi/kernels/norm.h"

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"

namespace oumi::kernels {
namespace {

void check(const Tensor& x, const Tensor& weight) {
  expect(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), "rms_norm", "x [*, hidden] and weight [hidden]", x.sizes(), " and ",
         weight.sizes());
  expect(is_float_type(x.scalar_type()) && is_float_type(weight.scalar_type()), "rms_norm", "floating point", x.scalar_type(), " and ",
         weight.scalar_type());
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, const RmsNormOptions& options) {
  check(x, weight);
  return composed::rms_norm(x, weight, options);
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, const RmsNormOptions& options) {
  check(x, weight);
  expect(x.sizes() == residual.sizes(), "add_rms_norm", cat("residual of x's shape ", x.sizes()), residual.sizes());
  const Tensor sum = x + residual;
  return {composed::rms_norm(sum, weight, options), sum};
}

}  // namespace oumi::kernels
