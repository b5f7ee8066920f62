// Free-form keyword arguments that remember what was read, so that a misspelled key is an error and not a silent default.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi {

// An ordered dict of name -> value with typed reads. Structured configs derive from it (examples/02_custom_model).
// `origin` is the dotted key or caller that errors name, e.g. "model.model_kwargs".
class Kwargs {
 public:
  Kwargs() = default;
  Kwargs(std::initializer_list<std::pair<const char*, Json>> entries) {
    for (const auto& [name, value] : entries) values_[name] = value;
  }
  explicit Kwargs(Json values, std::string origin = "kwargs");

  // The value of `name`, or `fallback` when absent. Integers are accepted where floats are wanted, never the reverse.
  // Throws UserError naming origin.name when the type does not fit.
  template <class T>
  T get(const std::string& name, T fallback) const {
    const Json* value = find(name);
    return value == nullptr ? fallback : convert<T>(name, *value);
  }

  // The same for a key that must be there.
  template <class T>
  T require(const std::string& name) const {
    const Json* value = find(name);
    if (value == nullptr) throw UserError(origin_ + "." + name, "is required and missing", "set it in " + origin_);
    return convert<T>(name, *value);
  }

  // The raw value, marked as read; nullptr when absent.
  const Json* find(const std::string& name) const;
  bool contains(const std::string& name) const { return find(name) != nullptr; }

  // Throws UserError for the first key that nothing has read, naming the nearest one that was asked for.
  void check_all_read() const;

  const Json& values() const noexcept { return values_; }
  const std::string& origin() const noexcept { return origin_; }

 private:
  template <class T>
  T convert(const std::string& name, const Json& value) const {
    const bool fits = [&] {
      if constexpr (std::is_same_v<T, bool>)
        return value.is_boolean();
      else if constexpr (std::is_integral_v<T>)
        return value.is_number_integer();
      else if constexpr (std::is_floating_point_v<T>)
        return value.is_number();
      else if constexpr (std::is_same_v<T, std::string>)
        return value.is_string();
      else
        return true;
    }();
    if (fits) {
      try {
        return value.get<T>();
      } catch (const Json::exception&) {
        // Falls through to the message below: a list or dict with an element of the wrong type.
      }
    }
    throw UserError(origin_ + "." + name, "expected " + type_name<T>() + ", got " + json_type_name(value) + " " + value.dump());
  }

  template <class T>
  static std::string type_name() {
    if constexpr (std::is_same_v<T, bool>)
      return "bool";
    else if constexpr (std::is_integral_v<T>)
      return "int";
    else if constexpr (std::is_floating_point_v<T>)
      return "float";
    else if constexpr (std::is_same_v<T, std::string>)
      return "str";
    else
      return "another type";
  }

  Json values_ = Json::object();
  std::string origin_ = "kwargs";
  mutable std::vector<std::string> asked_;  // every name that a reader asked for, present or not: the known keys
};

}  // namespace oumi
