#include "oumi/kernels/gated_activation.h"

#include <ATen/ops/empty_like.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check(const char* name, const Tensor& gate, const Tensor& up) {
  expect(gate.sizes() == up.sizes(), name, cat("up of gate's shape ", gate.sizes()), up.sizes());
  expect(is_float_type(gate.scalar_type()) && gate.scalar_type() == up.scalar_type(), name,
         "gate and up of one floating-point dtype", gate.scalar_type(), " and ", up.scalar_type());
}

// Elements are independent, so that any split among threads gives the same bits.
constexpr std::int64_t kElementsOfARow = 16;  // exp costs more than a load

class GatedActivation : public torch::autograd::Function<GatedActivation> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up, cpu::Activation activation) {
    const Tensor packed_gate = gate.contiguous(), packed_up = up.contiguous(), out = at::empty_like(packed_gate);
    cpu::by_type(gate.scalar_type(), [&](auto type) {
      using T = decltype(type);
      const cpu::Gated<T> arguments{cpu::pointer<T>(packed_gate),
                                    cpu::pointer<T>(packed_up),
                                    cpu::pointer<T>(out),
                                    nullptr,
                                    nullptr,
                                    nullptr,
                                    activation};
      cpu::for_rows(gate.numel(), kElementsOfARow, [&](std::int64_t first, std::int64_t last) {
        cpu::simd().loops<T>().gated_forward(arguments, first, last);
      });
    });
    context->save_for_backward({packed_gate, packed_up});
    context->saved_data["activation"] = static_cast<std::int64_t>(activation);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], grad_out = grads[0].to(gate.scalar_type()).contiguous();
    const Tensor grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
    const auto activation = static_cast<cpu::Activation>(context->saved_data["activation"].toInt());
    cpu::by_type(gate.scalar_type(), [&](auto type) {
      using T = decltype(type);
      const cpu::Gated<T> arguments{cpu::pointer<T>(gate),      cpu::pointer<T>(up),      nullptr,   cpu::pointer<T>(grad_out),
                                    cpu::pointer<T>(grad_gate), cpu::pointer<T>(grad_up), activation};
      cpu::for_rows(gate.numel(), kElementsOfARow, [&](std::int64_t first, std::int64_t last) {
        cpu::simd().loops<T>().gated_backward(arguments, first, last);
      });
    });
    return {grad_gate, grad_up, Tensor()};
  }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  RECORD_FUNCTION("oumi::swiglu", std::vector<c10::IValue>({gate, up}));
  check("swiglu", gate, up);
  return cpu::have_loops({gate, up}) ? GatedActivation::apply(gate, up, cpu::Activation::kSilu) : composed::swiglu(gate, up);
}

Tensor geglu(const Tensor& gate, const Tensor& up) {
  RECORD_FUNCTION("oumi::geglu", std::vector<c10::IValue>({gate, up}));
  check("geglu", gate, up);
  return cpu::have_loops({gate, up}) ? GatedActivation::apply(gate, up, cpu::Activation::kGeluTanh) : composed::geglu(gate, up);
}

}  // namespace oumi::kernels
