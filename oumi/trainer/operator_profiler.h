// training.profiler: LibTorch's operator profiler over all or some of a run's steps, with the files that Oumi writes.
#pragma once

#include <filesystem>
#include <memory>

#include "oumi/config/telemetry_params.h"
#include "oumi/trainer/callbacks.h"

namespace oumi {

// What a step is to the profiler; torch.profiler.schedule's rules.
enum class ProfilerAction { kNone, kWarmUp, kRecord, kRecordAndSave };
// `step` counts from 0, from where the process began.
ProfilerAction profiler_action(const ProfilerScheduleParams& schedule, std::int64_t step);

// Records the operators of the calling thread (forward, backward and the optimizer's step run there). Writes into
// params.save_dir, or output_dir/profiler, for each cycle prof_RRR_local_LL_KEY.txt, a table for each of
// cpu_time_total and self_cpu_time_total, with profile_memory of cpu_memory_usage and self_cpu_memory_usage, with record_shapes
// also ..._by_shape.txt, and prof_RRR_local_LL_pt_trace.json.gz for chrome://tracing and ui.perfetto.dev; later cycles have
// _cycleN before the key. Null when nothing is to be profiled. A CUDA device that is asked for and not there is warned of.
CallbackPtr make_operator_profiler(const ProfilerParams& params, const std::filesystem::path& output_dir, std::int64_t rank,
                                   std::int64_t local_rank);

}  // namespace oumi
