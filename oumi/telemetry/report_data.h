// What evaluation leaves for `oumi-cpp report`: telemetry/evaluation.json and telemetry/sample_predictions.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

struct ClassScores {
  std::string name;
  double precision = 0, recall = 0, f1 = 0;
  std::int64_t support = 0;  // samples of this class
};

// {"metrics": {..}, "class_names": [..], "confusion_matrix": [[..]], "per_class": {name: {precision, recall, f1, support}}}.
struct EvaluationReport {
  std::vector<std::pair<std::string, double>> metrics;      // "eval_loss", "eval_accuracy", ...
  std::vector<std::string> class_names;                     // one per row of the matrix; may be empty (numbers are shown)
  std::vector<std::vector<std::int64_t>> confusion_matrix;  // [actual][predicted], square
  std::vector<ClassScores> per_class;
};

// 8-bit pixels, row by row, channels interleaved; 1 (grey), 3 (RGB) or 4 (RGBA) channels. At most 1024 x 1024.
struct Thumbnail {
  std::int64_t width = 0, height = 0, channels = 1;
  std::vector<std::uint8_t> pixels;  // width * height * channels
};

struct SamplePrediction {
  std::string id{};
  std::string label{};  // empty when unknown
  std::string prediction{};
  std::optional<double> probability = {};  // of the prediction, 0..1
  std::optional<Thumbnail> image = {};
  std::string text = {};  // the input, where it is text; may be empty
};

// Precision, recall and F1 of each class from a square matrix [actual][predicted]; 0 where undefined, as scikit-learn.
std::vector<ClassScores> scores_from_confusion_matrix(const std::vector<std::vector<std::int64_t>>& matrix,
                                                      const std::vector<std::string>& class_names);

// Write below `directory` (output_dir/telemetry), whole or absent. Throw EnvironmentError; InternalError for a matrix that is
// not square or pixels that do not fit the size.
void write_evaluation_report(const std::filesystem::path& directory, const EvaluationReport& report);
void write_sample_predictions(const std::filesystem::path& directory, const std::vector<SamplePrediction>& samples);

// The readers tolerate nothing: they throw UserError saying what is wrong with which entry. The report shows that text.
EvaluationReport evaluation_report_from_json(const Json& json);
std::vector<SamplePrediction> sample_predictions_from_json(const Json& json);

}  // namespace oumi
