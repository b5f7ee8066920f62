// What a run records about where and as what it ran: output_dir/telemetry/{training_config.yaml, environment.json,
// devices_info.txt, world_size.json}.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

struct EnvironmentQuery {
  std::string oumi_version = {};                                    // empty: left out
  std::vector<std::pair<std::string, std::string>> libraries = {};  // name, version: {"LibTorch", "2.11.0"}, ...
  bool hostname = true;
};

// Keys: oumi_version, os, kernel, hostname, cpu {model, sockets, cores, threads, usable_threads, features [..]},
// memory {total_bytes, available_bytes, limit_bytes}, compiler, build_type, libraries {..}, variables {OMP_NUM_THREADS, ...}.
// What the system does not tell is null. usable_threads and limit_bytes respect affinity and control groups. Never throws.
Json environment_info(const EnvironmentQuery& query = {});

// The same as aligned text for people; ends with a newline.
std::string environment_text(const Json& environment);

struct RunFiles {
  std::string training_config_yaml = {};
  Json environment = nullptr;     // environment_info()
  std::string devices_info = {};  // free text about accelerators; empty: written from the environment
  std::int64_t world_size = 1;
  std::int64_t local_world_size = 1;
};

// Creates `directory` (usually output_dir/telemetry) and writes the four files, each whole or absent. Throws EnvironmentError.
void write_run_files(const std::filesystem::path& directory, const RunFiles& files);

}  // namespace oumi
