// `training.profiler` and `training.telemetry` - what a run records about itself. One entry per field: telemetry_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oumi/config/field.h"

namespace oumi {

struct ProfilerScheduleParams {
  bool enable_schedule = false;
  std::int64_t wait = 0;
  std::int64_t warmup = 1;
  std::int64_t active = 3;
  std::int64_t repeat = 1;
  std::int64_t skip_first = 1;

  bool operator==(const ProfilerScheduleParams&) const = default;
};

struct ProfilerParams {
  std::optional<std::string> save_dir;
  bool enable_cpu_profiling = false;
  bool enable_cuda_profiling = false;
  bool record_shapes = false;
  bool profile_memory = false;
  bool with_stack = false;
  bool with_flops = false;
  bool with_modules = false;
  std::int64_t row_limit = 50;
  ProfilerScheduleParams schedule;

  bool operator==(const ProfilerParams&) const = default;
};

struct TelemetryParams {
  std::optional<std::string> telemetry_dir = "telemetry";
  bool collect_telemetry_for_all_ranks = false;
  bool track_gpu_temperature = false;

  bool operator==(const TelemetryParams&) const = default;
};

FieldList fields_of(const ProfilerScheduleParams*);
FieldList fields_of(const ProfilerParams*);
FieldList fields_of(const TelemetryParams*);

}  // namespace oumi
