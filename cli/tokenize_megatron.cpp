#include "cli/tokenize_megatron.h"

#include <iostream>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/megatron_indexed.h"
#include "oumi/data/text/text_datasets.h"
#include "oumi/data/text/token_dataset.h"
#include "oumi/trainer/run_data.h"

namespace oumi::cli {
namespace {

void refuse_joined_rows(const DatasetSplitParams& split) {
  if (split.pack)
    throw UserError("data.train.pack", "expected false for Megatron's documents, got true", "Megatron packs them itself");
  for (std::size_t i = 0; i < split.datasets.size(); ++i) {
    const DatasetParams& dataset = split.datasets[i];
    if (!is_pretraining_dataset(dataset.dataset_name) && !dataset.dataset_kwargs.contains("seq_length")) continue;
    throw UserError(cat("data.train.datasets[", i, "]"),
                    "expected documents, got '" + dataset.dataset_name + "' with rows cut from several of them",
                    "set dataset_name: text, without seq_length");
  }
}

}  // namespace

int write_megatron(const TrainingConfig& config, const CommandLine& line) {
  if (line.json) throw UserError("command line", "--megatron: expected no --json beside it");
  const MegatronFiles files = megatron_files(line.output);
  for (const auto& path : {files.bin, files.idx}) {
    if (!line.overwrite && std::filesystem::exists(path))
      throw UserError(path.string(), "is there already", "choose another prefix, or --overwrite it");
  }
  refuse_joined_rows(config.data.train);
  const RunData data(config, {.notice = [](const std::string& notice) { std::cerr << notice << '\n'; }, .cut_samples = false});
  const Tokenizer* tokenizer = data.tokenizer().get();
  std::optional<std::int32_t> eod;
  if (line.append_eod) {
    if (tokenizer != nullptr) eod = tokenizer->eos_id();
    if (!eod)
      throw UserError("command line", "--append-eod: expected a tokenizer with an end-of-text token, got none",
                      "set model.tokenizer_name, or eos_token in model.tokenizer_kwargs");
  }
  const DatasetPtr dataset = data.dataset(DatasetSplitKind::kTrain);
  const bool map_style = dataset->is_map_style();
  const std::int64_t limit = line.limit < 0 ? std::numeric_limits<std::int64_t>::max() : line.limit;
  const std::int64_t count = map_style ? std::min(limit, dataset->size()) : limit;
  if (!map_style) dataset->set_epoch(0);
  MegatronIndexedWriter writer(files.idx,
                               tokenizer == nullptr ? MegatronDtype::kInt32 : megatron_dtype_for(tokenizer->vocab_size()));
  std::int64_t documents = 0, tokens = 0, unsupervised = 0;
  for (; documents < count; ++documents) {
    const std::optional<Sample> sample = map_style ? dataset->get(documents) : dataset->next();
    if (!sample) break;
    TokenIds ids = token_field(*sample, "input_ids", dataset->name());
    if (sample->contains("labels")) {
      const TokenIds labels = token_field(*sample, "labels", dataset->name());
      unsupervised += static_cast<std::int64_t>(ids.size()) - count_tokens(ids, labels).supervised;
    }
    if (eod && !ids.empty()) ids.push_back(*eod);
    writer.add_document(ids);
    tokens += static_cast<std::int64_t>(ids.size());
  }
  writer.close();
  if (unsupervised > 0)
    std::cerr << "warning: " << unsupervised
              << " tokens are not trained on in this config; Megatron's files have no labels and say nothing of it\n";
  std::cout << files.bin.string() << " and " << files.idx.string() << ": " << documents << " documents, " << tokens
            << " tokens\n";
  return 0;
}

}  // namespace oumi::cli
