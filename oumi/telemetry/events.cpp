#include "oumi/telemetry/events.h"

#include <exception>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/logging.h"
#include "oumi/telemetry/metrics_file.h"
#include "oumi/telemetry/progress_bar.h"
#include "oumi/telemetry/tensorboard.h"

namespace oumi {

std::optional<double> LogRecord::find(std::string_view name) const {
  for (const auto& [key, value] : values) {
    if (key == name) return value;
  }
  return std::nullopt;
}

namespace {

// The log file gets the records in the metrics file's own form; the terminal shows them through the progress bar.
class LogFileSink final : public EventSink {
 public:
  void on_log(const LogRecord& record) override { write("train", record); }
  void on_eval(const LogRecord& record) override { write("evaluate", record); }
  void on_summary(const LogRecord& record) override { write("summary", record); }
  void flush() override { flush_logging(); }

 private:
  static void write(const char* kind, const LogRecord& record) {
    log_to_file(LogLevel::kInfo, cat(kind, " ", to_json_line(record)));
  }
};

}  // namespace

void EventHub::add(std::unique_ptr<EventSink> sink) { sinks_.push_back(std::move(sink)); }

template <class Call>
void EventHub::forward(const Call& call) {
  for (std::size_t i = 0; i < sinks_.size();) {
    try {
      call(*sinks_[i]);
      ++i;
    } catch (const std::exception& error) {
      log_warning(cat("[telemetry] an output failed and is switched off: ", error.what()));
      sinks_.erase(sinks_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

void EventHub::on_run_begin(const RunInfo& run) {
  forward([&](EventSink& sink) { sink.on_run_begin(run); });
}
void EventHub::on_log(const LogRecord& record) {
  forward([&](EventSink& sink) { sink.on_log(record); });
}
void EventHub::on_eval(const LogRecord& record) {
  forward([&](EventSink& sink) { sink.on_eval(record); });
}
void EventHub::on_summary(const LogRecord& record) {
  forward([&](EventSink& sink) { sink.on_summary(record); });
}
void EventHub::on_progress(const Progress& progress) {
  forward([&](EventSink& sink) { sink.on_progress(progress); });
}
void EventHub::on_histogram(std::string_view name, std::int64_t step, std::span<const float> values) {
  forward([&](EventSink& sink) { sink.on_histogram(name, step, values); });
}
void EventHub::on_text(std::string_view tag, std::string_view text) {
  forward([&](EventSink& sink) { sink.on_text(tag, text); });
}
void EventHub::on_run_end() {
  forward([](EventSink& sink) { sink.on_run_end(); });
}
void EventHub::flush() {
  forward([](EventSink& sink) { sink.flush(); });
}

std::unique_ptr<EventHub> make_event_hub(const TelemetryOptions& options) {
  auto hub = std::make_unique<EventHub>();
  const bool first = options.rank == 0;
  if (first || options.metrics_on_all_ranks) {
    make_directories(options.output_dir);
    hub->add(std::make_unique<MetricsFile>(metrics_path(options.output_dir, options.rank)));
  }
  if (!first) return hub;
  if (options.enable_tensorboard) {
    hub->add(std::make_unique<TensorBoardWriter>(options.tensorboard_dir.value_or(options.output_dir / "tensorboard")));
  }
  hub->add(std::make_unique<LogFileSink>());
  ProgressBarOptions bar;
  bar.enabled = options.enable_progress_bar;
  hub->add(std::make_unique<ProgressBar>(Console::standard_error(), bar));
  return hub;
}

}  // namespace oumi
