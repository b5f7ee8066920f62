// Automatic mixed precision for a scope.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace oumi {

// While it lives, operations on `device` autocast to bfloat16 as under torch.autocast; does nothing when not enabled.
class AutocastScope {
 public:
  AutocastScope(c10::Device device, bool enabled);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType type_;
  bool enabled_, was_enabled_ = false;
  c10::ScalarType old_dtype_ = c10::ScalarType::BFloat16;
};

}  // namespace oumi
