#include "oumi/models/build_model.h"

#include <c10/core/GradMode.h>
#include <torch/types.h>

#include <algorithm>
#include <map>

#include "oumi/base/strings.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/hub/hub.h"
#include "oumi/models/init_tape.h"
#include "oumi/models/language_models.h"
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

namespace {

ModelPtr build_custom_model(const ModelParams& params, bool is_folder) {
  if (is_folder && params.load_pretrained_weights) {
    return load_pretrained(params.model_name, {.override_kwargs = Kwargs(params.model_kwargs, "model.model_kwargs")});
  }
  if (is_folder) {
    const PretrainedConfig config = read_pretrained_config(params.model_name);
    Json kwargs = config.init_kwargs;
    for (const auto& [name, value] : params.model_kwargs.items()) kwargs[name] = value;
    return create_model(config.model_type, Kwargs(std::move(kwargs), "model.model_kwargs"));
  }
  return create_model(params.model_name, Kwargs(params.model_kwargs, "model.model_kwargs"));
}

// Those of a model of one's own that its constructor has left on a tape.
class TapedWeights final : public DeferredWeights {
 public:
  // `parameters`: those that the tape can make.
  TapedWeights(std::shared_ptr<const InitTape> tape, NamedParameters parameters)
      : tape_(std::move(tape)), parameters_(std::move(parameters)) {}

  bool has(const std::string& name) const override {
    return std::any_of(parameters_.begin(), parameters_.end(), [&](const auto& parameter) { return parameter.first == name; });
  }
  void take(const TakeWeight& take) override {
    for (const auto& [name, parameter] : parameters_) take(name, tape_->value(parameter));
  }

 private:
  std::shared_ptr<const InitTape> tape_;
  NamedParameters parameters_;
};

// What `build` makes, large weights deferred where that can be.
ModelPtr build_deferred(const std::function<ModelPtr()>& build, const std::function<void(const std::string&)>& notice) {
  const Tensor rng_state = cpu_rng_state();
  const auto tape = std::make_shared<InitTape>();
  std::string reason;
  try {
    ModelPtr model;
    {
      const InitTape::Recording recording(*tape);
      model = build();
    }
    if (!model->has_standard_files()) {
      if (!tape->make_all()) throw InternalError("a weight's memory can't be followed");
      if (notice)
        notice(model->model_type() +
               " is made whole on every rank: it writes or reads files in a way of its own, or make_model did not make it");
      return model;
    }
    const NamedParameters parameters = unique_named_parameters(*model);
    std::vector<Tensor> tensors;
    for (const auto& [name, parameter] : parameters) tensors.push_back(parameter);
    const std::vector<bool> left = tape->finish(tensors);
    NamedParameters deferred;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (left[i]) deferred.push_back(parameters[i]);
    }
    if (!deferred.empty()) model->defer_weights(std::make_shared<TapedWeights>(tape, std::move(deferred)));
    return model;
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  tape->make_all();  // what outlives the attempt
  restore_cpu_rng_state(rng_state);
  const ModelPtr model = build();  // an error of its own comes again
  if (notice) notice(model->model_type() + " is made whole on every rank: " + reason.substr(0, reason.find('\n')));
  return model;
}

void require_from_scratch(const ModelParams& params, const char* kind) {
  if (!params.load_pretrained_weights) return;
  throw UserError(
      "model.model_name",
      "cannot load pretrained weights for '" + params.model_name + "': expected the folder of a saved model, got " + kind,
      "set model.load_pretrained_weights: false to train it from scratch, or give the folder");
}

[[noreturn]] void throw_unknown_model(const std::string& name) {
  std::vector<std::string> known = model_registry().names();
  for (const std::string& family : language_model_families().names()) known.push_back(family);
  const std::string near = nearest_match(name, known);
  throw UserError(
      "model.model_name",
      "unknown model '" + name + "': expected a folder with config.json, a registered name, or a name on the Hub (org/name)",
      near.empty() ? "registered: " + join(known, ", ") : "did you mean '" + near + "'?");
}

// "org/name", and the Hub's few old names without an organisation; a slip in a registered name is no name to ask the Hub for.
bool names_a_repository(const ModelParams& params) {
  const std::string& name = params.model_name;
  if (!is_hub_name(name)) return false;
  return name.find('/') != std::string::npos || name.find('-') != std::string::npos ||
         (name == "gpt2" && params.load_pretrained_weights);
}

}  // namespace

ModelPtr build_model(const ModelParams& given, const ModelBuildOptions& options) {
  ModelParams params = given;
  if (!std::filesystem::exists(params.model_name) && model_registry().find(params.model_name) == nullptr &&
      names_a_repository(params)) {
    const HubFiles files = params.load_pretrained_weights ? HubFiles::kModel : HubFiles::kConfig;
    params.model_name = resolve_model(params.model_name, params.model_revision.value_or(""), {.files = files}).string();
  }
  const std::string& name = params.model_name;
  const bool is_path = std::filesystem::exists(name);
  std::optional<c10::ScalarType> dtype;
  if (to_lower(params.torch_dtype_str) != "auto") dtype = parse_dtype(params.torch_dtype_str);
  const LanguageModelOptions language{.overrides = params.model_kwargs,
                                      .load_weights = params.load_pretrained_weights,
                                      .dtype = dtype,
                                      .tensor_parallel = options.tensor_parallel,
                                      .defer_weights = options.defer_weights};
  // Models of one's own, of the dtype that is asked for.
  const auto custom = [&](bool is_folder) {
    const auto build = [&] {
      ModelPtr model = build_custom_model(params, is_folder);
      const c10::AutoGradMode no_grad(false);
      if (dtype && !as_language_model(model) && *dtype != at::kFloat) model->to(*dtype);
      return model;
    };
    return options.defer_weights ? build_deferred(build, options.notice) : build();
  };
  ModelPtr model;
  if (is_path && is_hf_model(name)) {
    if (!std::filesystem::is_directory(name)) require_from_scratch(params, "a config file");
    model = load_language_model(name, language);
  } else if (is_path) {
    model = custom(/*is_folder=*/true);
  } else if (model_registry().find(name) != nullptr) {
    require_from_scratch(params, "a registered name");
    model = custom(/*is_folder=*/false);
  } else if (language_model_families().find(name) != nullptr) {
    require_from_scratch(params, "the name of a family");
    model = make_language_model(Json{{"model_type", language_model_families().find(name)->model_type}}, language,
                                "model.model_name");
  } else {
    throw_unknown_model(name);
  }
  if (options.tensor_parallel && !as_language_model(model)) {
    throw UserError("parallel.tensor_model_parallel_size",
                    "expected 1 for a model of your own (" + model->model_type() + "), got more",
                    "the families of language models can be spread: model.model_name");
  }
  if (!params.freeze_layers.empty()) freeze_layers(*model, params.freeze_layers);
  return model;
}

}  // namespace oumi
