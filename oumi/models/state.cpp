#include "oumi/models/state.h"

#include <c10/core/GradMode.h>

#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

void collect(const torch::nn::Module& module, const std::string& prefix, StateDict& state) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) state.set(prefix + item.key(), item.value());
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    if (item.value().defined()) state.set(prefix + item.key(), item.value());
  }
  for (const auto& child : module.named_children()) collect(*child.value(), prefix + child.key() + ".", state);
}

std::string list_some(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  if (names.size() <= kShown) return join(names, ", ");
  return join({names.begin(), names.begin() + kShown}, ", ") + cat(" and ", names.size() - kShown, " more");
}

}  // namespace

StateDict state_dict(const torch::nn::Module& module) {
  StateDict state;
  collect(module, "", state);
  return state;
}

LoadReport compare_state_dict(const torch::nn::Module& module, const StateDict& state, bool strict, const std::string& origin) {
  const StateDict own = state_dict(module);
  LoadReport report;
  for (const auto& [name, target] : own) {
    const Tensor* source = state.find(name);
    if (source == nullptr) {
      report.missing.push_back(name);
    } else if (source->sizes() != target.sizes()) {
      throw UserError(
          origin, cat("tensor '", name, "' does not fit the model: expected shape ", target.sizes(), ", got ", source->sizes()),
          "build the model with the arguments that it was saved with (model.model_kwargs)");
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!own.contains(name)) report.unexpected.push_back(name);
  }
  if (strict && (!report.missing.empty() || !report.unexpected.empty())) {
    std::vector<std::string> parts;
    if (!report.missing.empty()) parts.push_back("missing: " + list_some(report.missing));
    if (!report.unexpected.empty()) parts.push_back("unexpected: " + list_some(report.unexpected));
    throw UserError(origin, "its tensors are not the model's: " + join(parts, "; "),
                    "is this the right model class for these weights?");
  }
  return report;
}

LoadReport load_state_dict(torch::nn::Module& module, const StateDict& state, bool strict, const std::string& origin) {
  LoadReport report = compare_state_dict(module, state, strict, origin);
  const c10::AutoGradMode no_grad(false);
  for (const auto& [name, target] : state_dict(module)) {
    if (const Tensor* source = state.find(name)) target.copy_(*source);
  }
  return report;
}

}  // namespace oumi
