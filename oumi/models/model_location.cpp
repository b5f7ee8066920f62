#include "oumi/models/model_location.h"

#include <algorithm>
#include <array>

#include "oumi/base/strings.h"
#include "oumi/hub/hub.h"
#include "oumi/models/language_models.h"
#include "oumi/models/registry.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

// Models of our families that the Hub knows without an organisation.
constexpr std::array<const char*, 5> kOldNames = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2"};

bool looks_like_hub_name(const std::string& name) {
  return is_hub_name(name) && (name.find('/') != std::string::npos ||
                               std::find(kOldNames.begin(), kOldNames.end(), to_lower(name)) != kOldNames.end());
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

fs::path resolve(const std::string& name, const std::string& revision, const ResolveOptions& options) {
  return !exists(name) && looks_like_hub_name(name) ? resolve_model(name, revision, options) : fs::path(name);
}

}  // namespace

bool is_on_hub(const ModelParams& params) {
  const std::string& name = params.model_name;
  if (exists(name) || model_registry().find(name) != nullptr) return false;
  // "gpt2" is both a family, to be trained from scratch, and a model.
  if (!params.load_pretrained_weights && language_model_families().find(name) != nullptr) return false;
  return looks_like_hub_name(name);
}

ModelParams with_local_model(ModelParams params) {
  if (!is_on_hub(params)) return params;
  const HubFiles files = params.load_pretrained_weights ? HubFiles::kModel : HubFiles::kConfig;
  params.model_name = resolve_model(params.model_name, params.model_revision.value_or(""), {.files = files}).string();
  return params;
}

ModelParams with_local_files(ModelParams params) {
  params = with_local_model(std::move(params));
  if (params.tokenizer_name) {
    params.tokenizer_name =
        resolve(*params.tokenizer_name, "", {.files = HubFiles::kTokenizer, .key = "model.tokenizer_name"}).string();
  }
  if (params.adapter_model)
    params.adapter_model =
        resolve(*params.adapter_model, "", {.files = HubFiles::kModel, .key = "model.adapter_model"}).string();
  return params;
}

}  // namespace oumi
