#include "oumi/telemetry/report_data.h"

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/png_encoder.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kMaxThumbnailSide = 1024;
constexpr std::string_view kEvaluationFile = "evaluation.json";
constexpr std::string_view kSamplesFile = "sample_predictions.json";

// Class names and texts come from data sets: bytes that are no UTF-8 must not stop the writing.
std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

Json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

double read_number(const Json& value, std::string_view file, const std::string& where) {
  if (value.is_number()) return value.get<double>();
  if (value == "NaN" || value.is_null()) return std::nan("");
  if (value == "Infinity") return HUGE_VAL;
  if (value == "-Infinity") return -HUGE_VAL;
  throw UserError(std::string(file), cat(where, ": expected a number, got ", json_type_name(value)));
}

std::string read_string(const Json& object, const char* name, std::string_view file, const std::string& where) {
  if (!object.contains(name) || object[name].is_null()) return "";
  const Json& value = object[name];
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  throw UserError(std::string(file), cat(where, ".", name, ": expected str, got ", json_type_name(value)));
}

const Json& expect_type(const Json& value, bool fits, const char* expected, std::string_view file, const std::string& where) {
  if (!fits) throw UserError(std::string(file), cat(where, ": expected ", expected, ", got ", json_type_name(value)));
  return value;
}

void check_thumbnail(const Thumbnail& image) {
  const bool sized = image.width > 0 && image.height > 0 && image.width <= kMaxThumbnailSide &&
                     image.height <= kMaxThumbnailSide && (image.channels == 1 || image.channels == 3 || image.channels == 4);
  if (!sized || image.pixels.size() != static_cast<std::size_t>(image.width * image.height * image.channels)) {
    throw InternalError(cat("thumbnail: expected width * height * channels pixels, got ", image.pixels.size(), " for ",
                            image.width, " x ", image.height, " x ", image.channels));
  }
}

Thumbnail thumbnail_from_json(const Json& json, const std::string& where) {
  expect_type(json, json.is_object(), "dict", kSamplesFile, where);
  Thumbnail image;
  const auto read_size = [&](const char* name, std::int64_t limit) {
    const bool fits = json.contains(name) && json[name].is_number_integer() && json[name].get<std::int64_t>() > 0 &&
                      json[name].get<std::int64_t>() <= limit;
    if (!fits) throw UserError(std::string(kSamplesFile), cat(where, ".", name, ": expected an int from 1 to ", limit));
    return json[name].get<std::int64_t>();
  };
  image.width = read_size("width", kMaxThumbnailSide);
  image.height = read_size("height", kMaxThumbnailSide);
  image.channels = read_size("channels", 4);
  if (image.channels == 2) throw UserError(std::string(kSamplesFile), cat(where, ".channels: expected 1, 3 or 4, got 2"));
  const std::string bytes = decode_base64(read_string(json, "data", kSamplesFile, where));
  const auto expected = static_cast<std::size_t>(image.width * image.height * image.channels);
  if (bytes.size() != expected) {
    throw UserError(std::string(kSamplesFile),
                    cat(where, ".data: expected ", expected, " bytes for the size given, got ", bytes.size()));
  }
  image.pixels.assign(bytes.begin(), bytes.end());
  return image;
}

}  // namespace

std::vector<ClassScores> scores_from_confusion_matrix(const std::vector<std::vector<std::int64_t>>& matrix,
                                                      const std::vector<std::string>& class_names) {
  std::vector<ClassScores> scores(matrix.size());
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    double predicted = 0, actual = 0;
    for (std::size_t j = 0; j < matrix.size(); ++j) {
      if (matrix[i].size() != matrix.size()) throw InternalError("confusion matrix: expected as many columns as rows");
      actual += static_cast<double>(matrix[i][j]);
      predicted += static_cast<double>(matrix.at(j).at(i));
    }
    const auto right = static_cast<double>(matrix[i][i]);
    ClassScores& score = scores[i];
    score.name = i < class_names.size() ? class_names[i] : std::to_string(i);
    score.precision = predicted > 0 ? right / predicted : 0;
    score.recall = actual > 0 ? right / actual : 0;
    score.f1 = predicted + actual > 0 ? 2 * right / (predicted + actual) : 0;
    score.support = static_cast<std::int64_t>(actual);
  }
  return scores;
}

void write_evaluation_report(const fs::path& directory, const EvaluationReport& report) {
  for (const auto& row : report.confusion_matrix) {
    if (row.size() != report.confusion_matrix.size()) throw InternalError("confusion matrix: expected as many columns as rows");
  }
  Json json = Json::object();
  json["metrics"] = Json::object();
  for (const auto& [name, value] : report.metrics) json["metrics"][name] = number(value);
  json["class_names"] = report.class_names;
  json["confusion_matrix"] = report.confusion_matrix;
  json["per_class"] = Json::object();
  for (const ClassScores& score : report.per_class) {
    json["per_class"][score.name] = {{"precision", number(score.precision)},
                                     {"recall", number(score.recall)},
                                     {"f1", number(score.f1)},
                                     {"support", score.support}};
  }
  make_directories(directory);
  write_file_atomically(directory / kEvaluationFile, dump(json));
}

