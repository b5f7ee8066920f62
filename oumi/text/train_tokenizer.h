// Training a vocabulary on text, and writing a folder that Transformers and Tokenizer::load read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace oumi {

struct TrainTokenizerOptions {
  // Plain text, taken line by line; of .json and .jsonl, every string but roles, types and ids.
  std::vector<std::filesystem::path> files;
  // bytelevel: BPE over bytes, as GPT-2, Llama 3 and Qwen have it; loses nothing.
  // bpe: SentencePiece's way, as Llama 2 has it: words begin with a block for their space, unknown characters become bytes.
  // unigram: as T5 and ALBERT have it (NFKC). wordpiece: as BERT has it, with [CLS] and [SEP] around a text.
  std::string kind = "bytelevel";
  std::int64_t vocab_size = 0;     // tokens, special ones and bytes included
  std::int64_t min_frequency = 2;  // of a pair to be merged; not for unigram
  // Named tokens by Transformers' names; those that aren't given are the usual ones of the kind. With a chat template that ends
  // turns with a token of its own, that one is eos_token.
  std::optional<std::string> bos_token, eos_token, unk_token, pad_token;
  std::vector<std::string> special_tokens;   // further ones, never split
  std::optional<std::string> chat_template;  // a built-in one by name, whose tokens become special, or a file
  std::optional<std::int64_t> model_max_length;
  bool add_bos_token = false, add_eos_token = false;  // around every text that is encoded with special tokens
  bool lowercase = false;                             // wordpiece alone
};

struct TrainedTokenizer {
  std::vector<std::string> files;  // what was written
  std::int64_t vocab_size = 0;     // fewer than asked for where the text gives no more
};

// On all cores. Throws UserError: no or unreadable files, a vocabulary too small for what must be in it, an unknown kind or
// template.
TrainedTokenizer train_tokenizer(const TrainTokenizerOptions& options, const std::filesystem::path& folder);

std::vector<std::string> tokenizer_kinds();

}  // namespace oumi
