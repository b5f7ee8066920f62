#include "oumi/config/telemetry_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const ProfilerScheduleParams*) {
  using P = ProfilerScheduleParams;
  static constexpr Field kFields[] = {
      field<&P::enable_schedule>("enable_schedule", "", "Profile some steps instead of the whole run."),
      field<&P::wait>("wait", "steps", "Steps left out at the start of a cycle."),
      field<&P::warmup>("warmup", "steps", "Steps traced and thrown away."),
      field<&P::active>("active", "steps", "Steps recorded."),
      field<&P::repeat>("repeat", "cycles", "Cycles; 0 goes on to the end."),
      field<&P::skip_first>("skip_first", "steps", "Steps left out before the first cycle."),
  };
  return kFields;
}

FieldList fields_of(const ProfilerParams*) {
  using P = ProfilerParams;
  static constexpr Field kFields[] = {
      field<&P::save_dir>("save_dir", "", "Where traces go; unset is output_dir/profiler."),
      field<&P::enable_cpu_profiling>("enable_cpu_profiling", "", "Trace operators on the CPU."),
      field<&P::enable_cuda_profiling>("enable_cuda_profiling", "", "Trace kernels on the GPU."),
      field<&P::record_shapes>("record_shapes", "", "Record the operators' shapes."),
      field<&P::profile_memory>("profile_memory", "", "Record allocations."),
      field<&P::with_stack>("with_stack", "", "Record where operators were called."),
      field<&P::with_flops>("with_flops", "", "Estimate the FLOPs of operators."),
      field<&P::with_modules>("with_modules", "", "Record the module path of operators."),
      field<&P::row_limit>("row_limit", "rows", "Rows of the printed tables; -1 is all."),
      field<&P::schedule>("schedule", "", "Which steps are profiled."),
  };
  return kFields;
}

FieldList fields_of(const TelemetryParams*) {
  using P = TelemetryParams;
  static constexpr Field kFields[] = {
      field<&P::telemetry_dir>("telemetry_dir", "", "Folder below output_dir for what the run records about itself."),
      field<&P::collect_telemetry_for_all_ranks>("collect_telemetry_for_all_ranks", "", "Record every rank, not rank 0 alone."),
      field<&P::track_gpu_temperature>("track_gpu_temperature", "", "Record GPU temperatures too."),
  };
  return kFields;
}

}  // namespace oumi
