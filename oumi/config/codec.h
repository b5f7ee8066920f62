// Reading and writing of each C++ type that a config field may have. Included by the field lists (*_params.cpp) alone.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/enums.h"
#include "oumi/config/field.h"
#include "oumi/config/scalars.h"
#include "oumi/config/value.h"

namespace oumi {

// Throws UserError "expected `wanted`, got ..." with the place where the value was written.
[[noreturn]] void throw_type_error(const std::string& key, const std::string& wanted, const Value& got,
                                   const std::string& hint = "");

std::int64_t read_int(const Value& value, const std::string& key);
double read_float(const Value& value, const std::string& key);
bool read_bool(const Value& value, const std::string& key);
std::string read_string(const Value& value, const std::string& key);
Json read_dict(const Value& value, const std::string& key);
int read_enum(const Value& value, const std::string& key, std::span<const EnumName> names);
std::string enum_type_name(std::span<const EnumName> names);

// Reads a dict into the struct whose fields are `fields`: unknown keys are errors, keys that are absent keep what is there.
void read_fields(const Value& value, const std::string& key, FieldList fields, void* owner);
Json write_fields(FieldList fields, const void* owner);

template <class T>
concept Section = requires(const T* section) { fields_of(section); };

template <class T>
struct Codec;

template <>
struct Codec<bool> {
  static std::string name() { return "bool"; }
  static void read(const Value& value, const std::string& key, bool& out) { out = read_bool(value, key); }
  static Json write(bool value) { return value; }
};

template <>
struct Codec<std::int64_t> {
  static std::string name() { return "int"; }
  static void read(const Value& value, const std::string& key, std::int64_t& out) { out = read_int(value, key); }
  static Json write(std::int64_t value) { return value; }
};

template <>
struct Codec<double> {
  static std::string name() { return "float"; }
  static void read(const Value& value, const std::string& key, double& out) { out = read_float(value, key); }
  static Json write(double value) { return value; }
};

template <>
struct Codec<std::string> {
  static std::string name() { return "str"; }
  static void read(const Value& value, const std::string& key, std::string& out) { out = read_string(value, key); }
  static Json write(const std::string& value) { return value; }
};

template <>
struct Codec<Json> {
  static std::string name() { return "dict"; }
  static void read(const Value& value, const std::string& key, Json& out) { out = read_dict(value, key); }
  static Json write(const Json& value) { return value; }
};

template <>
struct Codec<IntOrString> {
  static std::string name() { return "int | str"; }
  static void read(const Value& value, const std::string& key, IntOrString& out) {
    // No conversion between the two, as in OmegaConf: "7" stays text.
    if (value.kind == Value::Kind::kInt) {
      out = read_int(value, key);
    } else if (value.kind == Value::Kind::kString) {
      out = value.scalar.get<std::string>();
    } else {
      throw_type_error(key, name(), value);
    }
  }
  static Json write(const IntOrString& value) {
    return std::visit([](const auto& held) { return Json(held); }, value);
  }
};

template <class E>
  requires requires(E value) { enum_names(value); }
struct Codec<E> {
  static std::string name() { return enum_type_name(enum_names(E{})); }
  static void read(const Value& value, const std::string& key, E& out) {
    out = static_cast<E>(read_enum(value, key, enum_names(E{})));
  }
  static Json write(E value) { return to_string(value); }
};

template <class T>
struct Codec<std::optional<T>> {
  static std::string name() { return Codec<T>::name() + " | null"; }
  static void read(const Value& value, const std::string& key, std::optional<T>& out) {
    if (value.kind == Value::Kind::kNull) {
      out.reset();
      return;
    }
    T held{};
    Codec<T>::read(value, key, held);
    out = std::move(held);
  }
  static Json write(const std::optional<T>& value) { return value ? Codec<T>::write(*value) : Json(nullptr); }
};

template <class T>
struct Codec<std::vector<T>> {
  static std::string name() { return "list[" + Codec<T>::name() + "]"; }
  static void read(const Value& value, const std::string& key, std::vector<T>& out) {
    if (value.kind != Value::Kind::kList) throw_type_error(key, name(), value);
    std::vector<T> items;
    for (const Value& item : value.items) {
      T held{};
      Codec<T>::read(item, cat(key, "[", items.size(), "]"), held);
      items.push_back(std::move(held));
    }
    out = std::move(items);
  }
  static Json write(const std::vector<T>& value) {
    Json list = Json::array();
    for (const T& item : value) list.push_back(Codec<T>::write(item));
    return list;
  }
};

template <Section T>
struct Codec<T> {
  static std::string name() { return "section"; }
  static void read(const Value& value, const std::string& key, T& out) {
    read_fields(value, key, fields_of(static_cast<const T*>(nullptr)), &out);
  }
  static Json write(const T& value) { return write_fields(fields_of(static_cast<const T*>(nullptr)), &value); }
};

// A count that may also be a fraction (Hugging Face's steps and epochs): a double that is written as an int when it is whole.
struct CountCodec {
  static std::string name() { return "int | float"; }
  static void read(const Value& value, const std::string& key, double& out) { out = read_float(value, key); }
  static Json write(double value) {
    constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it a double is no exact count
    if (value == std::floor(value) && std::abs(value) < kExact) return static_cast<std::int64_t>(value);
    return value;
  }
};

struct OptionalCountCodec {
  static std::string name() { return "int | float | null"; }
  static void read(const Value& value, const std::string& key, std::optional<double>& out) {
    Codec<std::optional<double>>::read(value, key, out);
  }
  static Json write(const std::optional<double>& value) { return value ? CountCodec::write(*value) : Json(nullptr); }
};

template <class T>
struct SectionOf {
  static FieldList children() { return {}; }
  static Json defaults() { return nullptr; }
};
template <Section T>
struct SectionOf<T> {
  static FieldList children() { return fields_of(static_cast<const T*>(nullptr)); }
  static Json defaults() { return Codec<T>::write(T{}); }
};
template <class T>
struct SectionOf<std::optional<T>> : SectionOf<T> {};
template <class T>
struct SectionOf<std::vector<T>> : SectionOf<T> {};

template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsList<std::optional<std::vector<T>>> = true;

template <class T, class C>
inline constexpr FieldType kFieldType = {
    .name = [] { return C::name(); },
    .read = [](const Value& value, const std::string& key, void* member) { C::read(value, key, *static_cast<T*>(member)); },
    .write = [](const void* member) { return C::write(*static_cast<const T*>(member)); },
    .children = &SectionOf<T>::children,
    .child_defaults = &SectionOf<T>::defaults,
    .is_list = kIsList<T>,
};

template <class M>
struct MemberPointer;
template <class S, class T>
struct MemberPointer<T S::*> {
  using Owner = S;
  using Type = T;
};

// The entry of member `M`; `C` reads and writes it.
template <auto M, class C = Codec<typename MemberPointer<decltype(M)>::Type>>
constexpr Field field(const char* name, const char* unit, const char* help) {
  using Pointer = MemberPointer<decltype(M)>;
  return {name, unit, help, &kFieldType<typename Pointer::Type, C>,
          [](void* owner) -> void* { return &(static_cast<typename Pointer::Owner*>(owner)->*M); }};
}

template <auto M>
constexpr Field required_field(const char* name, const char* unit, const char* help) {
  Field entry = field<M>(name, unit, help);
  entry.required = true;
  return entry;
}

}  // namespace oumi
