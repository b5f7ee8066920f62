// Metrics that are fed batch by batch and keep O(1) state: evaluation never holds the logits of a whole set.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/base/registry.h"
#include "oumi/tensors/batch.h"

namespace oumi {

// Name and value, e.g. {"accuracy", 0.91}.
using MetricValues = std::vector<std::pair<std::string, double>>;

class Metric {
 public:
  virtual ~Metric() = default;
  virtual void reset() = 0;
  // Called under no-grad with the model's outputs and the batch that they belong to.
  virtual void update(const Outputs& outputs, const Batch& batch) = 0;
  virtual MetricValues compute() const = 0;

  // How an evaluation that is spread over ranks comes together: the counts so far as plain values, and adding another rank's.
  // A metric without them (the default) makes every rank evaluate the whole set.
  virtual std::optional<Json> counts() const { return std::nullopt; }
  virtual void merge(const Json& counts) { (void)counts; }
};

using MetricPtr = std::shared_ptr<Metric>;
using MetricFactory = std::function<MetricPtr()>;

// Metrics that `training.metrics_function` can name. Holds "classification" from the start.
Registry<MetricFactory>& metric_registry();

// Adds one, as a user's program or plug-in does. Duplicate = UserError.
void register_metric(const std::string& name, MetricFactory factory);

}  // namespace oumi
