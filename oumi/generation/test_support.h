// tests/golden/generation, made by tests/golden/generation.py.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "oumi/base/json.h"

namespace oumi {

inline std::filesystem::path golden_generation_folder() {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return std::filesystem::path(source == nullptr ? "." : source) / "tests/golden/generation";
}

inline const Json& golden_generation() {
  static const Json values = read_json_file(golden_generation_folder() / "values.json");
  return values;
}

}  // namespace oumi
