#include "oumi/trainer/label_check.h"

#include <c10/core/GradMode.h>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::int64_t kIgnored = -100;

// 0 when the model gives no classes for these labels.
std::int64_t count_classes(Model& model, const Batch& batch, const Tensor& labels) {
  try {
    const c10::AutoGradMode no_grad(false);
    Batch unlabelled;
    for (const auto& [name, tensor] : batch) {
      if (name != "labels") unlabelled[name] = tensor;
    }
    unlabelled.sample_ids = batch.sample_ids;
    const Tensor logits = model(unlabelled).logits();
    return logits.dim() == labels.dim() + 1 ? logits.size(-1) : 0;
  } catch (const std::exception&) {
    return 0;  // the model fails by itself: not the labels' fault
  }
}

}  // namespace

std::string describe_bad_label(Model& model, const Batch& batch) {
  const Tensor* found = batch.find("labels");
  if (found == nullptr || !at::isIntegralType(found->scalar_type(), /*includeBool=*/false) || found->dim() == 0) return "";
  const std::int64_t num_classes = count_classes(model, batch, *found);
  if (num_classes == 0) return "";
  const Tensor labels = found->cpu().to(at::kLong).contiguous();
  const std::int64_t per_sample = labels.numel() / std::max<std::int64_t>(labels.size(0), 1);
  const auto* values = labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < labels.numel(); ++i) {
    if (values[i] == kIgnored || (values[i] >= 0 && values[i] < num_classes)) continue;
    const auto row = static_cast<std::size_t>(i / per_sample);
    const std::string sample =
        row < batch.sample_ids.size() ? cat("sample ", batch.sample_ids[row]) : cat("the batch's sample ", row);
    const std::string place = per_sample > 1 ? cat(", position ", i % per_sample) : "";
    return cat(sample, place, ": expected a label of 0 to ", num_classes - 1, ", or ", kIgnored, " to leave it out, got ",
               values[i]);
  }
  return "";
}

}  // namespace oumi
