// Shared by this folder's tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "oumi/base/error.h"
#include "oumi/base/files.h"

namespace oumi::testing_support {

// Thousands of saves: in memory, where the machine has a place for that, fsync costs nothing.
inline const bool kFastTemporaryFolders =
    ::access("/dev/shm", W_OK) == 0 && ::setenv("TMPDIR", "/dev/shm", /*overwrite=*/0) == 0;

inline std::filesystem::path golden(const std::string& name) {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return std::filesystem::path(root == nullptr ? "." : root) / "tests/golden/checkpoint" / name;
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// The message of the E that `action` throws, with component and hint; "" and a failure when it throws nothing.
template <class E, class F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.component() + ": " + error.message() + " | " + error.hint();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline void flip_bit(const std::filesystem::path& path, std::size_t byte, int bit) {
  std::string bytes = read_text_file(path);
  bytes.at(byte) = static_cast<char>(bytes[byte] ^ (1 << bit));
  write_bytes(path, bytes);
}

}  // namespace oumi::testing_support
