// The format's dtypes and PyTorch's.
#pragma once

#include <c10/core/ScalarType.h>

#include "oumi/checkpoint/safetensors_header.h"

namespace oumi {

// nullptr where the format has none (complex128, quantised types).
inline const SafetensorsDtype* safetensors_dtype(c10::ScalarType type) {
  using enum c10::ScalarType;
  switch (type) {
    case Double: return find_safetensors_dtype("F64");
    case Float: return find_safetensors_dtype("F32");
    case Half: return find_safetensors_dtype("F16");
    case BFloat16: return find_safetensors_dtype("BF16");
    case Long: return find_safetensors_dtype("I64");
    case Int: return find_safetensors_dtype("I32");
    case Short: return find_safetensors_dtype("I16");
    case Char: return find_safetensors_dtype("I8");
    case Byte: return find_safetensors_dtype("U8");
    case UInt16: return find_safetensors_dtype("U16");
    case UInt32: return find_safetensors_dtype("U32");
    case UInt64: return find_safetensors_dtype("U64");
    case Bool: return find_safetensors_dtype("BOOL");
    case ComplexFloat: return find_safetensors_dtype("C64");
    case Float8_e4m3fn: return find_safetensors_dtype("F8_E4M3");
    case Float8_e5m2: return find_safetensors_dtype("F8_E5M2");
    case Float8_e8m0fnu: return find_safetensors_dtype("F8_E8M0");
    case Float8_e4m3fnuz: return find_safetensors_dtype("F8_E4M3FNUZ");
    case Float8_e5m2fnuz: return find_safetensors_dtype("F8_E5M2FNUZ");
    case Float4_e2m1fn_x2: return find_safetensors_dtype("F4");  // two elements a byte: the last dimension doubles
    default: return nullptr;
  }
}

// Undefined where PyTorch has none (the 6-bit types).
inline c10::ScalarType torch_dtype(const SafetensorsDtype& dtype) {
  static constexpr c10::ScalarType kTypes[] = {c10::ScalarType::Bool,
                                               c10::ScalarType::Float4_e2m1fn_x2,
                                               c10::ScalarType::Undefined,
                                               c10::ScalarType::Undefined,
                                               c10::ScalarType::Byte,
                                               c10::ScalarType::Char,
                                               c10::ScalarType::Float8_e5m2,
                                               c10::ScalarType::Float8_e4m3fn,
                                               c10::ScalarType::Float8_e8m0fnu,
                                               c10::ScalarType::Float8_e4m3fnuz,
                                               c10::ScalarType::Float8_e5m2fnuz,
                                               c10::ScalarType::Short,
                                               c10::ScalarType::UInt16,
                                               c10::ScalarType::Half,
                                               c10::ScalarType::BFloat16,
                                               c10::ScalarType::Int,
                                               c10::ScalarType::UInt32,
                                               c10::ScalarType::Float,
                                               c10::ScalarType::ComplexFloat,
                                               c10::ScalarType::Double,
                                               c10::ScalarType::Long,
                                               c10::ScalarType::UInt64};
  return kTypes[dtype.rank];
}

}  // namespace oumi
