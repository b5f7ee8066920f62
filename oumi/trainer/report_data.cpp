// What a finished run leaves for `oumi-cpp report`: the last evaluation's confusion matrix and a few samples with predictions.
#include <ATen/ops/softmax.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "oumi/metrics/classification.h"
#include "oumi/telemetry/report_data.h"
#include "oumi/trainer/run.h"

namespace oumi {
namespace {

std::string class_label(const std::vector<std::string>& names, std::int64_t index) {
  return index >= 0 && index < static_cast<std::int64_t>(names.size()) ? names[static_cast<std::size_t>(index)] : cat(index);
}

// Pixels of a [channels, height, width] float image, stretched over its own range: the transforms that made it need not be
// known.
std::optional<Thumbnail> thumbnail(const Tensor& sample) {
  if (sample.dim() != 3 || (sample.size(0) != 1 && sample.size(0) != 3) || sample.size(1) > 1024 || sample.size(2) > 1024)
    return std::nullopt;
  const Tensor image = sample.to(at::kFloat);
  const double low = image.min().item<double>(), range = std::max(image.max().item<double>() - low, 1e-12);
  const Tensor bytes = ((image - low) * (255.0 / range)).round().to(at::kByte).permute({1, 2, 0}).contiguous();
  const std::uint8_t* data = bytes.const_data_ptr<std::uint8_t>();
  return Thumbnail{
      .width = sample.size(2), .height = sample.size(1), .channels = sample.size(0), .pixels = {data, data + bytes.numel()}};
}

}  // namespace

Trainer::ShownSamples Trainer::shown_samples() {
  const bool evaluated = std::any_of(state_.log_history.begin(), state_.log_history.end(),
                                     [](const Json& entry) { return entry.contains("eval_runtime"); });
  if (options_.eval_dataset.sets.empty() || !evaluated) return {};
  const DatasetPtr& dataset = options_.eval_dataset.sets.back().second;
  constexpr std::int64_t kShown = 24;
  if (!dataset->is_map_style() || dataset->size() == 0 || options_.data_collator || mesh_.tensor->world_size() > 1) return {};
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < std::min(kShown, dataset->size()); ++i) indices.push_back(i);
  const c10::AutoGradMode no_grad(false);
  ShownSamples shown{.batch = dataset->get_batch(indices)};
  model_->eval();
  shown.logits = (*model_)(device_.is_cpu() ? shown.batch : shown.batch.to(device_)).logits().to(at::kCPU, at::kFloat);
  return shown.logits.dim() == 2 ? shown : ShownSamples();
}

void Trainer::write_report_data(const ShownSamples& shown) {
  if (options_.eval_dataset.sets.empty()) return;
  const DatasetPtr& dataset = options_.eval_dataset.sets.back().second;
  const std::filesystem::path directory = std::filesystem::path(args_.output_dir) / "telemetry";

  EvaluationReport report;
  report.class_names = dataset->class_names();
  for (auto entry = state_.log_history.rbegin(); entry != state_.log_history.rend() && report.metrics.empty(); ++entry) {
    if (!entry->contains("eval_runtime")) continue;
    for (const auto& [name, value] : entry->items()) {
      if (value.is_number() && name.rfind("eval_", 0) == 0) report.metrics.emplace_back(name, value.get<double>());
    }
  }
  if (report.metrics.empty()) return;  // never evaluated
  for (const MetricPtr& metric : options_.metrics) {
    if (const auto* classification = dynamic_cast<const ClassificationMetric*>(metric.get())) {
      report.confusion_matrix = classification->confusion_matrix();
      report.per_class = scores_from_confusion_matrix(report.confusion_matrix, report.class_names);
    }
  }
  make_directories(directory);
  write_evaluation_report(directory, report);

  if (!shown.logits.defined()) return;
  const auto [probabilities, predictions] = shown.logits.softmax(1).max(1);
  const Tensor* labels = shown.batch.find("labels");
  std::vector<SamplePrediction> samples;
  for (std::int64_t i = 0; i < shown.logits.size(0); ++i) {
    SamplePrediction sample{.id = cat(i)};
    sample.prediction = class_label(report.class_names, predictions[i].item<std::int64_t>());
    sample.probability = probabilities[i].item<double>();
    if (labels != nullptr && labels->dim() == 1)
      sample.label = class_label(report.class_names, (*labels)[i].item<std::int64_t>());
    for (const auto& [name, tensor] : shown.batch) {
      if (!sample.image && tensor.dim() == 4 && tensor.is_floating_point()) sample.image = thumbnail(tensor[i]);
    }
    samples.push_back(std::move(sample));
  }
  write_sample_predictions(directory, samples);
}

}  // namespace oumi
