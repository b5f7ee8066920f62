// A plain torch::nn::Module as a Model, in one line:
//   auto model = oumi::adapt(std::make_shared<Net>(), {.inputs = {"images"}});
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/models/model.h"

namespace oumi {

struct AdaptOptions {
  std::vector<std::string> inputs;  // the batch's fields that become forward's arguments, in order
  std::string labels = "labels";    // the field that the criterion takes
  Criterion criterion = {};         // default: mean cross entropy
};

namespace detail {

template <class F>
struct ForwardTraits;
template <class R, class C, class... Args>
struct ForwardTraits<R (C::*)(Args...)> {
  using Result = std::decay_t<R>;
  static constexpr std::size_t kArity = sizeof...(Args);
};
template <class R, class C, class... Args>
struct ForwardTraits<R (C::*)(Args...) const> : ForwardTraits<R (C::*)(Args...)> {};

inline std::vector<Tensor> to_vector(Tensor tensor) { return {std::move(tensor)}; }
inline std::vector<Tensor> to_vector(std::vector<Tensor> tensors) { return tensors; }
template <class... Ts>
std::vector<Tensor> to_vector(std::tuple<Ts...> tensors) {
  return std::apply([](auto&... tensor) { return std::vector<Tensor>{std::move(tensor)...}; }, tensors);
}

}  // namespace detail

// The adapted module's children, parameters and buffers are the model's own, so state-dict keys carry no prefix. It counts
// as one unit: torch's modules have no call path, so hooks act on the whole.
template <class M>
class AdaptedModule : public Model {
 public:
  using Traits = detail::ForwardTraits<decltype(&M::forward)>;

  AdaptedModule(std::shared_ptr<M> module, AdaptOptions options) : module_(std::move(module)), options_(std::move(options)) {
    if (options_.inputs.size() != Traits::kArity) {
      throw UserError("adapt", cat("forward takes ", Traits::kArity, " tensors: expected as many input names, got ",
                                   options_.inputs.size()));
    }
    for (const auto& item : module_->named_parameters(false))
      register_parameter(item.key(), item.value(), item.value().requires_grad());
    for (const auto& item : module_->named_buffers(false)) register_buffer(item.key(), item.value());
    for (const auto& item : module_->named_children()) register_module(item.key(), item.value());
  }

  Outputs forward(const Batch& batch) override {
    std::vector<Tensor> results = detail::to_vector(forward_all(batch, std::make_index_sequence<Traits::kArity>{}));
    Outputs outputs = Outputs::from_tuple(std::move(results), /*first_is_loss=*/false);
    if (const Tensor* labels = batch.find(options_.labels)) outputs.set("loss", criterion()(outputs.logits(), *labels));
    return outputs;
  }

  Criterion criterion() const override { return options_.criterion ? options_.criterion : Model::criterion(); }

  void train(bool on = true) override {
    Model::train(on);
    module_->train(on);
  }

 private:
  template <std::size_t... I>
  auto forward_all(const Batch& batch, std::index_sequence<I...>) {
    return module_->forward(batch.at(options_.inputs[I])...);
  }

  std::shared_ptr<M> module_;
  AdaptOptions options_;
};

// Also takes a torch holder (`Net net; adapt(net.ptr(), ...)`).
template <class M>
std::shared_ptr<Model> adapt(std::shared_ptr<M> module, AdaptOptions options) {
  auto model = std::make_shared<AdaptedModule<M>>(std::move(module), std::move(options));
  model->set_identity(class_name(typeid(M)), {});
  model->set_standard_files(true);
  return model;
}

}  // namespace oumi
