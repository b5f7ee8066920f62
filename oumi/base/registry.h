// A case-insensitive table of name -> factory (or any value), filled by explicit calls: static initialisers vanish from
// static libraries, so built-ins are listed in one place of each folder.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

// `kind` names what is registered in messages: "model", "dataset", ... Thread-safe.
template <class Value>
class Registry {
 public:
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  // Throws UserError when the name is taken, in any case of its letters, or empty.
  void add(const std::string& name, Value value) {
    const std::lock_guard lock(mutex_);
    if (name.empty()) throw UserError("registry", "expected a name for a " + kind_ + ", got an empty string");
    const auto [entry, added] = entries_.try_emplace(to_lower(name), name, std::move(value));
    if (!added)
      throw UserError("registry", kind_ + " '" + name + "' is already registered as '" + entry->second.first + "'",
                      "choose another name");
  }

  // nullptr when unknown. Entries are never removed, so the pointer stays valid.
  const Value* find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto entry = entries_.find(to_lower(name));
    return entry == entries_.end() ? nullptr : &entry->second.second;
  }

  // Throws UserError naming `key` (the dotted config key that asked), the nearest name, or all names.
  const Value& at(const std::string& name, const std::string& key) const {
    if (const Value* value = find(name)) return *value;
    throw UserError(key, "unknown " + kind_ + " '" + name + "'", suggestion(name, names()));
  }

  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [lower, entry] : entries_) names.push_back(entry.first);
    return names;
  }

 private:
  std::string kind_;
  mutable std::mutex mutex_;
  std::map<std::string, std::pair<std::string, Value>> entries_;
};

}  // namespace oumi
