#include "oumi/distributed/fsdp_wrap.h"

#include <algorithm>
#include <map>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/tensors/class_name.h"

namespace oumi {
namespace {

using Owners = std::map<const c10::TensorImpl*, std::size_t>;  // unit of each parameter

// The unit of the module around `name`: the longest unit name that is a prefix of it.
std::size_t unit_around(const std::string& name, const std::vector<WrappedUnit>& units) {
  std::size_t best = units.size() - 1;  // the model
  for (std::size_t i = 0; i + 1 < units.size(); ++i) {
    const std::string& unit = units[i].name;
    if (name.starts_with(unit + ".") && unit.size() >= units[best].name.size()) best = i;
  }
  return best;
}

// Recipes name Transformers' classes: LlamaDecoderLayer and its like are our DecoderLayer.
bool names_class(const std::string& wanted, const std::string& name) {
  return wanted == name || (name == "DecoderLayer" && wanted.ends_with(name));
}

std::vector<WrappedUnit> units_by_class(Module& model, const std::vector<std::string>& classes) {
  std::vector<WrappedUnit> units;
  std::set<std::string> found, present;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    const torch::nn::Module& plain = *item.value();
    const std::string name = class_name(typeid(plain));
    auto* module = dynamic_cast<Module*>(item.value().get());
    if (module != nullptr) present.insert(name);
    const auto wanted =
        std::find_if(classes.begin(), classes.end(), [&](const std::string& text) { return names_class(text, name); });
    if (wanted == classes.end()) continue;
    if (module == nullptr) {
      throw UserError(
          "fsdp.transformer_layer_cls",
          name + " is a plain torch module, which has no call path: expected a class that derives from oumi::Module",
          "derive it from oumi::Module, and its holder from OUMI_MODULE");
    }
    found.insert(*wanted);
    units.push_back({.name = item.key(), .module = module});
  }
  for (const std::string& wanted : classes) {
    if (found.contains(wanted)) continue;
    throw UserError("fsdp.transformer_layer_cls", "expected the class of a module of this model, got " + wanted,
                    suggestion(wanted, {present.begin(), present.end()}));
  }
  return units;
}

// PyTorch's size_based_auto_wrap_policy: bottom up, modules with that many parameters of their own that no unit has yet.
std::vector<WrappedUnit> units_by_size(Module& model, std::int64_t min_num_params) {
  const auto items = model.named_modules("", /*include_self=*/false).pairs();
  std::vector<WrappedUnit> units;
  std::set<const c10::TensorImpl*> taken;
  // Children come after their parents in this list.
  for (auto item = items.rbegin(); item != items.rend(); ++item) {
    auto* module = dynamic_cast<Module*>(item->second.get());
    if (module == nullptr) continue;
    std::int64_t size = 0;
    std::set<const c10::TensorImpl*> own;
    for (const Tensor& parameter : module->parameters()) {
      if (!taken.contains(parameter.unsafeGetTensorImpl()) && own.insert(parameter.unsafeGetTensorImpl()).second)
        size += parameter.numel();
    }
    if (size < min_num_params) continue;
    taken.insert(own.begin(), own.end());
    units.push_back({.name = item->first, .module = module});
  }
  return units;
}

}  // namespace

std::vector<WrappedUnit> find_units(Module& model, const std::vector<std::pair<std::string, Tensor>>& parameters,
                                    const ShardingOptions& options, const std::set<std::string>& shared) {
  std::vector<WrappedUnit> units;
  if (!options.wrap_classes.empty()) {
    units = units_by_class(model, options.wrap_classes);
  } else if (options.min_num_params > 0) {
    units = units_by_size(model, options.min_num_params);
  }
  units.push_back({.name = "", .module = &model});

  Owners owners;
  for (const auto& item : model.named_parameters()) {
    const std::size_t unit = unit_around(item.key(), units);
    const auto [entry, is_new] = owners.emplace(item.value().unsafeGetTensorImpl(), unit);
    if ((!is_new && entry->second != unit) || shared.contains(item.key())) entry->second = units.size() - 1;
  }
  for (std::size_t i = 0; i < parameters.size(); ++i)
    units[owners.at(parameters[i].second.unsafeGetTensorImpl())].parameters.push_back(i);
  std::erase_if(units, [](const WrappedUnit& unit) { return unit.parameters.empty() && !unit.name.empty(); });
  return units;
}

}  // namespace oumi
