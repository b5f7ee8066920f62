// What every model derives from: forward takes the batch and returns a dict-like of outputs and, when labels are given, a
// loss computed through criterion().
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "oumi/base/kwargs.h"
#include "oumi/models/deferred_weights.h"
#include "oumi/models/weight_source.h"
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

  // --- a model that no rank has whole: for training with sharded weights ---
  // Its weights are made when they are taken or made, not before.
  void defer_weights(std::shared_ptr<DeferredWeights> weights) { deferred_ = std::move(weights); }
  bool weights_deferred() const noexcept { return deferred_ != nullptr; }
  // Whether this parameter's value is still to be made.
  bool is_deferred(const std::string& parameter) const { return deferred_ && deferred_->has(parameter); }
  // DeferredWeights::take, once.
  void take_deferred_weights(const TakeWeight& take);
  // Into the parameters.
  void make_deferred_weights();
  // The weights of a folder instead, parameter by parameter; buffers are set.
  virtual void take_weights_of(const std::filesystem::path& directory, const TakeWeight& take);
  // While set, save_pretrained writes from it.
  void set_weight_source(std::shared_ptr<WeightSource> source) { weight_source_ = std::move(source); }
  // Whether files are written and read as above, and so can be without the whole model: make_model sees it by the class.
  bool has_standard_files() const noexcept { return has_standard_files_; }
  void set_standard_files(bool standard) { has_standard_files_ = standard; }

  // The settings of the adapters on this model (adapters/adapters.h puts them on); null when there are none.
  const std::shared_ptr<const LoraConfig>& adapter() const noexcept { return adapter_; }
  void set_adapter(std::shared_ptr<const LoraConfig> adapter) { adapter_ = std::move(adapter); }

 protected:
  const std::shared_ptr<WeightSource>& weight_source() const noexcept { return weight_source_; }

 private:
  std::string model_type_;
  Kwargs init_kwargs_;
  std::shared_ptr<const LoraConfig> adapter_;
  std::shared_ptr<DeferredWeights> deferred_;
  std::shared_ptr<WeightSource> weight_source_;
  bool has_standard_files_ = false;
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

// A class that overrides neither of Model's two functions about files.
template <class T>
concept LeavesFilesToModel = requires {
  requires std::is_same_v<decltype(&T::save_pretrained), decltype(&Model::save_pretrained)>;
  requires std::is_same_v<decltype(&T::load_weights_from), decltype(&Model::load_weights_from)>;
};

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
  model->set_standard_files(LeavesFilesToModel<T>);
  return model;
}

}  // namespace oumi
