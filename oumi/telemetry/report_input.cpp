#include "oumi/telemetry/report_input.h"

#include <cmath>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/metrics_file.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::optional<double> special_number(std::string_view text) {
  if (text == "NaN" || text == "nan") return kNaN;
  if (text == "Infinity" || text == "inf") return kInfinity;
  if (text == "-Infinity" || text == "-inf") return -kInfinity;
  return std::nullopt;
}

// Takes the numbers of a flat object without building a tree: a long run has millions of lines.
class LineReader final : public nlohmann::json_sax<Json> {
 public:
  std::vector<std::pair<std::string, double>> values;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override { return take(static_cast<double>(value)); }
  bool number_unsigned(number_unsigned_t value) override { return take(static_cast<double>(value)); }
  bool number_float(number_float_t value, const string_t&) override { return take(value); }
  bool string(string_t& value) override {
    const auto number = special_number(value);
    return !number.has_value() || take(*number);
  }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ > 0; }
  bool end_object() override { return --depth_ >= 0; }
  bool start_array(std::size_t) override {
    depth_ += 2;        // numbers inside are no metrics
    return depth_ > 2;  // a line is an object
  }
  bool end_array() override {
    depth_ -= 2;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool take(double value) {
    if (depth_ == 0) return false;
    if (depth_ == 1) values.emplace_back(key_, value);
    return true;
  }

  int depth_ = 0;
  std::string key_;
};

// Python's json writes NaN and Infinity bare: puts them in quotes, leaving strings alone.
std::string quote_special_numbers(std::string_view text) {
  std::string result;
  result.reserve(text.size() + 16);
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result += text.substr(i++, 2);
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    bool replaced = false;
    for (const std::string_view word : {"NaN", "-Infinity", "Infinity"}) {
      if (in_string || text.substr(i, word.size()) != word) continue;
      result += cat('"', word, '"');
      i += word.size() - 1;
      replaced = true;
      break;
    }
    if (!replaced) result += text[i];
  }
  return result;
}

class FolderReader {
 public:
  explicit FolderReader(ReportInput& input) : input_(input) {}

  std::optional<std::string> text(const fs::path& relative, bool expected) {
    const fs::path path = input_.output_dir / relative;
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      if (expected) input_.problems.push_back(cat(relative.string(), " is missing."));
      return std::nullopt;
    }
    try {
      std::string contents = read_text_file(path);
      input_.empty = false;
      return contents;
    } catch (const Error& error) {
      input_.problems.push_back(cat(relative.string(), ": ", error.message(), "."));
      return std::nullopt;
    }
  }

  Json json(const fs::path& relative, bool expected) {
    const auto contents = text(relative, expected);
    if (!contents.has_value()) return nullptr;
    Json value = Json::parse(*contents, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) value = Json::parse(quote_special_numbers(*contents), nullptr, false);
    if (!value.is_discarded()) return value;
    input_.problems.push_back(cat(relative.string(), " is damaged: it is not complete JSON."));
    return nullptr;
  }

  template <class Convert>
  void converted(const fs::path& relative, const Convert& convert) {
    const Json value = json(relative, /*expected=*/false);
    if (value.is_null()) return;
    try {
      convert(value);
    } catch (const Error& error) {
      input_.problems.push_back(cat(relative.string(), ": ", error.message(), "."));
    }
  }

  void metrics() {
    const fs::path path = metrics_path(input_.output_dir);
    const std::string name = path.filename().string();
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      input_.problems.push_back(name + " is missing: there are no curves.");
      return;
    }
    try {
      const MappedFile file(path);
      input_.empty = false;
      const std::string_view all(reinterpret_cast<const char*>(file.data()), file.size());
      std::size_t number = 0, bad = 0, first_bad = 0;
      for (std::size_t begin = 0; begin < all.size();) {
        const std::size_t end = std::min(all.find('\n', begin), all.size());
        const std::string_view line = all.substr(begin, end - begin);
        begin = end + 1;
        ++number;
        if (line.find_first_not_of(" \t\r") == std::string_view::npos || input_.metrics.add_line(line)) continue;
        if (bad++ == 0) first_bad = number;
      }
      if (bad == 1 && first_bad == number && !all.ends_with('\n'))
        input_.problems.push_back(name + ": the last line is cut short and left out.");
      else if (bad > 0)
        input_.problems.push_back(
            cat(name, ": ", bad, bad == 1 ? " line" : " lines", " could not be read, the first is line ", first_bad, "."));
      if (number == 0) input_.problems.push_back(name + " is empty.");
    } catch (const Error& error) {
      input_.problems.push_back(cat(name, ": ", error.message(), "."));
    }
  }

 private:
  ReportInput& input_;
};

}  // namespace

bool MetricTable::add_line(std::string_view line) {
  LineReader reader;
  if (!Json::sax_parse(line.begin(), line.end(), &reader)) {
    const std::string quoted = quote_special_numbers(line);
    reader = LineReader();
    if (quoted.size() == line.size() || !Json::sax_parse(quoted, &reader)) return false;
  }
  std::optional<double> step;
  for (const auto& [name, value] : reader.values) {
    if (name == "step" && std::isfinite(value)) step = value;
  }
  if (!step.has_value()) return false;
  ++lines_;
  for (const auto& [name, value] : reader.values) {
    if (name != "step") add(*step, name, value);
  }
  last_step_ = *step;
  return true;
}

void MetricTable::add_object(const Json& object) {
  if (object.is_object()) add_line(object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void MetricTable::add(double step, std::string_view name, double value) {
  auto entry = index_.find(name);
  if (entry == index_.end()) {
    entry = index_.emplace(std::string(name), series_.size()).first;
    series_.push_back({std::string(name), {}});
  }
  auto& points = series_[entry->second].points;
  while (!points.empty() && points.back().step >= step) points.pop_back();
  points.push_back({step, value});
}

const MetricSeries* MetricTable::find(std::string_view name) const {
  const auto entry = index_.find(name);
  return entry == index_.end() ? nullptr : &series_[entry->second];
}

ReportInput read_report_input(const fs::path& output_dir) {
  ReportInput input;
  input.output_dir = output_dir;
  FolderReader reader(input);
  reader.metrics();
  input.trainer_state = reader.json("trainer_state.json", /*expected=*/true);
  if (!input.trainer_state.is_null() && !input.trainer_state.is_object()) {
    input.problems.push_back("trainer_state.json: expected dict, got " + json_type_name(input.trainer_state) + ".");
    input.trainer_state = nullptr;
  }
  // Runs of Hugging Face's Trainer keep their log there.
  if (input.metrics.lines() == 0 && input.trainer_state.is_object() && input.trainer_state.contains("log_history") &&
      input.trainer_state["log_history"].is_array()) {
    for (const Json& entry : input.trainer_state["log_history"]) input.metrics.add_object(entry);
    if (input.metrics.lines() > 0) input.problems.push_back("The curves come from the log_history of trainer_state.json.");
  }
  input.config_yaml = reader.text("telemetry/training_config.yaml", /*expected=*/true).value_or("");
  input.environment = reader.json("telemetry/environment.json", /*expected=*/true);
  reader.converted("telemetry/evaluation.json",
                   [&](const Json& json) { input.evaluation = evaluation_report_from_json(json); });
  reader.converted("telemetry/sample_predictions.json",
                   [&](const Json& json) { input.samples = sample_predictions_from_json(json); });
  return input;
}

}  // namespace oumi
