#include "oumi/models/build_model.h"

#include <torch/types.h>

#include <map>

#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {

c10::ScalarType parse_dtype(const std::string& text) {
  static const std::map<std::string, c10::ScalarType> kNames = {
      {"auto", at::kFloat},        {"f32", at::kFloat},      {"float32", at::kFloat}, {"float", at::kFloat},
      {"f64", at::kDouble},        {"float64", at::kDouble}, {"double", at::kDouble}, {"bf16", at::kBFloat16},
      {"bfloat16", at::kBFloat16}, {"f16", at::kHalf},       {"float16", at::kHalf},  {"half", at::kHalf}};
  const auto found = kNames.find(to_lower(text));
  if (found != kNames.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, dtype] : kNames) names.push_back(name);
  throw UserError("model.torch_dtype_str", "expected a floating-point dtype, got '" + text + "'", suggestion(text, names));
}

ModelPtr build_model(const ModelParams& params) {
  const bool is_folder = std::filesystem::exists(params.model_name);
  ModelPtr model;
  if (model_registry().find(params.model_name) != nullptr && !is_folder) {
    if (params.load_pretrained_weights) {
      throw UserError("model.model_name",
                      "cannot load pretrained weights for '" + params.model_name +
                          "': expected the folder of a saved model, got a registered name",
                      "set model.load_pretrained_weights: false to train it from scratch, or give the folder");
    }
    model = create_model(params.model_name, Kwargs(params.model_kwargs, "model.model_kwargs"));
  } else if (is_folder) {
    if (params.load_pretrained_weights) {
      model = load_pretrained(params.model_name, {.override_kwargs = Kwargs(params.model_kwargs, "model.model_kwargs")});
    } else {
      const PretrainedConfig config = read_pretrained_config(params.model_name);
      Json kwargs = config.init_kwargs;
      for (const auto& [name, value] : params.model_kwargs.items()) kwargs[name] = value;
      model = create_model(config.model_type, Kwargs(std::move(kwargs), "model.model_kwargs"));
    }
  } else {
    model = create_model(params.model_name, Kwargs(params.model_kwargs, "model.model_kwargs"));  // throws with the nearest name
  }
  const c10::ScalarType dtype = parse_dtype(params.torch_dtype_str);
  if (dtype != at::kFloat) model->to(dtype);
  if (!params.freeze_layers.empty()) freeze_layers(*model, params.freeze_layers);
  return model;
}

}  // namespace oumi
