// Datasets of text by Oumi's names.
#pragma once

#include <functional>
#include <string>

#include "oumi/data/registry.h"

namespace oumi {

// Adds every dataset of conversations, documents and preferences to the registry. They read local files (dataset_path).
//
// Conversations (text_sft, text_sft_jsonl, PromptResponseDataset, HuggingFaceDataset, yahma/alpaca-cleaned, ...): rendered by
// the chat template, encoded on all cores and kept as a memory-mapped file (token_file.h). dataset_kwargs of all:
// assistant_only, response_template, instruction_template, task ("sft", "generation"); return_tensors and text_col have no
// effect. Documents: `text` (a sample each; dataset_kwargs.document: line or file) and `pretraining` and the names of corpora
// (joined and cut: seq_length, dataset_text_field, append_concat_token, add_special_tokens, skip_last). Preferences: text_dpo
// and text_kto and the names of corpora; they can be looked at, their trainers aren't built.
void register_text_datasets(const std::function<void(const std::string&, DatasetFactory)>& add);

// `pretokenized`: adds what is missing of attention_mask and labels and cuts at the longest length.
DatasetPtr complete_tokens(DatasetPtr dataset, const TextContext& context);

// A dataset of an unknown name whose files tell what they are: rows with input_ids, or any format of text_sft.
DatasetPtr make_unnamed_text_dataset(const DatasetRequest& request);

// What the registry's names stand for.
bool is_text_dataset(const std::string& name);         // its samples are tokens; true of a name that isn't registered
bool needs_tokenizer(const std::string& name);         // registered, and not pretokenized
bool is_preference_dataset(const std::string& name);   // DPO or KTO records
bool is_pretraining_dataset(const std::string& name);  // its rows are full already

}  // namespace oumi
