// What the data folder's tests share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"

namespace oumi::testing {

inline std::filesystem::path golden_folder() {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return std::filesystem::path(source == nullptr ? "." : source) / "tests" / "golden";
}

// tests/golden/data.json, written by tests/golden/data.py.
inline const Json& golden() {
  static const Json json = read_json_file(golden_folder() / "data.json");
  return json;
}

inline std::filesystem::path golden_file(const std::string& name) { return golden_folder() / "data" / name; }

inline void write(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read(const std::filesystem::path& path) { return read_text_file(path); }

// What a UserError thrown by `action` says, hint included; fails the test when none is thrown.
template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const UserError& error) {
    return describe(error);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a UserError, got: " << error.what();
    return "";
  }
  ADD_FAILURE() << "expected a UserError, got none";
  return "";
}

}  // namespace oumi::testing
