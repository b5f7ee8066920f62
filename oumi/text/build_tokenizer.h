// The tokenizer of a run, with Oumi's rules on top of Hugging Face's.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "oumi/config/model_params.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

struct BuiltTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<std::string> notices;  // what was filled in, one line each: a pad token, a template
};

// `folder` holds the tokenizer: model.tokenizer_name or model.model_name, already resolved to a local folder.
//
// Pad token: model.tokenizer_pad_token, else what the files say, else <|finetune_right_pad_id|> where the vocabulary has it
// (Llama 3.1 and later), else the eos token. GPT-2 without a choice pads with <|endoftext|>. Throws UserError when none of them
// is there. Chat template: `model.chat_template` names a built-in one; "auto" takes the tokenizer's own; unset takes the model
// type's default (config.json's model_type; gpt2 alone has one), else the tokenizer's own, else `default`.
BuiltTokenizer build_tokenizer(const std::filesystem::path& folder, const ModelParams& params);

}  // namespace oumi
