#include "oumi/trainer/run_data.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/text_datasets.h"
#include "oumi/data/text/token_report.h"
#include "oumi/hub/hub.h"
#include "oumi/models/registry.h"
#include "oumi/text/build_tokenizer.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

bool holds_tokenizer(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / "tokenizer.json", ignored) ||
         (fs::is_regular_file(folder / "vocab.json", ignored) && fs::is_regular_file(folder / "merges.txt", ignored));
}

template <class Predicate>
bool any_dataset(const DataParams& data, Predicate predicate) {
  for (const DatasetSplitParams* split : {&data.train, &data.validation, &data.test}) {
    for (const DatasetParams& dataset : split->datasets) {
      if (predicate(dataset.dataset_name)) return true;
    }
  }
  return false;
}

bool any_text_collator(const DataParams& data) {
  for (const DatasetSplitParams* split : {&data.train, &data.validation, &data.test}) {
    if (split->collator_name && to_lower(*split->collator_name).starts_with("text_")) return true;
  }
  return false;
}

// Rows of the embedding of tokens, by the names that language models give it; nothing for other models.
std::optional<std::int64_t> vocabulary_of(const Model& model) {
  constexpr std::string_view kEmbeddings[] = {"embed_tokens.weight", "wte.weight"};
  for (const auto& parameter : model.named_parameters()) {
    for (const std::string_view name : kEmbeddings) {
      if (parameter.key().ends_with(name) && parameter.value().dim() == 2) return parameter.value().size(0);
    }
  }
  return std::nullopt;
}

PackingStrategy packing_of(const TrainingConfig& config) {
  const Json& kwargs = config.training.trainer_kwargs;
  const auto found = kwargs.find("packing_strategy");
  if (found == kwargs.end()) return PackingStrategy::kBestFit;
  const std::string key = "training.trainer_kwargs.packing_strategy";
  if (!found->is_string()) throw UserError(key, "expected bfd, bfd_split, wrapped or concatenated, got " + found->dump());
  return parse_packing_strategy(found->get<std::string>(), key);
}

}  // namespace

RunData::RunData(const TrainingConfig& config, RunDataOptions options) : config_(config), options_(std::move(options)) {
  context_.seed = static_cast<std::uint64_t>(config.training.data_seed);
  context_.packing = packing_of(config);
  context_.pack_length = config.model.model_max_length.value_or(1024);
  context_.label_ignore_index = static_cast<std::int32_t>(config.training.label_ignore_index.value_or(kIgnoredLabel));
  context_.text.max_length = config.model.model_max_length;
  context_.text.chat_template_kwargs = config.model.chat_template_kwargs.value_or(Json::object());
  context_.text.notice = options_.notice;
  load_tokenizer();
  if (!options_.cut_samples) context_.text.max_length.reset();
}

void RunData::load_tokenizer() {
  const ModelParams& model = config_.model;
  const bool needed = any_dataset(config_.data, needs_tokenizer) || any_text_collator(config_.data);
  fs::path folder;
  std::error_code ignored;
  if (model.tokenizer_name)
    folder = *model.tokenizer_name;
  else if (holds_tokenizer(model.model_name))
    folder = model.model_name;
  else if (needed && !fs::is_directory(model.model_name, ignored) && holds_tokenizer(config_.training.output_dir))
    folder = config_.training.output_dir;
  if (folder.empty() && needed && !fs::exists(model.model_name) && model_registry().find(model.model_name) == nullptr &&
      is_hub_name(model.model_name)) {
    folder = resolve_model(model.model_name, model.model_revision.value_or(""), {.files = HubFiles::kTokenizer});
  }
  if (folder.empty()) {
    if (!needed) return;
    throw UserError("model.tokenizer_name",
                    "the data needs a tokenizer: expected tokenizer.json in the folder model.model_name ('" + model.model_name +
                        "'), got none",
                    "set model.tokenizer_name to a folder with tokenizer.json, or use dataset_name: pretokenized");
  }
  // A name on the Hub: the cache, or a download.
  if (model.tokenizer_name && !fs::exists(folder))
    folder = resolve_model(*model.tokenizer_name, "", {.files = HubFiles::kTokenizer, .key = "model.tokenizer_name"});
  BuiltTokenizer built = build_tokenizer(folder, model);
  for (const std::string& notice : built.notices) {
    if (options_.notice) options_.notice(notice);
  }
  context_.text.tokenizer = std::move(built.tokenizer);
  context_.text.max_length = context_.text.tokenizer->model_max_length();
}

const DatasetSplitParams& RunData::section(DatasetSplitKind kind) const {
  switch (kind) {
    case DatasetSplitKind::kTrain: return config_.data.train;
    case DatasetSplitKind::kValidation: return config_.data.validation;
    case DatasetSplitKind::kTest: return config_.data.test;
  }
  throw InternalError("unknown split");
}

DatasetBuildContext RunData::context(DatasetSplitKind kind) const {
  DatasetBuildContext context = context_;
  context.split = kind;
  context.text.needs_length = options_.plans_training && kind == DatasetSplitKind::kTrain && config_.training.max_steps <= 0;
  return context;
}

DatasetPtr RunData::dataset(DatasetSplitKind kind) const {
  const DatasetSplitParams& params = section(kind);
  for (std::size_t i = 0; i < params.datasets.size() && !options_.allow_preferences; ++i) {
    if (!is_preference_dataset(params.datasets[i].dataset_name)) continue;
    throw UserError(
        cat(section_name(kind), ".datasets[", i, "].dataset_name"),
        "'" + params.datasets[i].dataset_name + "' holds preferences, whose trainers (TRL_DPO, TRL_KTO) are not built yet",
        "oumi-cpp tokenize shows such records");
  }
  return build_dataset(params, context(kind));
}

CollateFn RunData::collator(DatasetSplitKind kind) const { return collator_for(section(kind), context(kind)); }

void RunData::report(const DatasetPtr& dataset, DatasetSplitKind kind, const Model& model) const {
  if (!dataset->is_map_style() || !is_text(section(kind))) return;
  for (const std::string& line : report_tokens(dataset, section_name(kind), vocabulary_of(model)).lines(section_name(kind))) {
    if (options_.notice) options_.notice(line);
  }
}

void RunData::save_tokenizer(const fs::path& folder) const {
  if (tokenizer() != nullptr) tokenizer()->save(folder);
}

}  // namespace oumi
