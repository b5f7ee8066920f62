#include "oumi/base/files.h"
#include "oumi/text/bridge.h"
#include "oumi/text/tokenizer_state.h"

namespace oumi {
namespace {

// tokenizer_config.json as Transformers 5 writes it: what was loaded, with the tokens and limits that are now in force.
Json saved_config(const text::TokenizerState& state) {
  nlohmann::json config = state.files.config;  // sorted by key
  for (const char* key : {"added_tokens_decoder", "additional_special_tokens", "chat_template", "add_bos_token",
                          "add_eos_token", "name_or_path", "tokenizer_file"})
    config.erase(key);
  for (const auto& [name, token] : state.files.named_tokens.items()) config[name] = token;
  // Transformers 5 reads a list under this name as well as under its own, extra_special_tokens, which version 4 can't read.
  if (!state.files.extra_tokens.empty()) {
    config.erase("extra_special_tokens");
    config["additional_special_tokens"] = state.files.extra_tokens;
  }
  if (state.max_length)
    config["model_max_length"] = *state.max_length;
  else
    config.erase("model_max_length");
  if (state.padding_side == PaddingSide::kLeft || config.contains("padding_side"))
    config["padding_side"] = state.padding_side == PaddingSide::kLeft ? "left" : "right";
  if (state.truncation_side == TruncationSide::kLeft || config.contains("truncation_side"))
    config["truncation_side"] = state.truncation_side == TruncationSide::kLeft ? "left" : "right";
  if (!config.contains("tokenizer_class"))
    config["tokenizer_class"] = state.files.has_tokenizer_json ? "PreTrainedTokenizerFast" : "GPT2Tokenizer";
  return config;
}

}  // namespace

std::vector<std::string> Tokenizer::save(const std::filesystem::path& folder) const {
  make_directories(folder);
  std::vector<std::string> written;
  const auto write = [&](const std::string& name, std::string_view contents) {
    write_file_atomically(folder / name, contents);
    written.push_back(name);
  };
  text::BridgeBuffer json;
  text::check_bridge(text::bridge().tokenizer_json(state_->handle, json.out()), json, folder.string(),
                     "tokenizer.json cannot be written", "");
  write("tokenizer.json", json.view());
  write("tokenizer_config.json", saved_config(*state_).dump(2) + "\n");
  Json map = Json::object();
  for (const std::string& name : text::special_token_names()) {
    if (state_->files.named_tokens.contains(name)) map[name] = state_->files.named_tokens[name];
  }
  write("special_tokens_map.json", map.dump(2) + "\n");
  for (const auto& [name, chat] : state_->templates) {
    if (name == "default") {
      write("chat_template.jinja", chat.source());
    } else {
      make_directories(folder / "chat_templates");
      write("chat_templates/" + name + ".jinja", chat.source());
    }
  }
  return written;
}

}  // namespace oumi
