// What a run tells the outside. The trainer sends events to one sink, an EventHub, which fans them out to the progress bar,
// the metrics file, TensorBoard and the log. Torch-free: values arrive as numbers and spans.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace oumi {

// Facts of the run that are fixed when it begins.
struct RunInfo {
  std::string run_name = {};  // empty when the user gave none
  std::filesystem::path output_dir = {};
  std::string config_yaml = {};    // canonical YAML of what runs; shown by TensorBoard
  std::string model_summary = {};  // may be empty
  std::int64_t start_step = 0;     // update steps already done: 0, or the step resumed from
  bool starts_over = false;        // an earlier try may have logged steps from 0 on: they count no more
  std::int64_t total_steps = 0;    // update steps at the end of the run; 0 when unknown
  std::int64_t rank = 0;
  std::int64_t world_size = 1;
};

// One log line: training logs, evaluation results, the summary at the end. Values keep their order and are never rounded;
// NaN and infinities are welcome.
struct LogRecord {
  std::int64_t step = 0;                                    // update steps done
  double epoch = 0;                                         // fraction of passes over the training data
  std::vector<std::pair<std::string, double>> values = {};  // names as in Hugging Face's logs: "loss", "eval_accuracy", ...

  // The value called `name`, or nullopt.
  std::optional<double> find(std::string_view name) const;
};

enum class Phase { kTrain, kEvaluate, kPredict };

// How far a phase has come; cheap enough to send after every step.
struct Progress {
  Phase phase = Phase::kTrain;
  std::int64_t step = 0;            // update steps (training, counted from the run's very start) or batches (evaluation)
  std::int64_t total = 0;           // 0 when unknown (a stream)
  std::int64_t samples = 0;         // done in this phase by this process since it started; 0 when not counted
  std::optional<double> loss = {};  // the latest known one
  double epoch = 0;
  std::string_view name = {};  // of the evaluation set, where there are several
};

// Receives the events of a run in order, on one thread. A sink overrides what it cares about.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_run_begin(const RunInfo&) {}
  virtual void on_log(const LogRecord&) {}
  virtual void on_eval(const LogRecord&) {}     // ends the progress of an evaluation
  virtual void on_summary(const LogRecord&) {}  // once, after the last step: train_runtime, train_loss, ...
  virtual void on_progress(const Progress&) {}
  // All values of one tensor, in float32; sent on request of the user only (training.log_histograms).
  virtual void on_histogram(std::string_view /*name*/, std::int64_t /*step*/, std::span<const float> /*values*/) {}
  virtual void on_text(std::string_view /*tag*/, std::string_view /*text*/) {}
  virtual void on_run_end() {}
  virtual void flush() {}  // before a checkpoint is committed: what was sent so far must be on its way to the disk
};

// Forwards each event to its sinks in the order in which they were added. A run outlives its telemetry: a sink that throws
// is dropped after one warning in the log.
class EventHub final : public EventSink {
 public:
  void add(std::unique_ptr<EventSink> sink);
  std::size_t size() const noexcept { return sinks_.size(); }

  void on_run_begin(const RunInfo& run) override;
  void on_log(const LogRecord& record) override;
  void on_eval(const LogRecord& record) override;
  void on_summary(const LogRecord& record) override;
  void on_progress(const Progress& progress) override;
  void on_histogram(std::string_view name, std::int64_t step, std::span<const float> values) override;
  void on_text(std::string_view tag, std::string_view text) override;
  void on_run_end() override;
  void flush() override;

 private:
  template <class Call>
  void forward(const Call& call);

  std::vector<std::unique_ptr<EventSink>> sinks_;
};

struct TelemetryOptions {
  std::filesystem::path output_dir = {};
  std::optional<std::filesystem::path> tensorboard_dir = {};  // default: output_dir/tensorboard
  std::int64_t rank = 0;
  bool enable_tensorboard = true;
  bool enable_progress_bar = true;  // off with training.disable_tqdm: log lines instead
  bool metrics_on_all_ranks = false;
};

// The sinks that `options` ask for: rank 0 gets console, log, metrics file and TensorBoard; other ranks at most a metrics file.
// Throws EnvironmentError when a file cannot be created; once a run has begun, nothing here stops it.
std::unique_ptr<EventHub> make_event_hub(const TelemetryOptions& options);

}  // namespace oumi
