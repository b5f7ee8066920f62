// A config while it is being put together: a tree of typed scalars, lists and dicts in which every value and every key
// remembers where it was written, so that an error can point at it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

// Where something was written. Lines and columns count from 1; line 0 means that `source` has none (the command line).
struct Location {
  std::shared_ptr<const std::string> source;
  int line = 0;
  int column = 0;

  // "config.yaml:3:14", "command line (training.max_steps=x)", or "" for a default.
  std::string text() const;
};

struct Entry;

struct Value {
  // kHugeInt is an integer beyond 64 bits: good for a float, too large for everything else.
  enum class Kind { kNull, kBool, kInt, kHugeInt, kFloat, kString, kList, kDict };

  Kind kind = Kind::kNull;
  Json scalar;                 // of kBool, kInt, kFloat, kString; a float for kHugeInt
  std::vector<Value> items;    // of kList
  std::vector<Entry> entries;  // of kDict, in the order written; keys are unique
  Location location;

  const Value* find(const std::string& key) const;
  Value* find(const std::string& key);
};

struct Entry {
  std::string key;
  bool key_is_string = true;  // false for keys such as 1, true, null
  Location key_location;
  Value value;
};

// Number of values in the tree, itself included.
std::size_t count_values(const Value& value);

Value value_from_json(const Json& json);

// Keys that aren't strings become their Python text. Throws UserError naming `key` for an integer beyond 64 bits.
Json value_to_json(const Value& value, const std::string& key);

// "int 5", "str 'abc'", "list of 3", "null": what a type error says it got.
std::string describe_value(const Value& value);

// " (config.yaml:3:14)", or nothing where the location is unknown.
std::string at(const Location& location);

// OmegaConf's merge: dicts merge key by key, everything else (lists too) is replaced, and "???" keeps what was there.
void merge_values(Value& into, const Value& from);

}  // namespace oumi
