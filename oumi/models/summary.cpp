#include "oumi/models/summary.h"

#include "oumi/base/strings.h"
#include "oumi/tensors/class_name.h"

namespace oumi {
namespace {

std::string with_separators(std::int64_t value) {
  std::string text = cat(value);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), 1, ',');
  return text;
}

void describe(const torch::nn::Module& module, const std::string& name, std::size_t depth, std::string& out) {
  std::int64_t all = 0, trained = 0;
  for (const at::Tensor& parameter : module.parameters()) {
    all += parameter.numel();
    if (parameter.requires_grad()) trained += parameter.numel();
  }
  if (depth > 0 && all == 0) return;  // activations, dropout: nothing to count
  out += std::string(2 * depth, ' ') + (name.empty() ? "" : name + ": ") + class_name(typeid(module)) + ", " +
         with_separators(all) + " parameters";
  if (trained == 0 && all > 0) {
    out += ", frozen";
  } else if (trained < all) {
    out += ", " + with_separators(trained) + " trained";
  }
  out += '\n';
  for (const auto& child : module.named_children()) describe(*child.value(), child.key(), depth + 1, out);
}

}  // namespace

std::string model_summary(const torch::nn::Module& model) {
  std::string out;
  describe(model, "", 0, out);
  out.pop_back();
  return out;
}

}  // namespace oumi
