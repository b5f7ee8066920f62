#include "oumi/models/tensor_parallel_state.h"

#include <ATen/ops/empty.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/models/state.h"
#include "oumi/nn/parallel_layers.h"

namespace oumi {
namespace {

constexpr const char* kNaming = "asking for a parameter's parts";

// The tensors that a module has.
class ModuleWeights final : public WeightSource {
 public:
  explicit ModuleWeights(const torch::nn::Module& model) : weights_(state_dict(model)) {}
  const StateDict& shapes() const override { return weights_; }
  Tensor gather(const std::string& name) override { return weights_.at(name); }

 private:
  StateDict weights_;
};

std::shared_ptr<WeightSource> or_of_module(std::shared_ptr<WeightSource> source, const torch::nn::Module& model) {
  return source ? std::move(source) : std::make_shared<ModuleWeights>(model);
}

}  // namespace

std::map<std::string, TensorSplit> tensor_splits(const torch::nn::Module& model) {
  std::map<std::string, TensorSplit> splits;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const auto* layer = dynamic_cast<const nn::SplitLayer*>(item.value().get());
    if (layer == nullptr) continue;
    for (const auto& parameter : item.value()->named_parameters(/*recurse=*/false)) {
      if (const TensorSplit* split = layer->split_of(parameter.key())) splits[item.key() + "." + parameter.key()] = *split;
    }
  }
  return splits;
}

StateDict own_parts(const torch::nn::Module& model, const StateDict& whole, const std::string& origin) {
  StateDict parts = whole;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const auto* layer = dynamic_cast<const nn::SplitLayer*>(item.value().get());
    if (layer == nullptr) continue;
    for (const auto& parameter : item.value()->named_parameters(/*recurse=*/false)) {
      const std::string name = item.key() + "." + parameter.key();
      const TensorSplit* split = layer->split_of(parameter.key());
      const Tensor* tensor = whole.find(name);
      if (split == nullptr || tensor == nullptr) continue;
      const std::vector<std::int64_t> expected = split->whole_shape(parameter.value().sizes());
      if (tensor->sizes() != c10::IntArrayRef(expected)) {
        throw UserError(origin,
                        cat("tensor '", name, "' does not fit the model: expected shape ", c10::IntArrayRef(expected), ", got ",
                            tensor->sizes()),
                        "build the model with the arguments that it was saved with (model.model_kwargs)");
      }
      parts.set(name, split->slice(*tensor, layer->parallel().rank(), layer->parallel().size()));
    }
  }
  return parts;
}

WholeWeights::WholeWeights(const torch::nn::Module& model, const TensorParallel& parallel, std::shared_ptr<WeightSource> own)
    : parallel_(parallel), own_(or_of_module(std::move(own), model)), splits_(tensor_splits(model)) {
  for (const auto& [name, tensor] : own_->shapes()) {
    const auto split = splits_.find(name);
    shapes_.set(name, split == splits_.end() ? tensor
                                             : at::empty(split->second.whole_shape(tensor.sizes()),
                                                         tensor.options().device(at::kMeta).requires_grad(false)));
  }
}

WholeWeights::~WholeWeights() {
  try {
    parallel_.group().broadcast_text("", kNaming);
  } catch (const std::exception&) {
    // The other ranks are gone, and what comes next says so.
  }
}

Tensor WholeWeights::gather(const std::string& name) {
  const auto split = splits_.find(name);
  if (split == splits_.end()) return own_->gather(name);
  parallel_.group().broadcast_text(name, kNaming);
  return parallel_.gather(own_->gather(name), split->second);
}

void send_parts(const torch::nn::Module& model, const TensorParallel& parallel, std::shared_ptr<WeightSource> own) {
  own = or_of_module(std::move(own), model);
  const std::map<std::string, TensorSplit> splits = tensor_splits(model);
  while (true) {
    const std::string name = parallel.group().broadcast_text("", kNaming);
    if (name.empty()) return;
    parallel.gather(own->gather(name), splits.at(name));
  }
}

}  // namespace oumi
