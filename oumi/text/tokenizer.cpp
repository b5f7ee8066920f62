#include "oumi/text/tokenizer.h"

#include "oumi/base/error.h"

namespace oumi {

struct Tokenizer::Impl {};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& folder_or_file, const TokenizerOptions&) {
  throw EnvironmentError(folder_or_file.string(), "tokenizers are not built into this binary");
}

namespace {
[[noreturn]] void unreachable() { throw InternalError("a tokenizer exists though none can be loaded"); }
}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view, const EncodeOptions&) const { unreachable(); }
Encoding Tokenizer::encode_full(std::string_view, EncodeOptions) const { unreachable(); }
std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string>, const EncodeOptions&) const { unreachable(); }
std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string_view>, const EncodeOptions&) const { unreachable(); }
std::string Tokenizer::decode(std::span<const std::int32_t>, const DecodeOptions&) const { unreachable(); }
ChatTokens Tokenizer::encode_chat(const Json&, const ChatRenderOptions&) const { unreachable(); }
std::int64_t Tokenizer::vocab_size() const noexcept { return 0; }
std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view) const { unreachable(); }
std::optional<std::string> Tokenizer::id_to_token(std::int32_t) const { unreachable(); }
std::optional<std::int32_t> Tokenizer::pad_id() const noexcept { return std::nullopt; }
std::optional<std::int32_t> Tokenizer::eos_id() const noexcept { return std::nullopt; }
std::optional<std::int32_t> Tokenizer::bos_id() const noexcept { return std::nullopt; }
std::optional<std::int32_t> Tokenizer::unk_id() const noexcept { return std::nullopt; }
const Json& Tokenizer::special_tokens() const noexcept {
  static const Json kNone = Json::object();
  return kNone;
}
PaddingSide Tokenizer::padding_side() const noexcept { return PaddingSide::kRight; }
std::optional<std::int64_t> Tokenizer::model_max_length() const noexcept { return std::nullopt; }
const std::string& Tokenizer::chat_template() const noexcept {
  static const std::string kNone;
  return kNone;
}
const ChatTemplate& Tokenizer::chat() const { unreachable(); }
const std::string& Tokenizer::fingerprint() const noexcept { return chat_template(); }
std::vector<std::string> Tokenizer::save(const std::filesystem::path&) const { unreachable(); }

}  // namespace oumi
