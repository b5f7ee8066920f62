#include "oumi/text/build_tokenizer.h"

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kGpt2Pad = "<|endoftext|>";

// config.json's model_type; empty without such a file.
std::string model_type(const std::filesystem::path& folder_or_file) {
  std::error_code ignored;
  const auto folder = std::filesystem::is_directory(folder_or_file, ignored) ? folder_or_file : folder_or_file.parent_path();
  const auto path = folder / "config.json";
  if (!std::filesystem::is_regular_file(path, ignored)) return "";
  const Json config = read_json_file(path);
  return config.is_object() && config.contains("model_type") && config["model_type"].is_string()
             ? config["model_type"].get<std::string>()
             : "";
}

}  // namespace

BuiltTokenizer build_tokenizer(const std::filesystem::path& folder, const ModelParams& params) {
  const std::string type = model_type(folder);
  TokenizerOptions options;
  options.kwargs = params.tokenizer_kwargs;
  options.pad_token = params.tokenizer_pad_token;
  options.model_max_length = params.model_max_length;
  options.fill_in_pad_token = true;
  if (type == "gpt2" && !options.pad_token) options.pad_token = kGpt2Pad;

  std::string name = params.chat_template.value_or("");
  const bool own = to_lower(name) == "auto";
  if (name.empty() && type == "gpt2") name = "gpt2";
  if (!name.empty() && !own) options.chat_template = builtin_chat_template(name);
  if (name.empty()) options.fallback_chat_template = builtin_chat_template("default");

  auto tokenizer = Tokenizer::load(folder, options);
  const Json& tokens = tokenizer->special_tokens();
  if (!tokenizer->pad_id()) {
    throw UserError("model.tokenizer_pad_token",
                    cat("expected a padding token, got none: ", folder.string(), " has neither pad_token nor eos_token"),
                    "name one, for example tokenizer_pad_token: \"<pad>\"");
  }
  std::vector<std::string> notices;
  if (tokenizer->pad_filled_in()) {
    notices.push_back(cat("the tokenizer has no padding token; ", tokens["pad_token"].get<std::string>(),
                          " stands in (model.tokenizer_pad_token chooses another)"));
  }
  if (options.fallback_chat_template && tokenizer->chat_template() == *options.fallback_chat_template) {
    notices.emplace_back(
        "the tokenizer has no chat template; 'default' stands in, which uses no special tokens (model.chat_template chooses "
        "another)");
  }
  return {std::move(tokenizer), std::move(notices)};
}

}  // namespace oumi
