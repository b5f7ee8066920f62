// What every kernel checks of its arguments.
#pragma once

#include <string>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/tensors/module.h"

namespace oumi::kernels {

// `condition`, else UserError "kernel: expected ..., got ..." at the module that is being called.
template <class... Got>
void expect(bool condition, const char* kernel, const std::string& expected, const Got&... got) {
  if (condition) return;
  throw UserError(call_path::current_path(), cat(kernel, ": expected ", expected, ", got ", got...));
}

inline bool is_float_type(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kDouble || type == at::kHalf;
}

// The type that sums are kept in.
inline at::ScalarType accumulation_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace oumi::kernels
