#include "oumi/trainer/trained_language_model.h"

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/models/adapters/adapters.h"
#include "oumi/models/build_model.h"
#include "oumi/models/language_models.h"
#include "oumi/models/model_location.h"
#include "oumi/text/build_tokenizer.h"
#include "oumi/trainer/finetuning.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

bool has_tokenizer(const fs::path& folder) {
  return fs::exists(folder / "tokenizer.json") || fs::exists(folder / "vocab.json");
}

bool is_whole_model(const fs::path& folder) {
  return fs::is_directory(folder) && fs::exists(folder / "config.json") && is_hf_model(folder);
}

// An adapter without a model beside it.
bool is_bare_adapter(const fs::path& folder) { return is_adapter_folder(folder) && !fs::exists(folder / "config.json"); }

std::string base_of_adapter(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  const Json config = read_json_file(file);
  const Json base = config.is_object() ? config.value("base_model_name_or_path", Json(nullptr)) : Json(nullptr);
  if (!base.is_string() || base.get<std::string>().empty()) {
    throw UserError(file.string(),
                    "key 'base_model_name_or_path': expected the model that the adapter belongs to, got " + base.dump(),
                    "name the model in model.model_name and the adapter in model.adapter_model");
  }
  return base;
}

// The config with `model` pointing at what is to be used.
TrainingConfig choose(const TrainingConfig& config, const TrainedModelChoice& choice, std::vector<std::string>& notices) {
  TrainingConfig run = config;
  ModelParams& params = run.model;
  const fs::path saved = config.training.output_dir;
  if (choice.prefer_output_dir && is_whole_model(saved)) {
    notices.push_back("the model is the one that the run saved in " + saved.string());
    // Neither folder has one after a run on tokenised rows.
    const bool none = fs::is_directory(params.model_name) && !has_tokenizer(params.model_name);
    if (!params.tokenizer_name && !has_tokenizer(saved) && !none) params.tokenizer_name = params.model_name;
    params.model_name = saved.string();
    params.model_kwargs = Json::object();  // the saved config.json has them
    params.adapter_model.reset();          // what the run began with is part of it
    if (is_adapter_folder(saved)) params.adapter_model = saved.string();
  } else if (choice.prefer_output_dir && is_bare_adapter(saved)) {
    notices.push_back("the model is " + params.model_name + " with the adapter that the run saved in " + saved.string());
    params.adapter_model = saved.string();
  } else {
    if (choice.prefer_output_dir && !params.load_pretrained_weights) {
      throw UserError("model.model_name",
                      "there are no trained weights: expected a saved model in training.output_dir (" + saved.string() + ")",
                      "run oumi-cpp train with this config first, or name a model with --model");
    }
    if (choice.prefer_output_dir)
      notices.push_back("nothing is saved in " + saved.string() + ": the model is " + params.model_name + " as it is");
    if (is_bare_adapter(params.model_name)) {
      if (!params.tokenizer_name && has_tokenizer(params.model_name)) params.tokenizer_name = params.model_name;
      params.adapter_model = params.model_name;
      params.model_name = base_of_adapter(*params.adapter_model);
    }
  }
  params.load_pretrained_weights = true;
  run.training.use_peft = false;  // adapter_model says it all
  params = with_local_files(std::move(params));
  if (!fs::exists(params.model_name)) {
    throw UserError(
        "model.model_name",
        "there is no folder '" + params.model_name + "', and it is no name on the Hub: expected a model's folder or 'org/name'",
        "check the path; relative paths start at the current folder");
  }
  return run;
}

}  // namespace

bool is_language_model(const TrainingConfig& config, const TrainedModelChoice& choice) {
  const fs::path saved = config.training.output_dir;
  if (choice.prefer_output_dir && (is_whole_model(saved) || is_bare_adapter(saved))) return true;
  const ModelParams& params = config.model;
  if (fs::exists(params.model_name)) return is_hf_model(params.model_name) || is_bare_adapter(params.model_name);
  return is_on_hub(params) || language_model_families().find(params.model_name) != nullptr;
}

TrainedLanguageModel load_trained_language_model(const TrainingConfig& config, const TrainedModelChoice& choice) {
  TrainedLanguageModel result;
  result.config = choose(config, choice, result.notices);
  const ModelParams& params = result.config.model;
  if (choice.needs_tokenizer || params.tokenizer_name || has_tokenizer(params.model_name)) {
    const BuiltTokenizer built = build_tokenizer(params.tokenizer_name.value_or(params.model_name), params);
    result.tokenizer = built.tokenizer;
    result.notices.insert(result.notices.end(), built.notices.begin(), built.notices.end());
  }
  const ModelPtr model = build_model(params);
  result.model = as_language_model(model);
  if (!result.model)
    throw UserError("model.model_name", "expected a language model, got " + model->model_type(),
                    "oumi-cpp predict is for other models");
  apply_trained_adapter(*model, result.config);
  model->eval();
  return result;
}

}  // namespace oumi
