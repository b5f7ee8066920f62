// Arrow's errors as ours.
#pragma once

#include <arrow/result.h>
#include <arrow/status.h>

#include <string>
#include <utility>

#include "oumi/base/error.h"

namespace oumi {

// Throws UserError naming `origin` unless the status is OK.
inline void check_arrow(const arrow::Status& status, const std::string& origin, const std::string& hint = "") {
  if (status.ok()) return;
  const std::string message = status.message();
  // Arrow appends advice and source locations on lines of their own.
  throw UserError(origin, "cannot be read: " + message.substr(0, message.find('\n')), hint);
}

template <class T>
T check_arrow(arrow::Result<T> result, const std::string& origin, const std::string& hint = "") {
  check_arrow(result.status(), origin, hint);
  return std::move(result).ValueUnsafe();
}

}  // namespace oumi
