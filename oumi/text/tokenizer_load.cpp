#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/text/bridge.h"
#include "oumi/text/tokenizer_files.h"
#include "oumi/text/tokenizer_formats.h"
#include "oumi/text/tokenizer_state.h"

namespace oumi::text {
namespace {

// From here on Transformers' files mean "no limit" (they write 1e30).
constexpr double kNoLimit = 1e15;
constexpr const char* kLlama3Pad = "<|finetune_right_pad_id|>";

void create(TokenizerState& state, Json& about) {
  BridgeBuffer out;
  const auto status = bridge().tokenizer_new(as_bytes(state.files.tokenizer_json), &state.handle, out.out());
  const std::string source = state.files.source.string();
  // The crate panics at some malformed files where it means to refuse them.
  if (status != OUMI_BRIDGE_OK) {
    const std::string fault = explain_tokenizer_json(state.files.tokenizer_json, source);
    throw UserError(source, fault.empty() ? cat("not a tokenizer.json that can be read: ", out.view()) : fault,
                    "copy the file again from where the model came from");
  }
  about = parse_json(out.text(), source);
}

// A post-processor may name tokens that aren't there, at which the crate panics with the first text.
void try_out(const TokenizerState& state) {
  OumiEncodings encodings{};
  BridgeBuffer out;
  const OumiBytes text = as_bytes("a");
  const auto status = bridge().encode(state.handle, &text, 1, OUMI_BRIDGE_ADD_SPECIAL_TOKENS, &encodings, out.out());
  bridge().encodings_release(encodings);
  if (status == OUMI_BRIDGE_BUG) {
    throw UserError(state.files.source.string(),
                    cat("cannot encode: expected a tokenizer.json whose parts fit together, got one at which ", out.view()),
                    "its post_processor may name tokens that it lacks; copy the file again from where the model came from");
  }
}

void add_tokens(TokenizerState& state) {
  Json tokens = Json::array();
  for (const TokenToAdd& token : state.files.tokens_to_add) {
    Json entry = {{"content", token.content}, {"special", false}};
    entry.update(token.flags);
    tokens.push_back(std::move(entry));
  }
  if (tokens.empty()) return;
  BridgeBuffer out;
  check_bridge(bridge().tokenizer_add_tokens(state.handle, as_bytes(tokens.dump()), out.out()), out,
               state.files.source.string(), "special tokens", "");
}

// What add_bos_token and add_eos_token ask for, as Transformers' update_post_processor makes it.
void set_post_processor(TokenizerState& state) {
  const Json& config = state.files.config;
  if (!config.contains("add_bos_token") && !config.contains("add_eos_token")) return;
  Json special = Json::object();
  const auto asked_for = [&](const std::string& key, const std::string& name) -> std::optional<std::string> {
    const Json wanted = config.value(key, Json(false));
    if (!wanted.is_boolean() && !wanted.is_null())
      throw UserError(state.files.config_file.string(), cat(key, ": expected bool, got ", json_type_name(wanted)));
    if (wanted != Json(true) || !state.files.named_tokens.contains(name)) return std::nullopt;
    const std::string token = state.files.named_tokens[name];
    special[token] = {{"id", token}, {"ids", {state.named_id(name).value()}}, {"tokens", {token}}};
    return token;
  };
  const auto begin = asked_for("add_bos_token", "bos_token"), end = asked_for("add_eos_token", "eos_token");
  const auto append = [&](Json& parts, const char* sequence, int type) {
    if (begin) parts.push_back({{"SpecialToken", {{"id", *begin}, {"type_id", type}}}});
    parts.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    if (end) parts.push_back({{"SpecialToken", {{"id", *end}, {"type_id", type}}}});
  };
  Json single = Json::array(), pair = Json::array();
  append(single, "A", 0);
  append(pair, "A", 0);
  append(pair, "B", 1);
  const Json processor = {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
  BridgeBuffer out;
  check_bridge(bridge().tokenizer_set_post_processor(state.handle, as_bytes(processor.dump()), out.out()), out,
               state.files.config_file.string(), "add_bos_token, add_eos_token", "");
}

std::optional<std::int64_t> read_max_length(const Json& config, const std::string& component) {
  for (const char* key : {"model_max_length", "max_len"}) {
    if (!config.contains(key) || config[key].is_null()) continue;
    const Json& value = config[key];
    if (!value.is_number() || value.get<double>() < 1)
      throw UserError(component,
                      cat(key, ": expected a positive int, got ", value.is_number() ? value.dump() : json_type_name(value)));
    if (value.get<double>() >= kNoLimit) return std::nullopt;
    return value.get<std::int64_t>();
  }
  return std::nullopt;
}

bool is_left(const Json& config, const char* key, const std::string& component, bool otherwise) {
  const Json value = config.value(key, Json());
  if (value.is_null()) return otherwise;
  if (value == Json("right")) return false;
  if (value == Json("left")) return true;
  throw UserError(component,
                  cat(key, ": expected right or left, got ", value.is_string() ? value.dump() : json_type_name(value)));
}

void read_settings(TokenizerState& state, const Json& about) {
  Json& config = state.files.config;
  const std::string component = state.files.config_file.string();
  state.max_length = read_max_length(config, component);
  const bool pads_left = about["padding"].is_object() && about["padding"]["side"] == "left";
  if (is_left(config, "padding_side", component, pads_left)) state.padding_side = PaddingSide::kLeft;
  if (is_left(config, "truncation_side", component, about["truncates_left"] == true))
    state.truncation_side = TruncationSide::kLeft;
  const auto flag = [&](const char* key) {
    const Json value = config.value(key, Json(false));
    if (!value.is_boolean() && !value.is_null())
      throw UserError(component, cat(key, ": expected bool, got ", json_type_name(value)));
    return value == Json(true);
  };
  if (flag("split_special_tokens"))
    throw UserError(component, "split_special_tokens: expected false, got true",
                    "special tokens are never split here; remove the entry");
  // The clean-up was made for WordPiece, and Transformers leaves it out for BPE unless it is asked for by this name.
  state.clean_up = flag("clean_up_tokenization_spaces") &&
                   (about["model"] != "BPE" || flag("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"));
}

std::string fingerprint_of(const TokenizerState& state) {
  Json parts = {{"abi", OUMI_BRIDGE_ABI},
                {"tokenizer", hash_bytes(state.files.tokenizer_json.data(), state.files.tokenizer_json.size())}};
  for (const TokenToAdd& token : state.files.tokens_to_add) parts["added"].push_back({token.content, token.flags});
  for (const char* key : {"add_bos_token", "add_eos_token"}) parts[key] = state.files.config.value(key, Json());
  parts["named"] = state.files.named_tokens;
  for (const auto& [name, source] : state.files.chat_templates) parts["templates"][name] = source;
  const std::string dump = parts.dump(-1, ' ', false, Json::error_handler_t::replace);
  return hash_bytes(dump.data(), dump.size());
}

}  // namespace

TokenizerState::~TokenizerState() {
  if (handle != nullptr) bridge().tokenizer_free(handle);
}

std::optional<std::int32_t> TokenizerState::id(std::string_view token) const {
  const std::int64_t id = bridge().token_to_id(handle, as_bytes(token));
  if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
  return static_cast<std::int32_t>(id);
}

std::optional<std::int32_t> TokenizerState::named_id(const std::string& name) const {
  return files.named_tokens.contains(name) ? id(files.named_tokens[name].get_ref<const std::string&>()) : std::nullopt;
}

std::unique_ptr<TokenizerState> load_tokenizer_state(const std::filesystem::path& folder_or_file,
                                                     const TokenizerOptions& options) {
  bridge();  // says what is missing before any file is read
  auto state = std::make_unique<TokenizerState>();
  state->files = read_tokenizer_files(folder_or_file, options);
  Json about;
  create(*state, about);
  Json& named = state->files.named_tokens;
  if (about["padding"].is_object() && !named.contains("pad_token")) {
    named["pad_token"] = about["padding"]["pad_token"];
    state->files.tokens_to_add.push_back({named["pad_token"], {{"special", true}}});
  }
  if (options.pad_token) {
    named["pad_token"] = *options.pad_token;
    state->files.tokens_to_add.push_back(
        {*options.pad_token, {{"special", true}, {"normalized", false}, {"lstrip", false}, {"rstrip", false}}});
  }
  if (options.fill_in_pad_token && !named.contains("pad_token")) {
    if (state->id(kLlama3Pad)) {
      named["pad_token"] = kLlama3Pad;
    } else if (named.contains("eos_token")) {
      const std::string eos = named["eos_token"];
      named["pad_token"] = eos;
    }
    state->pad_filled_in = named.contains("pad_token");
  }
  if (options.fallback_chat_template && state->files.chat_templates.empty()) {
    state->files.chat_templates["default"] = *options.fallback_chat_template;
    state->files.chat_template_origins["default"] = "model.chat_template";
  }
  add_tokens(*state);
  set_post_processor(*state);
  try_out(*state);
  read_settings(*state, about);
  if (options.model_max_length) state->max_length = options.model_max_length;
  state->vocab_size = static_cast<std::int64_t>(bridge().vocab_size(state->handle));
  state->pad = state->named_id("pad_token");
  state->eos = state->named_id("eos_token");
  state->bos = state->named_id("bos_token");
  state->unk = state->named_id("unk_token");
  for (const auto& [name, source] : state->files.chat_templates)
    state->templates.emplace(name, ChatTemplate(source, named, state->files.chat_template_origins[name]));
  state->fingerprint = fingerprint_of(*state);
  state->files.tokenizer_json = {};
  return state;
}

}  // namespace oumi::text
