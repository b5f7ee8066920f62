// PyTorch's Python names of dtypes and storage classes.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>

namespace oumi {

struct TorchTypeName {
  c10::ScalarType type;
  const char* dtype;    // torch.<dtype>
  const char* storage;  // torch.<storage>; nullptr: only as torch.storage.UntypedStorage
};

inline constexpr TorchTypeName kTorchTypeNames[] = {
    {c10::ScalarType::Float, "float32", "FloatStorage"},
    {c10::ScalarType::Double, "float64", "DoubleStorage"},
    {c10::ScalarType::Half, "float16", "HalfStorage"},
    {c10::ScalarType::BFloat16, "bfloat16", "BFloat16Storage"},
    {c10::ScalarType::Long, "int64", "LongStorage"},
    {c10::ScalarType::Int, "int32", "IntStorage"},
    {c10::ScalarType::Short, "int16", "ShortStorage"},
    {c10::ScalarType::Char, "int8", "CharStorage"},
    {c10::ScalarType::Byte, "uint8", "ByteStorage"},
    {c10::ScalarType::Bool, "bool", "BoolStorage"},
    {c10::ScalarType::ComplexFloat, "complex64", "ComplexFloatStorage"},
    {c10::ScalarType::ComplexDouble, "complex128", "ComplexDoubleStorage"},
    {c10::ScalarType::UInt16, "uint16", nullptr},
    {c10::ScalarType::UInt32, "uint32", nullptr},
    {c10::ScalarType::UInt64, "uint64", nullptr},
    {c10::ScalarType::Float8_e4m3fn, "float8_e4m3fn", nullptr},
    {c10::ScalarType::Float8_e5m2, "float8_e5m2", nullptr},
    {c10::ScalarType::Float8_e4m3fnuz, "float8_e4m3fnuz", nullptr},
    {c10::ScalarType::Float8_e5m2fnuz, "float8_e5m2fnuz", nullptr},
    {c10::ScalarType::Float8_e8m0fnu, "float8_e8m0fnu", nullptr},
};

// Of "torch.float32"; none for other names.
inline std::optional<c10::ScalarType> torch_dtype_by_name(const std::string& name) {
  for (const auto& known : kTorchTypeNames) {
    if (name == std::string("torch.") + known.dtype) return known.type;
  }
  return std::nullopt;
}

// Of "torch.FloatStorage"; kByte for torch.storage.UntypedStorage.
inline std::optional<c10::ScalarType> torch_storage_by_name(const std::string& name) {
  if (name == "torch.storage.UntypedStorage" || name == "torch.UntypedStorage") return c10::ScalarType::Byte;
  for (const auto& known : kTorchTypeNames) {
    if (known.storage != nullptr && name == std::string("torch.") + known.storage) return known.type;
  }
  return std::nullopt;
}

}  // namespace oumi
