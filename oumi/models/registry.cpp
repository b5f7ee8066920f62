#include "oumi/models/registry.h"

#include "oumi/models/cnn_classifier/cnn_classifier.h"
#include "oumi/models/mlp_encoder/mlp_encoder.h"
#include "oumi/models/simple_model/simple_model.h"

namespace oumi {
namespace {

template <class T>
void add(Registry<ModelFactory>& registry) {
  registry.add(class_name(typeid(T)), [](const Kwargs& kwargs) -> ModelPtr { return make_model<T>(kwargs); });
}

}  // namespace

Registry<ModelFactory>& model_registry() {
  static Registry<ModelFactory>* const registry = [] {
    auto* models = new Registry<ModelFactory>("model");  // never destroyed: plug-ins may outlive static objects
    add<SimpleModel>(*models);
    add<CnnClassifier>(*models);
    add<MlpEncoder>(*models);
    return models;
  }();
  return *registry;
}

ModelPtr create_model(const std::string& name, const Kwargs& kwargs, const std::string& key) {
  return model_registry().at(name, key)(kwargs);
}

}  // namespace oumi
