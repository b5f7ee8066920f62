// Between tensors and the loops of simd.h: which tensors have a fused form, and pointers of the right type.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "oumi/kernels/cpu/parallel.h"
#include "oumi/kernels/cpu/simd.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

inline bool has_loops(const Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == at::kStrided &&
         (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16);
}

inline bool have_loops(std::initializer_list<std::reference_wrapper<const Tensor>> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) { return has_loops(tensor); });
}

// Whether rows or columns of this matrix lie packed. Of one row or column either stride says nothing.
inline bool is_packed_matrix(const Tensor& tensor) {
  if (tensor.dim() != 2 || !has_loops(tensor)) return false;
  return (tensor.stride(1) == 1 && tensor.stride(0) >= tensor.size(1)) ||
         (tensor.stride(0) == 1 && tensor.stride(1) >= tensor.size(0));
}

constexpr std::int64_t divided_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }
constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t step) { return divided_up(value, step) * step; }

// Calls `action` with a value of the storage type.
template <class Action>
void by_type(at::ScalarType type, Action&& action) {
  if (type == at::kFloat) {
    action(float());
  } else {
    action(BFloat16());
  }
}

template <class T>
T* pointer(const Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  return static_cast<T*>(tensor.data_ptr());
}

// How many pieces of `work` operations each make it worth waking a thread.
inline std::int64_t grain_of(std::int64_t work) {
  constexpr std::int64_t kWork = 1 << 17;
  return std::max<std::int64_t>(1, kWork / std::max<std::int64_t>(work, 1));
}

// Splits [0, rows) of `width` elements each among threads, in pieces worth waking one for.
template <class Action>
void for_rows(std::int64_t rows, std::int64_t width, Action&& action) {
  constexpr std::int64_t kGrain = 16384;
  parallel_for(0, rows, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(width, 1)), action);
}

}  // namespace oumi::kernels::cpu
