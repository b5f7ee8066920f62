// A Hugging Face tokenizer: text to token ids and back. Torch-free. The work is done by the `tokenizers` crate behind bridge/,
// so ids equal those of Transformers for any tokenizer.json; this class adds what the files beside it say (special tokens,
// padding side, longest length, chat template).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/text/chat_template.h"

namespace oumi {

namespace text {
struct TokenizerState;
}

struct TokenizerOptions {
  // `model.tokenizer_kwargs`, which win over tokenizer_config.json: bos_token, eos_token, unk_token, sep_token, pad_token,
  // cls_token, mask_token, additional_special_tokens, extra_special_tokens, padding_side, truncation_side, model_max_length,
  // add_bos_token, add_eos_token, chat_template, clean_up_tokenization_spaces. Others are errors, except for those that only
  // steer Python's loading (use_fast, revision, trust_remote_code, legacy, ...), which are ignored.
  Json kwargs = Json::object();
  std::optional<std::string> pad_token;          // wins over what the files say; added to the vocabulary when it isn't there
  std::optional<std::int64_t> model_max_length;  // wins over what the files say
  std::optional<std::string> chat_template;      // the template's source; wins over what the files say
  std::optional<std::string> fallback_chat_template;  // the template's source where the files have none
  // Without a padding token, take <|finetune_right_pad_id|> (Llama 3.1 and later) or else the eos token.
  bool fill_in_pad_token = false;
};

struct EncodeOptions {
  bool add_special_tokens = true;  // what the post-processor adds around the text (bos, [CLS], ...)
  bool offsets = false;            // also fill Encoding::offsets and special_tokens_mask; six times the memory, no more time
};

// The tokens of one text. Nothing is truncated or padded here, whatever tokenizer.json says.
struct Encoding {
  std::vector<std::int32_t> ids;
  // Byte range of each token in the text, and 1 where a token was added around the text; empty unless asked for.
  std::vector<std::pair<std::size_t, std::size_t>> offsets;
  std::vector<std::uint8_t> special_tokens_mask;
};

struct DecodeOptions {
  bool skip_special_tokens = false;
};

// A rendered conversation as tokens, as Transformers' apply_chat_template(tokenize=True) gives them.
struct ChatTokens {
  std::string text;
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> assistant_mask;  // 1 in {% generation %} spans; all 0 when the template has none
};

enum class PaddingSide { kRight, kLeft };
enum class TruncationSide { kRight, kLeft };

// Immutable after loading; every method may be called from several threads at once.
class Tokenizer {
 public:
  // From a folder with tokenizer.json (or vocab.json and merges.txt as GPT-2 has them), or from one such file; the files that
  // describe it are looked for beside it. Throws UserError naming file and key, EnvironmentError where text support was not
  // built.
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& folder_or_file,
                                               const TokenizerOptions& options = {});

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Text is UTF-8; UserError says at which byte it isn't.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode_full(std::string_view text, EncodeOptions options = {}) const;  // with offsets and mask
  // On all cores (RAYON_NUM_THREADS limits them); the same result as one by one.
  std::vector<Encoding> encode_batch(std::span<const std::string> texts, const EncodeOptions& options = {}) const;
  std::vector<Encoding> encode_batch(std::span<const std::string_view> texts, const EncodeOptions& options = {}) const;

  // Ids that aren't in the vocabulary give nothing, as in Transformers.
  std::string decode(std::span<const std::int32_t> ids, const DecodeOptions& options = {}) const;

  // `messages` is a list of {role, content, ...}; rendered, then encoded without further special tokens. The mask covers the
  // tokens that overlap what a {% generation %} block gave; as in Transformers, a last character that takes several tokens
  // counts with its first. A span that begins with a space which no token covers is masked all the same (Transformers then
  // masks nothing more).
  ChatTokens encode_chat(const Json& messages, const ChatRenderOptions& options = {}) const;

  // Added tokens included; Transformers' len(tokenizer).
  std::int64_t vocab_size() const noexcept;
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(std::int32_t id) const;

  std::optional<std::int32_t> pad_id() const noexcept;
  std::optional<std::int32_t> eos_id() const noexcept;
  std::optional<std::int32_t> bos_id() const noexcept;
  std::optional<std::int32_t> unk_id() const noexcept;
  // Whether the padding token comes from fill_in_pad_token.
  bool pad_filled_in() const noexcept;
  // {"bos_token": "<s>", ...}: those that are set, by Transformers' names, as a chat template sees them.
  const Json& special_tokens() const noexcept;

  PaddingSide padding_side() const noexcept;
  // The end at which too long texts are cut, by those who cut them.
  TruncationSide truncation_side() const noexcept;
  // Transformers' model_max_length; unset where the files have none (Transformers then has 1e30).
  std::optional<std::int64_t> model_max_length() const noexcept;

  // The template's source; empty when there is none.
  const std::string& chat_template() const noexcept;
  // Throws UserError when there is none. Where the files hold several templates, the second gives the one for tools.
  const ChatTemplate& chat() const;
  const ChatTemplate& chat_with_tools() const;

  // Changes whenever ids, special tokens or the chat template could: 32 hex digits, for keys of caches.
  const std::string& fingerprint() const noexcept;

  // Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json and, with a template, chat_template.jinja, as
  // Transformers loads them. Each file is whole or absent. Returns their names.
  std::vector<std::string> save(const std::filesystem::path& folder) const;

 private:
  explicit Tokenizer(std::unique_ptr<text::TokenizerState> state);
  std::unique_ptr<text::TokenizerState> state_;
};

}  // namespace oumi
