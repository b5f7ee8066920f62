#include "oumi/trainer/operator_profiler.h"

#include <ATen/Context.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/logging.h"
#include "oumi/trainer/operator_table.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
namespace profiler = torch::autograd::profiler;
namespace impl = torch::profiler::impl;

std::string shapes_of(const profiler::KinetoEvent& event) {
  std::string text = "[";
  for (const auto& shape : event.shapes()) {
    std::vector<std::string> sizes;
    for (const std::int64_t size : shape) sizes.push_back(cat(size));
    text += (text.size() > 1 ? ", [" : "[") + join(sizes, ", ") + "]";
  }
  return text + "]";
}

std::vector<OperatorEvent> events_of(const profiler::ProfilerResult& result) {
  std::vector<OperatorEvent> events;
  for (const profiler::KinetoEvent& from : result.events()) {
    if (from.deviceType() != c10::DeviceType::CPU || from.isAsync() || from.isHiddenEvent()) continue;
    OperatorEvent event;
    event.name = from.name();
    event.thread = from.startThreadId();
    event.start_ns = static_cast<std::int64_t>(from.startNs());
    event.end_ns = static_cast<std::int64_t>(from.endNs());
    event.is_memory = event.name == "[memory]";
    if (event.is_memory) {
      event.bytes = from.nBytes();
    } else {
      event.flops = static_cast<std::int64_t>(from.flops());
      if (from.hasShapes()) event.shapes = shapes_of(from);
    }
    events.push_back(std::move(event));
  }
  return events;
}

// `to` appears whole or not at all; `from` goes.
void compress(const fs::path& from, const fs::path& to) {
  const fs::path partial = to.string() + ".tmp";
  std::ifstream in(from, std::ios::binary);
  const gzFile out = gzopen(partial.c_str(), "wb6");
  bool good = in.good() && out != nullptr;
  std::vector<char> block(1 << 20);
  while (good && in) {
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    const auto count = static_cast<unsigned>(in.gcount());
    good = count == 0 || gzwrite(out, block.data(), count) == static_cast<int>(count);
  }
  if (out != nullptr && gzclose(out) != Z_OK) good = false;
  std::error_code ignored;
  fs::remove(from, ignored);
  if (good && !in.bad()) {
    fs::rename(partial, to);
    return;
  }
  fs::remove(partial, ignored);
  throw EnvironmentError(to.string(), "the trace cannot be written",
                         "free space there, or name another training.profiler.save_dir");
}

class OperatorProfiler : public TrainerCallback {
 public:
  OperatorProfiler(const ProfilerParams& params, fs::path directory, std::string prefix,
                   std::set<impl::ActivityType> activities)
      : params_(params), directory_(std::move(directory)), prefix_(std::move(prefix)), activities_(std::move(activities)) {}

  // A run that ended with an error leaves the profiler on, which belongs to the process.
  ~OperatorProfiler() override {
    if (!recording_) return;
    try {
      step_annotation_.reset();
      profiler::disableProfiler();
    } catch (const std::exception&) {  // the run has its own error to tell
    }
  }

