#include "oumi/telemetry/tensorboard.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/append_file.h"
#include "oumi/telemetry/tensorboard_encoding.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

double wall_time() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

fs::path new_event_path(const fs::path& directory) {
  static std::atomic<int> files{0};
  return directory /
         cat("events.out.tfevents.", static_cast<std::int64_t>(wall_time()), ".", host_name(), ".", ::getpid(), ".", files++);
}

template <class Integer>
void append_little_endian(std::string& bytes, Integer value) {
  for (std::size_t i = 0; i < sizeof(value); ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
}

// A code block whose fence is longer than any run of backticks inside.
std::string code_block(std::string_view text, std::string_view language) {
  std::size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return cat(fence, language, "\n", text, text.ends_with('\n') ? "" : "\n", fence, "\n");
}

}  // namespace

std::string tensorboard_tag(std::string_view name) {
  for (const std::string_view group : {"eval", "test"}) {
    if (name.size() > group.size() + 1 && name.starts_with(group) && name[group.size()] == '_')
      return cat(group, "/", name.substr(group.size() + 1));
  }
  return cat("train/", name);
}

std::uint32_t crc32c(std::string_view bytes) noexcept {
  static constexpr auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
      table[i] = value;
    }
    return table;
  }();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return crc ^ 0xFFFFFFFFU;
}

std::uint32_t masked_crc32c(std::string_view bytes) noexcept {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

std::string frame_tfrecord(std::string_view payload) {
  std::string record;
  record.reserve(payload.size() + 16);
  append_little_endian(record, static_cast<std::uint64_t>(payload.size()));
  append_little_endian(record, masked_crc32c(std::string_view(record).substr(0, 8)));
  record += payload;
  append_little_endian(record, masked_crc32c(payload));
  return record;
}

class TensorBoardWriter::Impl {
 public:
  explicit Impl(const fs::path& directory)
      : file((make_directories(directory), new_event_path(directory)), AppendFile::Existing::kRefuse) {
    write(encode_file_version(wall_time()));
  }

  void write(const std::string& event) {
    if (!event.empty()) file.append(frame_tfrecord(event));
  }

  void write(const LogRecord& record) {
    TaggedScalars scalars;
    for (const auto& [name, value] : record.values) {
      if (name != "step" && name != "epoch") scalars.emplace_back(tensorboard_tag(name), value);
    }
    scalars.emplace_back(tensorboard_tag("epoch"), record.epoch);
    write(encode_scalars(wall_time(), record.step, scalars));
  }

  AppendFile file;
};

TensorBoardWriter::TensorBoardWriter(const fs::path& directory) : impl_(std::make_unique<Impl>(directory)) {}
TensorBoardWriter::~TensorBoardWriter() = default;

void TensorBoardWriter::on_run_begin(const RunInfo& run) {
  // A session that starts at step n makes TensorBoard purge what earlier files say about steps from n on.
  if (run.start_step > 0) impl_->write(encode_session_start(wall_time(), run.start_step + 1));
  if (run.starts_over) impl_->write(encode_session_start(wall_time(), 0));
  if (!run.config_yaml.empty()) on_text("config", code_block(run.config_yaml, "yaml"));
  if (!run.model_summary.empty()) on_text("model", code_block(run.model_summary, ""));
}

void TensorBoardWriter::on_log(const LogRecord& record) { impl_->write(record); }
void TensorBoardWriter::on_eval(const LogRecord& record) { impl_->write(record); }
void TensorBoardWriter::on_summary(const LogRecord& record) { impl_->write(record); }

void TensorBoardWriter::on_histogram(std::string_view name, std::int64_t step, std::span<const float> values) {
  impl_->write(encode_histogram(wall_time(), step, name, values));
}

void TensorBoardWriter::on_text(std::string_view tag, std::string_view text) {
  impl_->write(encode_text(wall_time(), 0, tag, text));
}

void TensorBoardWriter::on_run_end() { flush(); }
void TensorBoardWriter::flush() { impl_->file.sync(); }

const fs::path& TensorBoardWriter::path() const noexcept { return impl_->file.path(); }

}  // namespace oumi
