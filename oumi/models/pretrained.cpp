#include "oumi/models/pretrained.h"

#include "oumi/base/files.h"
#include "oumi/base/version.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/checkpoint/weight_values.h"
#include "oumi/models/init_tape.h"
#include "oumi/models/language_models.h"
#include "oumi/models/registry.h"

namespace oumi {
namespace fs = std::filesystem;

void Model::save_pretrained(const fs::path& directory) const {
  make_directories(directory);
  TensorSource values;
  if (weight_source()) values = [source = weight_source()](const std::string& name) { return source->gather(name); };
  save_safetensors(directory / "model.safetensors", weight_source() ? weight_source()->shapes() : state_dict(*this),
                   {.values = std::move(values), .keep_hashes = true});
  const Json config{{"model_type", model_type()}, {"init_kwargs", init_kwargs().values()}, {"oumi_version", kVersion}};
  write_file_atomically(directory / "config.json", config.dump(2) + "\n");
}

void Model::load_weights_from(const fs::path& directory) {
  load_state_dict(*this, load_weights(directory), /*strict=*/true, directory.string());
}

PretrainedConfig read_pretrained_config(const fs::path& directory, const std::string& config_filename) {
  PretrainedConfig result;
  const fs::path path = directory / config_filename;
  if (!fs::exists(path)) return result;
  const Json config = read_json_file(path);
  if (!config.is_object()) throw UserError(path.string(), "expected a JSON object, got " + json_type_name(config));
  if (const auto type = config.find("model_type"); type != config.end() && type->is_string())
    result.model_type = type->get<std::string>();
  if (const auto kwargs = config.find("init_kwargs"); kwargs != config.end()) {
    if (!kwargs->is_object())
      throw UserError(path.string(), "key 'init_kwargs': expected dict, got " + json_type_name(*kwargs));
    result.init_kwargs = *kwargs;
  }
  return result;
}

namespace {

// A checkpoint of ours knows the hashes of its files; a changed weight shows in nothing else. False: it is none.
bool check_against_manifest(const fs::path& directory) {
  const fs::path path = directory / kManifestName;
  if (!fs::is_regular_file(path) || read_text_file(path).find("oumi-checkpoint") == std::string::npos) return false;
  for (const auto& [name, digest] : read_manifest(directory).files) {
    const fs::path file = directory / name;
    if (!(name.starts_with("model") || name.starts_with("pytorch_model")) || !fs::exists(file)) continue;
    const std::string hint = "load another checkpoint, or copy the file again";
    if (const auto size = fs::file_size(file); size != digest.size)
      throw UserError(file.string(),
                      cat("is damaged: expected ", digest.size, " bytes as ", kManifestName, " says, got ", size), hint);
    if (const std::string hash = hash_file(file); hash != digest.xxh3_128)
      throw UserError(file.string(),
                      cat("is damaged: expected hash ", digest.xxh3_128, " as ", kManifestName, " says, got ", hash), hint);
  }
  return true;
}

StateDict load_torch_weights(const fs::path& path, ContentCheck check) {
  StateDict weights =
      path.extension() == ".json" ? load_sharded_torch_state_dict(path.parent_path()) : load_torch_state_dict(path);
  if (check == ContentCheck::kHashesElseValues) check_weight_values(weights, path.string());
  return weights;
}

}  // namespace

StateDict load_weights(const fs::path& directory, const std::string& weights_filename, ContentCheck check) {
  const auto load = [&](const fs::path& file) {
    const std::string extension = file.extension().string();
    return extension == ".pt" || extension == ".pth" || extension == ".bin" ? load_torch_weights(file, check)
                                                                            : load_safetensors(file, check);
  };
  if (fs::is_regular_file(directory)) return load(directory);
  if (check_against_manifest(directory)) check = ContentCheck::kNone;
  if (fs::exists(directory / weights_filename)) return load(directory / weights_filename);
  if (fs::exists(directory / (weights_filename + ".index.json"))) return load_sharded_safetensors(directory, "model", check);
  for (const char* name : {"pytorch_model.bin.index.json", "pytorch_model.bin", "model.pt", "model.pth"}) {
    if (fs::exists(directory / name)) return load_torch_weights(directory / name, check);
  }
  throw UserError(directory.string(),
                  "no weights found: expected " + weights_filename + ", its shards, pytorch_model.bin or model.pt",
                  fs::exists(directory) ? "is this a model folder?" : "the folder does not exist; check the path");
}

bool is_pretrained_model(const fs::path& directory) {
  if (!fs::is_directory(directory) || !fs::exists(directory / "config.json")) return false;
  if (is_hf_model(directory)) return true;
  const PretrainedConfig config = read_pretrained_config(directory);
  return !config.model_type.empty() && model_registry().find(config.model_type) != nullptr;
}

namespace detail {

Kwargs merged_kwargs(const fs::path& directory, const PretrainedOptions& options, const std::string& expected_type) {
  const PretrainedConfig config = read_pretrained_config(directory, options.config_filename);
  if (!config.model_type.empty() && to_lower(config.model_type) != to_lower(expected_type)) {
    throw UserError((directory / options.config_filename).string(),
                    "model type mismatch: expected '" + expected_type + "', got '" + config.model_type + "'",
                    "load it as the class that saved it");
  }
  Json kwargs = config.init_kwargs;
  for (const auto& [name, value] : options.override_kwargs.values().items()) kwargs[name] = value;
  return Kwargs(std::move(kwargs), (directory / options.config_filename).string());
}

void load_into(Model& model, const fs::path& directory, const PretrainedOptions& options) {
  StateDict weights;
  {
    const InitTape::Pause pause;
    weights = load_weights(directory, options.weights_filename);
  }
  const InitTape::KeepsInputs mapped;
  load_state_dict(model, weights, options.strict, directory.string());
}

}  // namespace detail

ModelPtr load_pretrained(const fs::path& directory, const PretrainedOptions& options) {
  const PretrainedConfig config = read_pretrained_config(directory, options.config_filename);
  if (config.model_type.empty()) {
    throw UserError(
        (directory / options.config_filename).string(), "no model_type found: expected the folder of a saved model",
        "save it with save_pretrained, or name the model in model.model_name and its weights in model.load_pretrained_weights");
  }
  ModelPtr model = create_model(config.model_type, detail::merged_kwargs(directory, options, config.model_type),
                                (directory / options.config_filename).string() + ":model_type");
  detail::load_into(*model, directory, options);
  return model;
}

}  // namespace oumi
