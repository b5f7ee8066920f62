#include "oumi/trainer/token_counts.h"

#include <ATen/ops/eq.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/ne.h>

#include <algorithm>

namespace oumi {

std::int64_t count_tokens(const Batch& batch) {
  if (const Tensor* segments = batch.find("segment_ids")) return segments->ge(0).sum().item<std::int64_t>();
  if (const Tensor* mask = batch.find("attention_mask")) return mask->sum().item<std::int64_t>();
  if (const Tensor* ids = batch.find("input_ids")) return ids->numel();
  return 0;
}

std::int64_t count_predicted_tokens(const std::vector<Batch>& batches) {
  std::int64_t count = 0;
  for (const Batch& batch : batches) {
    const Tensor* shifted = batch.find("shift_labels");
    const Tensor* labels = shifted == nullptr ? batch.find("labels") : shifted;
    if (labels == nullptr) continue;
    if (shifted != nullptr || labels->dim() == 0) {
      count += labels->ne(-100).sum().item<std::int64_t>();
      continue;
    }
    const std::int64_t length = std::max<std::int64_t>(labels->size(-1) - 1, 0);
    Tensor counted = labels->narrow(-1, labels->size(-1) - length, length).ne(-100);
    if (const Tensor* segments = batch.find("segment_ids"))
      counted =
          counted.logical_and(segments->narrow(-1, segments->size(-1) - length, length) == segments->narrow(-1, 0, length));
    count += counted.sum().item<std::int64_t>();
  }
  return count;
}

}  // namespace oumi
