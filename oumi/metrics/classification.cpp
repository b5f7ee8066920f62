#include "oumi/metrics/classification.h"

#include <ATen/ops/argmax.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

void ClassificationMetric::reset() { *this = ClassificationMetric(); }

void ClassificationMetric::update(const Outputs& outputs, const Batch& batch) {
  const Tensor* found = batch.find("labels");
  if (found == nullptr || !at::isIntegralType(found->scalar_type(), /*includeBool=*/false)) return;
  const Tensor& logits = outputs.logits();
  if (logits.dim() != found->dim() + 1 || logits.sizes().slice(0, found->dim()) != found->sizes()) return;

  const std::int64_t num_classes = logits.size(-1);
  if (num_classes_ == 0) {
    num_classes_ = num_classes;
    if (num_classes <= kMaxClasses) counts_.assign(static_cast<std::size_t>(num_classes * num_classes), 0);
  }
  if (num_classes != num_classes_) {
    throw UserError("metrics",
                    cat("the number of classes changed between batches: expected ", num_classes_, ", got ", num_classes));
  }
  const Tensor labels = found->cpu().to(at::kLong).contiguous();
  const Tensor predictions = logits.argmax(-1).cpu().contiguous();
  const std::int64_t* label = labels.const_data_ptr<std::int64_t>();
  const std::int64_t* prediction = predictions.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < labels.numel(); ++i) {
    if (label[i] == -100) continue;
    if (label[i] < 0 || label[i] >= num_classes) {
      throw UserError("labels", cat("out of range: expected [0, ", num_classes, ") or -100, got ", label[i]),
                      "check the labels, or the model's number of classes");
    }
    ++total_;
    correct_ += label[i] == prediction[i] ? 1 : 0;
    if (!counts_.empty()) ++counts_[static_cast<std::size_t>(label[i] * num_classes + prediction[i])];
  }
}

MetricValues ClassificationMetric::compute() const {
  if (total_ == 0) return {};
  MetricValues values{{"accuracy", static_cast<double>(correct_) / static_cast<double>(total_)}};
  if (counts_.empty()) return values;
  double f1_sum = 0;
  int classes_seen = 0;
  const auto n = static_cast<std::size_t>(num_classes_);
  for (std::size_t c = 0; c < n; ++c) {
    std::int64_t labelled = 0, predicted = 0;
    for (std::size_t k = 0; k < n; ++k) {
      labelled += counts_[c * n + k];
      predicted += counts_[k * n + c];
    }
    if (labelled + predicted == 0) continue;
    ++classes_seen;
    f1_sum += 2.0 * static_cast<double>(counts_[c * n + c]) / static_cast<double>(labelled + predicted);
  }
  values.emplace_back("f1", f1_sum / classes_seen);
  return values;
}

std::optional<Json> ClassificationMetric::counts() const {
  return Json{{"num_classes", num_classes_}, {"correct", correct_}, {"total", total_}, {"counts", counts_}};
}

void ClassificationMetric::merge(const Json& counts) {
  const auto num_classes = counts.at("num_classes").get<std::int64_t>();
  if (num_classes == 0) return;  // that rank saw no labels
  if (num_classes_ == 0) {
    num_classes_ = num_classes;
    counts_.assign(counts.at("counts").size(), 0);
  }
  if (num_classes != num_classes_) {
    throw UserError("metrics",
                    cat("the number of classes differs between ranks: expected ", num_classes_, ", got ", num_classes));
  }
  correct_ += counts.at("correct").get<std::int64_t>();
  total_ += counts.at("total").get<std::int64_t>();
  const auto other = counts.at("counts").get<std::vector<std::int64_t>>();
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other[i];
}

std::vector<std::vector<std::int64_t>> ClassificationMetric::confusion_matrix() const {
  std::vector<std::vector<std::int64_t>> matrix;
  if (counts_.empty()) return matrix;
  const auto n = static_cast<std::ptrdiff_t>(num_classes_);
  for (std::ptrdiff_t row = 0; row < n; ++row) matrix.emplace_back(counts_.begin() + row * n, counts_.begin() + (row + 1) * n);
  return matrix;
}

Registry<MetricFactory>& metric_registry() {
  static Registry<MetricFactory>* const registry = [] {
    auto* metrics = new Registry<MetricFactory>("metric");
    metrics->add("classification", [] { return std::make_shared<ClassificationMetric>(); });
    return metrics;
  }();
  return *registry;
}

void register_metric(const std::string& name, MetricFactory factory) { metric_registry().add(name, std::move(factory)); }

}  // namespace oumi
