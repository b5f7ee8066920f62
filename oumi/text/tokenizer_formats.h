// Tokenizer files whose contents are looked into: GPT-2's pair of files, and a tokenizer.json that the crate refused.
#pragma once

#include <filesystem>
#include <string>

namespace oumi::text {

struct Gpt2Options {
  bool add_prefix_space = false;
};

struct Gpt2Files {
  std::string tokenizer_json;    // byte-level BPE with GPT-2's pattern
  bool has_end_of_text = false;  // the vocabulary has <|endoftext|>
};

// vocab.json (token to id) and merges.txt (one "left right" a line). Throws UserError naming file and line or token.
Gpt2Files read_gpt2_files(const std::filesystem::path& vocab_file, const std::filesystem::path& merges_file,
                          const Gpt2Options& options);

// Why the crate can't read a tokenizer.json: the first fault of its outer structure, as "key: expected ..., got ...". Empty
// when none is found. Throws UserError when the text is not JSON.
std::string explain_tokenizer_json(const std::string& text, const std::string& origin);

}  // namespace oumi::text
