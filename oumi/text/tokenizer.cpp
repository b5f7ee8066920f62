#include "oumi/text/tokenizer.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/text/bridge.h"
#include "oumi/text/tokenizer_state.h"

namespace oumi {
namespace {

using text::as_bytes;
using text::bridge;
using text::BridgeBuffer;
using text::check_bridge;
using text::TokenizerState;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// Transformers' clean_up_tokenization: no spaces before punctuation and English contractions.
void clean_up_spaces(std::string& text) {
  constexpr std::pair<const char*, const char*> kRules[] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                                            {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                                            {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

class Encodings {
 public:
  Encodings(const TokenizerState& state, const std::vector<OumiBytes>& texts, const EncodeOptions& options) {
    BridgeBuffer out;
    const std::uint32_t flags = (options.add_special_tokens ? unsigned{OUMI_BRIDGE_ADD_SPECIAL_TOKENS} : 0u) |
                                (options.offsets ? unsigned{OUMI_BRIDGE_OFFSETS} : 0u);
    const auto status = bridge().encode(state.handle, texts.data(), texts.size(), flags, &view_, out.out());
    check_bridge(status, out, state.files.source.string(), "cannot encode",
                 "text must be UTF-8, and every character in the vocabulary where the tokenizer has no unk_token");
  }
  ~Encodings() { bridge().encodings_release(view_); }
  Encodings(const Encodings&) = delete;
  Encodings& operator=(const Encodings&) = delete;

  Encoding encoding(std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : view_.ends[index - 1], end = view_.ends[index];
    Encoding encoding;
    encoding.ids.assign(view_.ids + begin, view_.ids + end);
    if (view_.offsets == nullptr) return encoding;
    encoding.special_tokens_mask.assign(view_.special + begin, view_.special + end);
    encoding.offsets.reserve(end - begin);
    for (std::size_t i = begin; i < end; ++i) encoding.offsets.emplace_back(view_.offsets[2 * i], view_.offsets[2 * i + 1]);
    return encoding;
  }

 private:
  OumiEncodings view_{};
};

template <class Text>
std::vector<Encoding> encode_all(const TokenizerState& state, std::span<const Text> texts, const EncodeOptions& options) {
  std::vector<OumiBytes> views;
  views.reserve(texts.size());
  for (const Text& text : texts) views.push_back(as_bytes(text));
  const Encodings encodings(state, views, options);
  std::vector<Encoding> result;
  result.reserve(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) result.push_back(encodings.encoding(i));
  return result;
}

// From the first token that overlaps the span to the first one that holds its last byte.
void mark_span(const std::vector<std::pair<std::size_t, std::size_t>>& offsets, std::pair<std::size_t, std::size_t> span,
               std::vector<std::uint8_t>& mask) {
  const auto [begin, end] = span;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const auto [token_begin, token_end] = offsets[i];
    if (token_begin >= end || token_end <= begin) continue;
    mask[i] = 1;
    if (token_end >= end) break;
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& folder_or_file, const TokenizerOptions& options) {
  return std::shared_ptr<const Tokenizer>(new Tokenizer(text::load_tokenizer_state(folder_or_file, options)));
}

Tokenizer::Tokenizer(std::unique_ptr<text::TokenizerState> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return Encodings(*state_, {as_bytes(text)}, {.add_special_tokens = options.add_special_tokens, .offsets = false})
      .encoding(0)
      .ids;
}

Encoding Tokenizer::encode_full(std::string_view text, EncodeOptions options) const {
  options.offsets = true;
  return Encodings(*state_, {as_bytes(text)}, options).encoding(0);
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string> texts, const EncodeOptions& options) const {
  return encode_all(*state_, texts, options);
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string_view> texts, const EncodeOptions& options) const {
  return encode_all(*state_, texts, options);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, const DecodeOptions& options) const {
  // Same size and alignment; a negative id becomes one that no vocabulary has.
  const std::vector<std::uint32_t> unsigned_ids(ids.begin(), ids.end());
  BridgeBuffer out;
  check_bridge(
      bridge().decode(state_->handle, unsigned_ids.data(), unsigned_ids.size(), options.skip_special_tokens ? 1 : 0, out.out()),
      out, state_->files.source.string(), "cannot decode", "");
  std::string text = out.text();
  if (state_->clean_up) clean_up_spaces(text);
  return text;
}

ChatTokens Tokenizer::encode_chat(const Json& messages, const ChatRenderOptions& options) const {
  RenderedChat rendered = (options.tools.is_null() ? chat() : chat_with_tools()).render(messages, options);
  const bool masked = !rendered.generation_spans.empty();
  Encoding encoding =
      encode_all<std::string>(*state_, std::span(&rendered.text, 1), {.add_special_tokens = false, .offsets = masked}).front();
  ChatTokens tokens{.text = std::move(rendered.text), .ids = std::move(encoding.ids), .assistant_mask = {}};
  tokens.assistant_mask.assign(tokens.ids.size(), 0);
  for (const auto& [begin, end] : rendered.generation_spans) mark_span(encoding.offsets, {begin, end}, tokens.assistant_mask);
  return tokens;
}

std::int64_t Tokenizer::vocab_size() const noexcept { return state_->vocab_size; }
std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const { return state_->id(token); }

std::optional<std::string> Tokenizer::id_to_token(std::int32_t id) const {
  if (id < 0) return std::nullopt;
  BridgeBuffer out;
  if (bridge().id_to_token(state_->handle, static_cast<std::uint32_t>(id), out.out()) == 0) return std::nullopt;
  return out.text();
}

std::optional<std::int32_t> Tokenizer::pad_id() const noexcept { return state_->pad; }
std::optional<std::int32_t> Tokenizer::eos_id() const noexcept { return state_->eos; }
std::optional<std::int32_t> Tokenizer::bos_id() const noexcept { return state_->bos; }
std::optional<std::int32_t> Tokenizer::unk_id() const noexcept { return state_->unk; }
bool Tokenizer::pad_filled_in() const noexcept { return state_->pad_filled_in; }
const Json& Tokenizer::special_tokens() const noexcept { return state_->files.named_tokens; }
PaddingSide Tokenizer::padding_side() const noexcept { return state_->padding_side; }
TruncationSide Tokenizer::truncation_side() const noexcept { return state_->truncation_side; }
std::optional<std::int64_t> Tokenizer::model_max_length() const noexcept { return state_->max_length; }

const std::string& Tokenizer::chat_template() const noexcept {
  static const std::string kNone;
  const auto found = state_->templates.find("default");
  return found == state_->templates.end() ? kNone : found->second.source();
}

const ChatTemplate& Tokenizer::chat() const {
  const auto found = state_->templates.find("default");
  if (found != state_->templates.end()) return found->second;
  throw UserError(state_->files.source.parent_path().string(),
                  state_->templates.empty() ? "chat template: expected one, got none"
                                            : "chat template: expected one named 'default', got others only",
                  cat("choose one with model.chat_template: ", join(builtin_chat_template_names(), ", ")));
}

const ChatTemplate& Tokenizer::chat_with_tools() const {
  const auto found = state_->templates.find("tool_use");
  return found == state_->templates.end() ? chat() : found->second;
}

const std::string& Tokenizer::fingerprint() const noexcept { return state_->fingerprint; }

}  // namespace oumi
