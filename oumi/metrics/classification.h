// Accuracy, F1 and the confusion matrix of a classifier, per sample or per token.
#pragma once

#include "oumi/metrics/metric.h"

namespace oumi {

// Takes outputs.logits() [*, num_classes] against batch "labels" [*] (int64); labels of -100 do not count. Batches without
// labels, or whose logits have another shape, are passed over. compute(): "accuracy" and "f1" (macro: the mean over the
// classes that occur as label or prediction, as scikit-learn's f1_score(average="macro")); empty before the first label.
class ClassificationMetric : public Metric {
 public:
  void reset() override;
  void update(const Outputs& outputs, const Batch& batch) override;
  MetricValues compute() const override;
  std::optional<Json> counts() const override;
  void merge(const Json& counts) override;

  // counts[label][prediction]; empty when there are more than kMaxClasses classes (a vocabulary, not a classifier).
  std::vector<std::vector<std::int64_t>> confusion_matrix() const;
  static constexpr std::int64_t kMaxClasses = 1000;

 private:
  std::int64_t num_classes_ = 0, correct_ = 0, total_ = 0;
  std::vector<std::int64_t> counts_;  // [num_classes, num_classes], row = label
};

}  // namespace oumi
