// What a run shows on the terminal: a bar with loss, rate and time left; plain lines where stderr is not a terminal.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "oumi/telemetry/console.h"
#include "oumi/telemetry/events.h"

namespace oumi {

struct ProgressBarOptions {
  bool enabled = true;                          // false (disable_tqdm): lines at each log, never a bar
  std::chrono::milliseconds min_interval{100};  // between redraws
  std::function<std::chrono::steady_clock::time_point()> now = &std::chrono::steady_clock::now;  // replaced in tests
};

// On a terminal: one line redrawn in place, fitted to the current width; results of evaluations stay above it.
// Otherwise: one line per log record, none per step. The bar is taken off the terminal at the end of the run and when the
// object is destroyed, so that an error message starts on a line of its own.
class ProgressBar final : public EventSink {
 public:
  explicit ProgressBar(Console& console = Console::standard_error(), ProgressBarOptions options = {});
  ~ProgressBar() override;

  void on_run_begin(const RunInfo& run) override;
  void on_log(const LogRecord& record) override;
  void on_eval(const LogRecord& record) override;
  void on_summary(const LogRecord& record) override;
  void on_progress(const Progress& progress) override;
  void on_run_end() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oumi
