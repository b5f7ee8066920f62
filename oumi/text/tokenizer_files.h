// What lies in a tokenizer's folder, read and merged by the rules of Transformers 5 (tokenization_utils_base.py,
// _from_pretrained).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/text/tokenizer.h"

namespace oumi::text {

// One token with its flags as tokenizer.json writes them; a flag that is missing keeps what the vocabulary has.
struct TokenToAdd {
  std::string content;
  Json flags = Json::object();  // special, normalized, lstrip, rstrip, single_word
};

struct TokenizerFiles {
  std::filesystem::path source;  // tokenizer.json, or vocab.json
  std::string tokenizer_json;    // its text, or what stands for vocab.json and merges.txt
  bool has_tokenizer_json = false;
  std::filesystem::path config_file;                         // tokenizer_config.json, for messages; it need not exist
  Json config = Json::object();                              // merged with the keyword arguments
  Json named_tokens = Json::object();                        // bos_token, ... and a model's own *_token, in order
  std::vector<std::string> extra_tokens;                     // extra_special_tokens (additional_special_tokens)
  std::vector<TokenToAdd> tokens_to_add;                     // in the order in which they enter the vocabulary
  std::map<std::string, std::string> chat_templates;         // by name; the usual one is "default"
  std::map<std::string, std::string> chat_template_origins;  // what names it in errors
};

// Throws UserError naming file and key.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& folder_or_file, const TokenizerOptions& options);

// Transformers' names of special tokens, in its order.
const std::vector<std::string>& special_token_names();

}  // namespace oumi::text
