#include "oumi/tensors/batch.h"

#include <ATen/Functions.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {
bool is_loss_name(const std::string& name) { return name.size() >= 4 && name.compare(name.size() - 4, 4, "loss") == 0; }
}  // namespace

Batch Batch::to(c10::Device device, bool non_blocking) const {
  Batch moved = *this;
  moved.move_to(device, non_blocking);
  return moved;
}

Batch Batch::pin_memory() const {
  Batch pinned = *this;
  pinned.pin();
  return pinned;
}

std::int64_t Batch::batch_size() const {
  for (const auto& [name, tensor] : *this) {
    if (tensor.defined() && tensor.dim() > 0) return tensor.size(0);
  }
  return 0;
}

Outputs Outputs::from_tuple(std::vector<Tensor> values, bool first_is_loss) {
  Outputs outputs;
  int position = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i == 0 && first_is_loss) {
      outputs.set("loss", std::move(values[i]));
    } else {
      outputs.set(position == 0 ? "outputs" : cat("output_", position), std::move(values[i]));
      ++position;
    }
  }
  return outputs;
}

bool Outputs::has_loss() const {
  const Tensor* loss = find("loss");
  return loss != nullptr && loss->defined();
}

const Tensor& Outputs::loss() const {
  const Tensor* loss = find("loss");
  if (loss != nullptr && loss->defined()) return *loss;
  throw UserError("model", "returned no loss: expected an output named 'loss', got [" + join(names(), ", ") + "]",
                  "give the batch labels, and have forward compute criterion()(outputs, labels) when they are there");
}

const Tensor& Outputs::logits() const {
  for (const char* usual : {"logits", "outputs"}) {
    const Tensor* found = find(usual);
    if (found != nullptr && found->defined()) return *found;
  }
  for (const auto& [name, tensor] : *this) {
    if (!is_loss_name(name) && tensor.defined()) return tensor;
  }
  throw UserError("model",
                  "returned no output beside the loss: expected 'logits' or 'outputs', got [" + join(names(), ", ") + "]");
}

std::vector<TensorDict::Entry> Outputs::auxiliary_losses() const {
  std::vector<Entry> losses;
  for (const Entry& entry : *this) {
    if (entry.first != "loss" && is_loss_name(entry.first) && entry.second.defined() && entry.second.numel() == 1)
      losses.push_back(entry);
  }
  return losses;
}

}  // namespace oumi
