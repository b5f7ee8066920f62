#include "oumi/kernels/gated_activation.h"

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"

namespace oumi::kernels {
namespace {

void check(const char* name, const Tensor& gate, const Tensor& up) {
  expect(gate.sizes() == up.sizes(), name, cat("up of gate's shape ", gate.sizes()), up.sizes());
  expect(is_float_type(gate.scalar_type()) && gate.scalar_type() == up.scalar_type(), name, "gate and up of one floating-point dtype",
         gate.scalar_type(), " and ", up.scalar_type());
}

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  check("swiglu", gate, up);
  return composed::swiglu(gate, up);
}

Tensor geglu(const Tensor& gate, const Tensor& up) {
  check("geglu", gate, up);
  return composed::geglu(gate, up);
}

}  // namespace oumi::kernels
