#include "oumi/telemetry/progress_bar.h"

#include "oumi/base/strings.h"
#include "oumi/base/text_bytes.h"
#include "oumi/telemetry/progress_rate.h"
#include "oumi/telemetry/progress_text.h"

namespace oumi {

class ProgressBar::Impl {
 public:
  Impl(Console& console, ProgressBarOptions options) : console_(console), options_(std::move(options)) {}

  void begin(const RunInfo& run) {
    run_ = run;
    begun_ = true;
    live_ = options_.enabled && console_.style().interactive;
    train_.start(options_.now(), run.start_step);
    latest_ = Progress{};
    latest_.step = run.start_step;
    latest_.total = run.total_steps;
    inner_ = false;
    if (run_.total_steps > 0) redraw();
  }

  void progress(const Progress& progress) {
    if (!begun_) begin(RunInfo{});  // evaluation or prediction on its own
    const auto now = options_.now();
    if (progress.phase == Phase::kTrain) {
      end_inner(now);
      if (!train_.started()) train_.start(now, 0);
      train_.update(now, progress.step);
      started_ = true;
      latest_ = progress;
      latest_.name = {};
      if (!progress.loss.has_value()) latest_.loss = loss_;
    } else {
      const std::string label = cat(progress.phase == Phase::kEvaluate ? "evaluate" : "predict",
                                    progress.name.empty() ? "" : " ", printable(progress.name));
      if (!inner_ || label != inner_label_ || progress.step < inner_latest_.step) {
        train_.pause(now);
        inner_ = true;
        inner_label_ = label;
        // The first event of a phase comes before or after its first step; only the steps after it can be timed.
        inner_rate_.start(now, progress.step);
      }
      inner_rate_.update(now, progress.step);
      inner_latest_ = progress;
      inner_latest_.name = {};
    }
    if (now - drawn_at_ >= options_.min_interval || progress.step == progress.total) redraw();
  }

  void log(const LogRecord& record) {
    if (const auto loss = record.find("loss")) latest_.loss = loss_ = loss;
    if (live_) {
      redraw();
      return;
    }
    std::string line = render_record(record, run_.total_steps);
    if (const auto left = train_.seconds_left(run_.total_steps)) line += cat(", ", format_duration(*left), " left");
    console_.print_line(line);
  }

  void eval(const LogRecord& record) {
    end_inner(options_.now());
    console_.clear_status();
    console_.print_line(cat(console_.colored("evaluation", "1"), " at ", render_record(record, run_.total_steps)));
    if (started_) redraw();
  }

  void summary(const LogRecord& record) {
    finish();
    console_.print_line(cat(console_.colored("finished", "1"), " at ", render_record(record, run_.total_steps)));
  }

  // Leaves the last state as an ordinary line.
  void finish() {
    if (!live_) return;
    end_inner(options_.now());
    const std::string last = started_ ? train_line() : "";
    live_ = begun_ = false;
    console_.clear_status();
    if (!last.empty()) console_.print_line(last);
  }

 private:
  void end_inner(ProgressRate::TimePoint now) {
    if (!inner_) return;
    inner_ = false;
    train_.resume(now);
  }

  BarState state_of(const std::string& label, const Progress& progress, const ProgressRate& rate) const {
    BarState state;
    state.label = label;
    state.step = progress.step;
    state.total = progress.total;
    state.loss = progress.loss;
    state.steps_per_second = rate.steps_per_second();
    if (state.steps_per_second.has_value() && progress.samples > 0 && rate.steps_done() > 0) {
      state.samples_per_second =
          *state.steps_per_second * static_cast<double>(progress.samples) / static_cast<double>(rate.steps_done());
    }
    state.seconds_left = rate.seconds_left(progress.total);
    state.elapsed_seconds = rate.elapsed_seconds(options_.now());
    return state;
  }

  std::string train_line() const { return render_bar(state_of("train", latest_, train_), console_.width() - 1, console_); }

  void redraw() {
    if (!live_) return;
    drawn_at_ = options_.now();
    console_.set_status(inner_ ? render_bar(state_of(inner_label_, inner_latest_, inner_rate_), console_.width() - 1, console_)
                               : train_line());
  }

  Console& console_;
  ProgressBarOptions options_;
  RunInfo run_;
  bool live_ = false;  // the status line is ours
  bool begun_ = false;
  bool started_ = false;  // training made progress: its last state is worth a line
  ProgressRate train_;
  Progress latest_;
  std::optional<double> loss_;  // of the last log line, for progress that brings none
  // Evaluation or prediction, which interrupts training.
  bool inner_ = false;
  std::string inner_label_;
  ProgressRate inner_rate_;
  Progress inner_latest_;
  ProgressRate::TimePoint drawn_at_{};
};

ProgressBar::ProgressBar(Console& console, ProgressBarOptions options)
    : impl_(std::make_unique<Impl>(console, std::move(options))) {}
ProgressBar::~ProgressBar() { impl_->finish(); }
void ProgressBar::on_run_begin(const RunInfo& run) { impl_->begin(run); }
void ProgressBar::on_log(const LogRecord& record) { impl_->log(record); }
void ProgressBar::on_eval(const LogRecord& record) { impl_->eval(record); }
void ProgressBar::on_summary(const LogRecord& record) { impl_->summary(record); }
void ProgressBar::on_progress(const Progress& progress) { impl_->progress(progress); }
void ProgressBar::on_run_end() { impl_->finish(); }

}  // namespace oumi
