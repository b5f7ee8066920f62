// Event files that TensorBoard opens: scalars named as Hugging Face's TensorBoardCallback names them, histograms, texts.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "oumi/telemetry/events.h"

namespace oumi {

// "loss" -> "train/loss", "eval_loss" -> "eval/loss", "test_loss" -> "test/loss".
std::string tensorboard_tag(std::string_view name);

// CRC32C (Castagnoli) of RFC 3720, and TensorFlow's masked form of it, which frames records.
std::uint32_t crc32c(std::string_view bytes) noexcept;
std::uint32_t masked_crc32c(std::string_view bytes) noexcept;

// One TFRecord: length (uint64), masked CRC of the length, payload, masked CRC of the payload; all little-endian.
std::string frame_tfrecord(std::string_view payload);

// Writes one new file per run, directory/events.out.tfevents.<seconds>.<host>.<process>.<n>. A run that resumed tells
// TensorBoard to forget the steps after the one it resumed from. Wall-clock times are the only thing that differs between
// equal runs. Records are whole or absent; a full disk costs a warning, not the run.
class TensorBoardWriter final : public EventSink {
 public:
  // Creates the directory and the file. Throws EnvironmentError.
  explicit TensorBoardWriter(const std::filesystem::path& directory);
  ~TensorBoardWriter() override;

  void on_run_begin(const RunInfo& run) override;
  void on_log(const LogRecord& record) override;
  void on_eval(const LogRecord& record) override;
  void on_summary(const LogRecord& record) override;
  void on_histogram(std::string_view name, std::int64_t step, std::span<const float> values) override;
  void on_text(std::string_view tag, std::string_view text) override;
  void on_run_end() override;
  void flush() override;

  const std::filesystem::path& path() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oumi
