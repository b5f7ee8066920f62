// A config.json of Hugging Face's, read key by key: what was read is remembered, so that a key that would change the result is
// never passed over.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "oumi/base/error.h"
#include "oumi/base/json.h"

namespace oumi {

class HfConfig {
 public:
  // `origin` names the file (or model.model_kwargs) in errors.
  HfConfig(Json values, std::string origin);
  // Errors about these keys name model.model_kwargs, which they came from.
  void mark_overrides(const Json& overrides);

  // The value of `name`; absent or null: none. Throws UserError when the type does not fit; integers count as floats, and whole
  // floats as integers.
  template <class T>
  std::optional<T> find(const std::string& name) const {
    const Json* value = raw(name);
    if (value == nullptr) return std::nullopt;
    return convert<T>(name, *value);
  }

  template <class T>
  T get(const std::string& name, T fallback) const {
    return find<T>(name).value_or(std::move(fallback));
  }

  // The same where null is a value of its own, none, and only an absent key means `fallback`.
  template <class T>
  std::optional<T> nullable(const std::string& name, std::optional<T> fallback) const {
    const auto value = find<T>(name);
    return value || values_.contains(name) ? value : fallback;
  }

  // An integer of at least 1.
  std::int64_t size(const std::string& name, std::int64_t fallback) const;

  // The raw value, marked as read; nullptr when absent or null.
  const Json* raw(const std::string& name) const;

  // Throws UserError when `name` has a value other than null, false, 0, "" and empty lists: what is asked for is not built.
  void refuse(const std::string& name, const std::string& why) const;

  // Throws UserError naming the first key that nothing has read, that is set, and that is not known to leave the result alone.
  void check_all_read() const;

  const Json& values() const noexcept { return values_; }
  const std::string& origin() const noexcept { return origin_; }
  // The name of a key in errors.
  std::string key(const std::string& name) const;

 private:
  template <class T>
  T convert(const std::string& name, const Json& value) const {
    const bool fits = [&] {
      if constexpr (std::is_same_v<T, bool>)
        return value.is_boolean();
      else if constexpr (std::is_integral_v<T>)
        return value.is_number_integer() || is_whole(value);
      else if constexpr (std::is_floating_point_v<T>)
        return value.is_number();
      else if constexpr (std::is_same_v<T, std::string>)
        return value.is_string();
      else
        return value.is_array();
    }();
    if (fits) {
      try {
        return value.get<T>();
      } catch (const Json::exception&) {
        // Falls through: a list with an element of another type.
      }
    }
    throw UserError(key(name),
                    std::string("expected ") + type_name<T>() + ", got " + json_type_name(value) + " " + value.dump());
  }
  static bool is_whole(const Json& value);

  template <class T>
  static const char* type_name() {
    if constexpr (std::is_same_v<T, bool>)
      return "bool";
    else if constexpr (std::is_integral_v<T>)
      return "int";
    else if constexpr (std::is_floating_point_v<T>)
      return "float";
    else if constexpr (std::is_same_v<T, std::string>)
      return "str";
    else
      return "list";
  }

  Json values_;
  std::string origin_;
  std::set<std::string> overridden_;
  mutable std::set<std::string> read_;
};

}  // namespace oumi
