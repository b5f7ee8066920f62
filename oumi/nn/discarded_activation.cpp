#include "oumi/nn/discarded_activation.h"

#include <c10/core/GradMode.h>
#include <torch/types.h>

#include <memory>

namespace oumi::nn {
namespace {

// The contents of an activation's memory, which the tensors that autograd has saved share.
struct Discarded {
  c10::Storage storage;
  std::function<Tensor()> remake;
};

void refill(Discarded& discarded) {
  const c10::AutoGradMode no_grad(false);
  const Tensor made = discarded.remake();
  c10::StorageImpl &from = *made.storage().unsafeGetStorageImpl(), &to = *discarded.storage.unsafeGetStorageImpl();
  to.set_data_ptr_noswap(from.set_data_ptr(c10::DataPtr(nullptr, from.device())));
  to.set_nbytes(from.nbytes());
  from.set_nbytes(0);
}

}  // namespace

bool is_kept_for_backward(const Tensor& activation, const Tensor& result) {
  if (!c10::GradMode::is_enabled() || !result.requires_grad() || result.is_leaf() || !activation.has_storage()) return false;
  const c10::Storage& storage = activation.storage();
  const bool whole = activation.is_contiguous() && activation.storage_offset() == 0 && storage.nbytes() == activation.nbytes();
  return whole && storage.nbytes() > 0 && (activation.use_count() > 1 || storage.use_count() > 1);
}

void discard_until_backward(const Tensor& activation, const Tensor& result, std::function<Tensor()> remake) {
  const auto discarded = std::make_shared<Discarded>(activation.storage(), std::move(remake));
  c10::StorageImpl& storage = *activation.storage().unsafeGetStorageImpl();
  storage.set_data_ptr_noswap(c10::DataPtr(nullptr, storage.device()));
  storage.set_nbytes(0);
  // A second backward pass through a kept graph finds the memory filled.
  result.register_hook([discarded](const Tensor&) {
    if (discarded->remake) refill(*discarded);
    *discarded = {};
  });
}

bool has_call_hooks(const torch::nn::Module& module) {
  if (const auto* ours = dynamic_cast<const Module*>(&module); ours != nullptr && !ours->call_hooks().empty()) return true;
  for (const auto& child : module.children()) {
    if (has_call_hooks(*child)) return true;
  }
  return false;
}

}  // namespace oumi::nn
