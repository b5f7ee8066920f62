// A model whose weights are made one by one, for ranks that keep parts of them.
#include "oumi/models/deferred_weights.h"

#include <ATen/Context.h>
#include <c10/core/GradMode.h>

#include <unordered_map>

#include "oumi/checkpoint/rng_state.h"
#include "oumi/models/language_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/state.h"
#include "oumi/models/tensor_parallel_state.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {
namespace fs = std::filesystem;

void Model::take_deferred_weights(const TakeWeight& take) { std::exchange(deferred_, nullptr)->take(take); }

void Model::make_deferred_weights() {
  const StateDict own = state_dict(*this);
  const c10::AutoGradMode no_grad(false);
  take_deferred_weights([&](const std::string& name, const Tensor& value) { Tensor(own.at(name)).copy_(value); });
}

void Model::take_weights_of(const fs::path& directory, const TakeWeight& take) {
  deferred_.reset();
  const StateDict weights = load_weights(directory);
  compare_state_dict(*this, weights, /*strict=*/true, directory.string());
  const c10::AutoGradMode no_grad(false);
  for (const auto& item : named_buffers()) {
    if (item.value().defined()) Tensor(item.value()).copy_(weights.at(item.key()));
  }
  for (const auto& [name, parameter] : unique_named_parameters(*this)) take(name, weights.at(name));
}

class LanguageModel::ToCome final : public DeferredWeights {
 public:
  ToCome(LanguageModel& model, WeightsToCome weights) : model_(model), weights_(std::move(weights)) {}

  bool has(const std::string&) const override { return true; }

  void take(const TakeWeight& take) override {
    if (weights_.files) return model_.take_state_dict(*weights_.files, weights_.origin, take);
    std::unordered_map<const void*, std::string> names;
    for (const auto& item : model_.named_parameters()) names.emplace(item.value().unsafeGetTensorImpl(), item.key());
    const Tensor rng_now = cpu_rng_state();
    restore_cpu_rng_state(weights_.rng_state);
    {
      const nn::InitialValues values(weights_.dtype, [&](const Tensor& parameter, const Tensor& value) {
        take(names.at(parameter.unsafeGetTensorImpl()), value);
      });
      model_.initialize_weights();
    }
    restore_cpu_rng_state(rng_now);
  }

 private:
  LanguageModel& model_;  // whose this is
  WeightsToCome weights_;
};

void LanguageModel::defer_weights(WeightsToCome weights) {
  Model::defer_weights(std::make_shared<ToCome>(*this, std::move(weights)));
}

void LanguageModel::take_state_dict(const StateDict& weights, const std::string& origin, const TakeWeight& take) {
  const StateDict whole = from_hf_state_dict(weights, origin);
  const StateDict own = tensor_parallel() ? own_parts(*this, whole, origin) : whole;
  compare_state_dict(*this, own, /*strict=*/true, origin);
  for (const auto& [name, tensor] : own) take(name, tensor);
}

void LanguageModel::take_weights_of(const fs::path& directory, const TakeWeight& take) {
  Model::defer_weights(nullptr);
  take_state_dict(load_language_weights(directory), directory.string(), take);
}

}  // namespace oumi
