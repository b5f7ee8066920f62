// Saving a model without its adapters: they are taken off for the time of the save.
#include <ATen/ops/add.h>
#include <c10/core/GradMode.h>

#include <functional>
#include <unordered_set>

#include "oumi/models/adapters/adapters.h"
#include "oumi/models/adapters/linear_layers.h"

namespace oumi {

std::vector<LinearLayer> linear_layers(const torch::nn::Module& model) {
  std::vector<LinearLayer> layers;
  std::unordered_set<const torch::nn::Module*> of_adapters;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    auto* linear = dynamic_cast<nn::LinearImpl*>(item.value().get());
    if (linear == nullptr || of_adapters.contains(linear)) continue;
    if (const nn::LoraAdapter* lora = nn::lora_of(*linear)) of_adapters.insert({lora->lora_A().get(), lora->lora_B().get()});
    layers.push_back({item.key(), linear});
  }
  return layers;
}

namespace {

// A layer as a plain dense one, with or without its adapter's update, until the end of the scope.
class DenseLayer {
 public:
  DenseLayer(nn::LinearImpl& layer, AdapterSaving how) : layer_(layer), adapter_(layer.adapter) {
    const c10::AutoGradMode no_grad(false);
    const nn::LoraAdapter* lora = nn::lora_of(layer);
    Tensor dense = adapter_->dense_weight();
    was_released_ = dense.defined();
    original_ = layer.weight;
    if (lora != nullptr && how == AdapterSaving::kMerged) {
      const Tensor& weight = was_released_ ? dense : original_;
      dense = weight + lora->delta().to(weight.scalar_type());
    }
    if (lora != nullptr) {
      layer.unregister_module("lora_A");
      layer.unregister_module("lora_B");
    }
    layer.adapter = nullptr;
    if (dense.defined()) layer.set_weight(dense);
  }

  ~DenseLayer() {
    if (was_released_) {
      layer_.release_weight();
    } else {
      layer_.set_weight(original_);
    }
    layer_.adapter = adapter_;
    if (const nn::LoraAdapter* lora = nn::lora_of(layer_)) {
      layer_.register_module("lora_A", lora->lora_A());
      layer_.register_module("lora_B", lora->lora_B());
    }
  }
  DenseLayer(const DenseLayer&) = delete;
  DenseLayer& operator=(const DenseLayer&) = delete;

 private:
  nn::LinearImpl& layer_;
  std::shared_ptr<nn::LinearAdapter> adapter_;
  Tensor original_;
  bool was_released_ = false;
};

}  // namespace

void save_base_model(Model& model, const std::filesystem::path& directory, AdapterSaving how) {
  std::vector<std::unique_ptr<DenseLayer>> dense;
  for (const LinearLayer& layer : linear_layers(model)) {
    if (layer.module->adapter) dense.push_back(std::make_unique<DenseLayer>(*layer.module, how));
  }
  model.save_pretrained(directory);
}

}  // namespace oumi
