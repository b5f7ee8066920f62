// A language model whose weights are made one by one, for ranks that keep parts of them.
#include <ATen/Context.h>
#include <c10/core/GradMode.h>

#include <unordered_map>

#include "oumi/checkpoint/rng_state.h"
#include "oumi/models/language_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/state.h"
#include "oumi/models/tensor_parallel_state.h"
#include "oumi/nn/parallel_layers.h"

namespace oumi {
namespace fs = std::filesystem;

void LanguageModel::take_state_dict(const StateDict& weights, const std::string& origin, const TakeWeight& take) {
  const StateDict whole = from_hf_state_dict(weights, origin);
  const StateDict own = tensor_parallel_ ? own_parts(*this, whole, origin) : whole;
  compare_state_dict(*this, own, /*strict=*/true, origin);
  for (const auto& [name, tensor] : own) take(name, tensor);
}

void LanguageModel::take_deferred_weights(const TakeWeight& take) {
  const DeferredWeights deferred = *std::exchange(deferred_, std::nullopt);
  if (deferred.files) return take_state_dict(*deferred.files, deferred.origin, take);
  std::unordered_map<const void*, std::string> names;
  for (const auto& item : named_parameters()) names.emplace(item.value().unsafeGetTensorImpl(), item.key());
  const Tensor rng_now = cpu_rng_state();
  restore_cpu_rng_state(deferred.rng_state);
  {
    const nn::InitialValues values(deferred.dtype, [&](const Tensor& parameter, const Tensor& value) {
      take(names.at(parameter.unsafeGetTensorImpl()), value);
    });
    initialize_weights();
  }
  restore_cpu_rng_state(rng_now);
}

void LanguageModel::take_weights_of(const fs::path& directory, const TakeWeight& take) {
  deferred_.reset();
  take_state_dict(load_language_weights(directory), directory.string(), take);
}

void LanguageModel::make_deferred_weights() {
  const StateDict own = state_dict(*this);
  const c10::AutoGradMode no_grad(false);
  take_deferred_weights([&](const std::string& name, const Tensor& value) { Tensor(own.at(name)).copy_(value); });
}

}  // namespace oumi
