#include "oumi/telemetry/metrics_file.h"

#include <array>
#include <charconv>
#include <cmath>
#include <system_error>

#include "oumi/base/files.h"
#include "oumi/base/json.h"

namespace oumi {
namespace fs = std::filesystem;

fs::path metrics_path(const fs::path& output_dir, std::int64_t rank) {
  std::string digits = std::to_string(rank);
  if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
  return output_dir / ("metrics_rank" + digits + ".jsonl");
}

std::string json_number(double value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return std::string(text.data(), end);
}

std::string to_json_line(const LogRecord& record) {
  std::string line = "{\"step\": " + std::to_string(record.step) + ", \"epoch\": " + json_number(record.epoch);
  for (const auto& [name, value] : record.values) {
    if (name == "step" || name == "epoch") continue;
    // The library quotes the name: names of user metrics may hold anything, invalid UTF-8 included.
    line += ", " + Json(name).dump(-1, ' ', false, Json::error_handler_t::replace) + ": " + json_number(value);
  }
  return line + "}";
}

void cut_metrics_file(const fs::path& path, std::int64_t step) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return;  // a device has no lines to remove
  const std::string text = read_text_file(path);
  std::string kept;
  kept.reserve(text.size());
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short
    const std::string_view line = std::string_view(text).substr(begin, end + 1 - begin);
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool later = json.is_object() && json.contains("step") && json["step"].is_number() &&
                       json["step"].get<double>() > static_cast<double>(step);
    if (!later) kept += line;
    begin = end + 1;
  }
  if (kept != text) write_file_atomically(path, kept);
}

MetricsFile::MetricsFile(const fs::path& path) : file_(path, AppendFile::Existing::kDropTornLine) {}

void MetricsFile::write(const LogRecord& record) { file_.append(to_json_line(record) + "\n"); }

void MetricsFile::flush() { file_.sync(); }

}  // namespace oumi
