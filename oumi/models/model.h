// What every model derives from: forward takes the batch and returns a dict-like of outputs and, when labels are given, a
// loss computed through criterion().
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "oumi/base/kwargs.h"
#include "oumi/tensors/class_name.h"
#include "oumi/tensors/module.h"

namespace oumi {

struct LoraConfig;

// (outputs, labels) -> scalar loss.
using Criterion = std::function<Tensor(const Tensor& outputs, const Tensor& labels)>;

// The constructor takes free-form Kwargs, builds the scaffold, loads no weights and moves to no device. forward takes
// everything that the loader yields, ignores what it does not know, and works without labels.
class Model : public Module {
 public:
  virtual Outputs forward(const Batch& batch) = 0;

  // The loss function, as the page has it: `criterion()(outputs, labels)`. Default: mean cross entropy, labels of -100
  // ignored.
  virtual Criterion criterion() const;

  // forward through the call path: hooks run and errors name the module. The trainer calls models this way.
  Outputs operator()(const Batch& batch);

  // True for models whose loss is a sum over tokens divided by batch-wide counts that the trainer supplies.
  virtual bool accepts_num_items_in_batch() const { return false; }

  // Name under which a saved folder finds its class again (config.json "model_type"), and the arguments it was built with.
  const std::string& model_type() const noexcept { return model_type_; }
  const Kwargs& init_kwargs() const noexcept { return init_kwargs_; }
  // Called by make_model and the registry right after construction.
  void set_identity(std::string model_type, Kwargs init_kwargs);

  // Writes model.safetensors and config.json {model_type, init_kwargs, oumi_version} into `directory`, the layout that Oumi's
  // BaseModel reads and writes. Throws EnvironmentError.
  virtual void save_pretrained(const std::filesystem::path& directory) const;

  // Copies the weights of a folder that save_pretrained wrote (or one like it) into this model. Missing and unexpected tensors
  // are errors. Throws UserError.
  virtual void load_weights_from(const std::filesystem::path& directory);

  // The settings of the adapters on this model (adapters/adapters.h puts them on); null when there are none.
  const std::shared_ptr<const LoraConfig>& adapter() const noexcept { return adapter_; }
  void set_adapter(std::shared_ptr<const LoraConfig> adapter) { adapter_ = std::move(adapter); }

 private:
  std::string model_type_;
  Kwargs init_kwargs_;
  std::shared_ptr<const LoraConfig> adapter_;
};

using ModelPtr = std::shared_ptr<Model>;

// A saved folder's "model_type": T::kModelType where the class is another's by another spelling, else the class's own name.
template <class T>
std::string model_type_name() {
  if constexpr (requires { T::kModelType; }) {
    return T::kModelType;
  } else {
    return class_name(typeid(T));
  }
}

// Builds a model of class T; every key of `kwargs` that T's constructor did not read is an error. T takes `const Kwargs&`
// or nothing.
template <class T>
std::shared_ptr<T> make_model(Kwargs kwargs = {}) {
  std::shared_ptr<T> model;
  if constexpr (std::is_constructible_v<T, const Kwargs&>) {
    model = std::make_shared<T>(static_cast<const Kwargs&>(kwargs));
  } else {
    model = std::make_shared<T>();
  }
  kwargs.check_all_read();
  model->set_identity(model_type_name<T>(), std::move(kwargs));
  return model;
}

}  // namespace oumi
