// Shared by the config tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "oumi/base/error.h"
#include "oumi/config/training_config.h"

namespace oumi {

inline std::filesystem::path source_dir() {
  const char* folder = std::getenv("OUMI_SOURCE_DIR");
  return folder == nullptr ? "." : folder;
}

inline constexpr const char* kBase = "model: {model_name: m}\ndata: {train: {datasets: [{dataset_name: d}]}}\n";

inline TrainingConfig load_with(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return load_config_text(kBase + yaml, "c.yaml", overrides);
}

// "[component] message | hint" of the UserError that `run` throws.
template <class Run>
std::string user_error(Run run) {
  try {
    run();
  } catch (const UserError& error) {
    return "[" + error.component() + "] " + error.message() + " | " + error.hint();
  } catch (const std::exception& error) {
    return std::string("not a UserError: ") + error.what();
  }
  return "no error";
}

inline std::string load_error(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return user_error([&] { load_with(yaml, overrides); });
}

}  // namespace oumi
