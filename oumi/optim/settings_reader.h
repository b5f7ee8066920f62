// Reading an optimizer's saved settings with errors that name the key. No torch.
#pragma once

#include <string>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi {

// Throws UserError when `name` is missing or is no T (double, bool).
template <class T>
T setting(const Json& values, const std::string& name) {
  const auto found = values.find(name);
  const bool fits = found != values.end() && (std::is_same_v<T, bool> ? found->is_boolean() : found->is_number());
  if (!fits) {
    throw UserError("optimizer state", cat("setting '", name, "': expected ", std::is_same_v<T, bool> ? "bool" : "float",
                                           ", got ", found == values.end() ? "none" : found->dump()));
  }
  return found->get<T>();
}

// [beta1, beta2] of Adam and Lion.
inline void read_betas(const Json& values, double& beta1, double& beta2) {
  const auto found = values.find("betas");
  if (found == values.end() || !found->is_array() || found->size() != 2 || !(*found)[0].is_number() ||
      !(*found)[1].is_number()) {
    throw UserError("optimizer state",
                    cat("setting 'betas': expected two numbers, got ", found == values.end() ? "none" : found->dump()));
  }
  beta1 = (*found)[0].get<double>();
  beta2 = (*found)[1].get<double>();
}

}  // namespace oumi
