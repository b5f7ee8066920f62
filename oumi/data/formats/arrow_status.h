// Arrow's errors as ours.
#pragma once

#include <arrow/result.h>
#include <arrow/status.h>

#include <string>
#include <utility>

#include "oumi/base/error.h"

namespace oumi {

// Throws UserError naming `origin` unless the status is OK; EnvironmentError when memory ran out.
inline void check_arrow(const arrow::Status& status, const std::string& origin, const std::string& hint = "") {
  if (status.ok()) return;
  const std::string message = status.message();
  // Arrow appends advice and source locations on lines of their own.
  const std::string what = "cannot be read: " + message.substr(0, message.find('\n'));
  if (status.IsOutOfMemory()) throw EnvironmentError(origin, what, "lower the batch size, or raise the memory limit");
  throw UserError(origin, what, hint);
}

template <class T>
T check_arrow(arrow::Result<T> result, const std::string& origin, const std::string& hint = "") {
  check_arrow(result.status(), origin, hint);
  return std::move(result).ValueUnsafe();
}

}  // namespace oumi