void write_sample_predictions(const fs::path& directory, const std::vector<SamplePrediction>& samples) {
  Json json = Json::array();
  for (const SamplePrediction& sample : samples) {
    Json entry = {{"id", sample.id}, {"label", sample.label}, {"prediction", sample.prediction}};
    if (sample.probability.has_value()) entry["probability"] = number(*sample.probability);
    if (!sample.text.empty()) entry["text"] = sample.text;
    if (sample.image.has_value()) {
      check_thumbnail(*sample.image);
      const auto& pixels = sample.image->pixels;
      entry["image"] = {{"width", sample.image->width},
                        {"height", sample.image->height},
                        {"channels", sample.image->channels},
                        {"data", encode_base64({reinterpret_cast<const char*>(pixels.data()), pixels.size()})}};
    }
    json.push_back(std::move(entry));
  }
  make_directories(directory);
  write_file_atomically(directory / kSamplesFile, dump(json));
}

EvaluationReport evaluation_report_from_json(const Json& json) {
  expect_type(json, json.is_object(), "dict", kEvaluationFile, "file");
  EvaluationReport report;
  if (json.contains("metrics")) {
    expect_type(json["metrics"], json["metrics"].is_object(), "dict", kEvaluationFile, "metrics");
    for (const auto& [name, value] : json["metrics"].items())
      report.metrics.emplace_back(name, read_number(value, kEvaluationFile, "metrics." + name));
  }
  if (json.contains("class_names")) {
    expect_type(json["class_names"], json["class_names"].is_array(), "list", kEvaluationFile, "class_names");
    for (const Json& name : json["class_names"]) {
      report.class_names.push_back(
          expect_type(name, name.is_string(), "str", kEvaluationFile, "class_names").get<std::string>());
    }
  }
  if (json.contains("confusion_matrix")) {
    const Json& matrix =
        expect_type(json["confusion_matrix"], json["confusion_matrix"].is_array(), "list", kEvaluationFile, "confusion_matrix");
    for (const Json& row : matrix) {
      const std::string where = cat("confusion_matrix[", report.confusion_matrix.size(), "]");
      expect_type(row, row.is_array(), "list", kEvaluationFile, where);
      if (row.size() != matrix.size()) {
        throw UserError(std::string(kEvaluationFile), cat(where, ": expected ", matrix.size(), " counts, got ", row.size()));
      }
      auto& counts = report.confusion_matrix.emplace_back();
      for (const Json& count : row) {
        const bool fits = count.is_number_integer() && (count.is_number_unsigned() || count.get<std::int64_t>() >= 0);
        if (!fits)
          throw UserError(std::string(kEvaluationFile), cat(where, ": expected counts of at least 0, got ", count.dump()));
        counts.push_back(count.get<std::int64_t>());
      }
    }
  }
  if (json.contains("per_class")) {
    expect_type(json["per_class"], json["per_class"].is_object(), "dict", kEvaluationFile, "per_class");
    for (const auto& [name, value] : json["per_class"].items()) {
      const std::string where = "per_class." + name;
      expect_type(value, value.is_object(), "dict", kEvaluationFile, where);
      const auto read = [&](const char* field) {
        return value.contains(field) ? read_number(value[field], kEvaluationFile, cat(where, ".", field)) : std::nan("");
      };
      ClassScores score{name, read("precision"), read("recall"), read("f1"), 0};
      if (value.contains("support") && value["support"].is_number_integer())
        score.support = value["support"].get<std::int64_t>();
      report.per_class.push_back(score);
    }
  } else {
    report.per_class = scores_from_confusion_matrix(report.confusion_matrix, report.class_names);
  }
  return report;
}

std::vector<SamplePrediction> sample_predictions_from_json(const Json& json) {
  expect_type(json, json.is_array(), "list", kSamplesFile, "file");
  std::vector<SamplePrediction> samples;
  for (const Json& entry : json) {
    const std::string where = cat("[", samples.size(), "]");
    expect_type(entry, entry.is_object(), "dict", kSamplesFile, where);
    SamplePrediction sample;
    sample.id = read_string(entry, "id", kSamplesFile, where);
    sample.label = read_string(entry, "label", kSamplesFile, where);
    sample.prediction = read_string(entry, "prediction", kSamplesFile, where);
    sample.text = read_string(entry, "text", kSamplesFile, where);
    if (entry.contains("probability") && !entry["probability"].is_null())
      sample.probability = read_number(entry["probability"], kSamplesFile, where + ".probability");
    if (entry.contains("image") && !entry["image"].is_null())
      sample.image = thumbnail_from_json(entry["image"], where + ".image");
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace oumi
