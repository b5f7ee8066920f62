// metrics_rankNNNN.jsonl: one JSON object a log line, {"step": 10, "epoch": 0.5, "loss": 0.25, ...}.
//
// Numbers are the shortest decimal that reads back to the same double. JSON has no NaN, and one bare NaN makes strict readers
// (jq, simdjson, JavaScript, polars) refuse the file, so what is not finite is written as the string "NaN", "Infinity" or
// "-Infinity" - the spelling of protobuf's JSON mapping, which Python's float() and JavaScript's Number() both take.
#pragma once

#include <filesystem>
#include <string>

#include "oumi/telemetry/append_file.h"
#include "oumi/telemetry/events.h"

namespace oumi {

// output_dir/metrics_rank0000.jsonl
std::filesystem::path metrics_path(const std::filesystem::path& output_dir, std::int64_t rank = 0);

// The object of one line, without the newline. "step" and "epoch" come first; a value of the same name in the record's values
// is left out.
std::string to_json_line(const LogRecord& record);

// One number as it stands in the file.
std::string json_number(double value);

// The step of a start from the beginning: before an evaluation at step 0.
inline constexpr std::int64_t kBeforeTheFirstStep = -1;

// Removes what a resume from `step` must forget: lines with a greater step and a last line that was cut short. Lines that
// are not ours stay. Missing file: nothing to do. Throws EnvironmentError.
void cut_metrics_file(const std::filesystem::path& path, std::int64_t step);

// Appends to what is there (a line cut short by a crash is removed first). Each record is one write: readers see whole lines.
// When the disk is full, the line is dropped, one warning is logged, and later lines are tried again.
class MetricsFile final : public EventSink {
 public:
  // Throws EnvironmentError when the file cannot be opened.
  explicit MetricsFile(const std::filesystem::path& path);

  void on_log(const LogRecord& record) override { write(record); }
  void on_eval(const LogRecord& record) override { write(record); }
  void on_summary(const LogRecord& record) override { write(record); }
  void flush() override;

 private:
  void write(const LogRecord& record);

  AppendFile file_;
};

}  // namespace oumi
