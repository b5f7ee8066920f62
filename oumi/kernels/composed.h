// The operations as compositions of LibTorch's: any device and dtype, gradients by autograd. What runs where there is no fused
// form, and what the benchmarks compare the fused forms with. Arguments are not checked here.
#pragma once

#include "oumi/kernels/attention.h"
#include "oumi/kernels/norm.h"

namespace oumi::kernels::composed {

Tensor rms_norm(const Tensor& x, const Tensor& weight, const RmsNormOptions& options);
Tensor swiglu(const Tensor& gate, const Tensor& up);
Tensor geglu(const Tensor& gate, const Tensor& up);
std::pair<Tensor, Tensor> apply_rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin);
Tensor conv_relu_pool(const Tensor& x, const Tensor& weight, const Tensor& bias);
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

}  // namespace oumi::kernels::composed