  void on_train_begin(CallbackContext&) override {
    make_directories(directory_);
    // Its library reports a missing GPU as an error, whatever is profiled; a level given by the user stays.
    ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);
    if (!params_.schedule.enable_schedule) start();
  }

  void on_step_begin(CallbackContext& context) override {
    const std::int64_t step = context.state.global_step + 1;
    if (params_.schedule.enable_schedule) {
      const ProfilerAction action = profiler_action(params_.schedule, steps_begun_++);
      if (action == ProfilerAction::kWarmUp) prepare();
      if (action == ProfilerAction::kRecord || action == ProfilerAction::kRecordAndSave) start();
      ends_here_ = action == ProfilerAction::kRecordAndSave;
    }
    if (!recording_) return;
    if (first_step_ == 0) first_step_ = step;
    last_step_ = step;
    step_annotation_.emplace(at::RecordScope::USER_SCOPE);
    step_annotation_->before(cat("ProfilerStep#", step));
  }

  void on_step_end(CallbackContext&) override {
    step_annotation_.reset();
    if (recording_ && ends_here_) save();
  }

  void on_train_end(CallbackContext&) override {
    step_annotation_.reset();
    if (recording_) save();
  }

 private:
  void prepare() {
    if (prepared_) return;
    profiler::prepareProfiler(config(), activities_);
    prepared_ = true;
  }

  void start() {
    if (recording_) return;
    prepare();
    profiler::enableProfiler(config(), activities_);
    recording_ = true;
    first_step_ = 0;
  }

  impl::ProfilerConfig config() const {
    return impl::ProfilerConfig(impl::ProfilerState::KINETO, params_.record_shapes, params_.profile_memory, params_.with_stack,
                                params_.with_flops, params_.with_modules);
  }

  void save() {
    const auto result = profiler::disableProfiler();
    recording_ = prepared_ = ends_here_ = false;
    ++cycle_;
    try {
      write(*result);
    } catch (const std::exception& error) {  // a profile is not worth a run
      log_warning(cat("the profile of steps ", first_step_, " to ", last_step_, " cannot be written: ", error.what()));
    }
  }

  void write(profiler::ProfilerResult& result) const {
    const std::string prefix = cycle_ == 1 ? prefix_ : cat(prefix_, "_cycle", cycle_);
    std::vector<std::string> keys{"cpu_time_total", "self_cpu_time_total"};
    if (params_.profile_memory) keys.insert(keys.end(), {"cpu_memory_usage", "self_cpu_memory_usage"});
    const std::vector<OperatorEvent> events = events_of(result);
    for (const bool by_shape : {false, true}) {
      if (by_shape && !params_.record_shapes) continue;
      const std::vector<OperatorTotals> totals = sum_operators(events, by_shape);
      for (const std::string& key : keys) {
        write_file_atomically(directory_ / cat(prefix, "_", key, by_shape ? "_by_shape" : "", ".txt"),
                              operator_table(totals, {.sort_by = key,
                                                      .row_limit = params_.row_limit,
                                                      .memory = params_.profile_memory,
                                                      .shapes = by_shape,
                                                      .flops = params_.with_flops}));
      }
    }
    const fs::path trace = directory_ / (prefix + "_pt_trace.json"), compressed = trace.string() + ".gz";
    result.save(trace.string());
    compress(trace, compressed);
    log_info(cat("profiled steps ", first_step_, " to ", last_step_, ": tables ", (directory_ / prefix).string(),
                 "_*.txt, trace ", compressed.string(), " for chrome://tracing or ui.perfetto.dev"));
  }

  const ProfilerParams params_;
  const fs::path directory_;
  const std::string prefix_;
  const std::set<impl::ActivityType> activities_;
  std::optional<at::RecordFunction> step_annotation_;
  std::int64_t steps_begun_ = 0, first_step_ = 0, last_step_ = 0, cycle_ = 0;
  bool prepared_ = false, recording_ = false, ends_here_ = false;
};

std::string padded(std::int64_t value, int width) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*lld", width, static_cast<long long>(value));
  return text;
}

}  // namespace

ProfilerAction profiler_action(const ProfilerScheduleParams& schedule, std::int64_t step) {
  if (step < schedule.skip_first) return ProfilerAction::kNone;
  const std::int64_t length = schedule.wait + schedule.warmup + schedule.active, place = step - schedule.skip_first;
  if (schedule.repeat > 0 && place / length >= schedule.repeat) return ProfilerAction::kNone;
  const std::int64_t in_cycle = place % length;
  if (in_cycle < schedule.wait) return ProfilerAction::kNone;
  if (in_cycle < schedule.wait + schedule.warmup) return ProfilerAction::kWarmUp;
  return in_cycle + 1 < length ? ProfilerAction::kRecord : ProfilerAction::kRecordAndSave;
}

CallbackPtr make_operator_profiler(const ProfilerParams& params, const fs::path& output_dir, std::int64_t rank,
                                   std::int64_t local_rank) {
  std::set<impl::ActivityType> activities;
  if (params.enable_cpu_profiling) activities.insert(impl::ActivityType::CPU);
  if (params.enable_cuda_profiling) {
    if (at::hasCUDA()) {
      activities.insert(impl::ActivityType::CUDA);
    } else {
      log_warning("training.profiler.enable_cuda_profiling: there is no CUDA device to profile");
    }
  }
  if (activities.empty()) return nullptr;
  const fs::path directory = params.save_dir ? fs::path(*params.save_dir) : output_dir / "profiler";
  return std::make_shared<OperatorProfiler>(params, directory, "prof_" + padded(rank, 3) + "_local_" + padded(local_rank, 2),
                                            activities);
}

}  // namespace oumi
