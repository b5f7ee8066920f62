#include "oumi/data/collate.h"

#include <ATen/ops/stack.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

Batch default_collate(const std::vector<Sample>& samples) {
  Batch batch;
  if (samples.empty()) return batch;
  const Sample& first = samples.front();
  for (const Sample& sample : samples) {
    if (sample.size() != first.size()) {
      throw UserError("collate", cat("samples of one batch have different fields: expected [", join(first.names(), ", "),
                                     "], got [", join(sample.names(), ", "), "]"));
    }
  }
  std::vector<Tensor> column(samples.size());
  for (const auto& [name, prototype] : first) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const Tensor& value = samples[i].at(name);
      if (value.sizes() != prototype.sizes() || value.scalar_type() != prototype.scalar_type()) {
        throw UserError(
            "collate." + name,
            cat("samples of one batch differ: expected ", prototype.sizes(), " ", prototype.scalar_type(),
                " as in its first sample, got ", value.sizes(), " ", value.scalar_type(), " in sample ", i, " of the batch"),
            "resize or crop to one size, or use a padding collator");
      }
      column[i] = value;
    }
    batch.set(name, at::stack(column));
  }
  return batch;
}

}  // namespace oumi
