// What a Tokenizer is made of. For its own sources alone.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "bridge/oumi_bridge.h"
#include "oumi/text/tokenizer.h"
#include "oumi/text/tokenizer_files.h"

namespace oumi::text {

struct TokenizerState {
  TokenizerFiles files;
  OumiTokenizerHandle* handle = nullptr;
  std::map<std::string, ChatTemplate> templates;
  std::string fingerprint;
  std::int64_t vocab_size = 0;
  std::optional<std::int32_t> pad, eos, bos, unk;
  std::optional<std::int64_t> max_length;
  PaddingSide padding_side = PaddingSide::kRight;
  TruncationSide truncation_side = TruncationSide::kRight;
  bool clean_up = false, pad_filled_in = false;

  TokenizerState() = default;
  ~TokenizerState();
  TokenizerState(const TokenizerState&) = delete;
  TokenizerState& operator=(const TokenizerState&) = delete;

  std::optional<std::int32_t> id(std::string_view token) const;
  std::optional<std::int32_t> named_id(const std::string& name) const;
};

// Throws as Tokenizer::load does.
std::unique_ptr<TokenizerState> load_tokenizer_state(const std::filesystem::path& folder_or_file,
                                                     const TokenizerOptions& options);

}  // namespace oumi::text
