#include "oumi/text/tokenizer_files.h"

#include <algorithm>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/text/tokenizer_formats.h"

namespace oumi::text {
namespace fs = std::filesystem;

namespace {

constexpr const char* kKwargsComponent = "model.tokenizer_kwargs";

// Keyword arguments that change nothing here: they choose between Python's implementations or say where files come from.
const std::set<std::string> kIgnoredKwargs = {
    "use_fast",          "legacy",          "revision",       "trust_remote_code", "cache_dir", "force_download",
    "local_files_only",  "token",           "subfolder",      "fix_mistral_regex", "verbose",   "name_or_path",
    "model_input_names", "tokenizer_class", "tokenizer_type", "from_slow",         "proxies"};
const std::set<std::string> kKnownKwargs = {"padding_side",
                                            "truncation_side",
                                            "model_max_length",
                                            "add_bos_token",
                                            "add_eos_token",
                                            "chat_template",
                                            "additional_special_tokens",
                                            "extra_special_tokens",
                                            "clean_up_tokenization_spaces",
                                            "add_prefix_space",
                                            "max_length"};

bool file_exists(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

Json read_object(const fs::path& path) {
  Json json = read_json_file(path);
  if (!json.is_object())
    throw UserError(path.string(), cat("expected a JSON object, got ", json_type_name(json)),
                    "copy the file again from where the model came from");
  return json;
}

[[noreturn]] void wrong_type(const std::string& component, const std::string& key, const char* expected, const Json& got) {
  throw UserError(component, cat(key, ": expected ", expected, ", got ", json_type_name(got)),
                  "correct the value, or copy the file again from where the model came from");
}

// "<s>" or {"content": "<s>", "lstrip": ...}.
std::string token_content(const Json& value, const std::string& component, const std::string& key) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  wrong_type(component, key, "a token (str, or dict with content)", value);
}

// The flags that a dict gives; none for a plain string.
Json token_flags(const Json& value) {
  Json flags = Json::object();
  if (!value.is_object()) return flags;
  for (const char* name : {"special", "normalized", "lstrip", "rstrip", "single_word"}) {
    if (value.contains(name) && value[name].is_boolean()) flags[name] = value[name];
  }
  return flags;
}

std::string listing(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  if (names.empty()) return "an empty folder";
  const bool more = names.size() > 8;
  if (more) names.resize(8);
  return join(names, ", ") + (more ? ", ..." : "");
}

// Fills source and config_file; tokenizer_json for a tokenizer.json.
void find_sources(const fs::path& given, TokenizerFiles& files, fs::path& merges) {
  std::error_code ignored;
  if (!fs::exists(given, ignored)) {
    throw UserError(given.string(), "expected a tokenizer's folder or file, got a path that does not exist",
                    "check model.tokenizer_name and model.model_name");
  }
  const bool is_file = !fs::is_directory(given, ignored);
  const fs::path folder = is_file ? given.parent_path() : given;
  files.config_file = folder / "tokenizer_config.json";
  const fs::path vocab = is_file ? given : folder / "vocab.json";
  if (is_file && vocab.filename() != "vocab.json") {
    files.source = given;
    files.has_tokenizer_json = true;
  } else if (!is_file && file_exists(folder / "tokenizer.json")) {
    files.source = folder / "tokenizer.json";
    files.has_tokenizer_json = true;
  } else if (file_exists(vocab) && file_exists(folder / "merges.txt")) {
    files.source = vocab;
    merges = folder / "merges.txt";
  } else {
    const bool sentencepiece = file_exists(folder / "tokenizer.model");
    throw UserError(given.string(),
                    cat("no tokenizer: expected tokenizer.json, or vocab.json and merges.txt, got ", listing(folder)),
                    sentencepiece ? "write a tokenizer.json from tokenizer.model with Transformers: "
                                    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                                  : "give the folder that holds the model's tokenizer files");
  }
}

void check_kwargs(const Json& kwargs) {
  if (!kwargs.is_object()) wrong_type("model", "tokenizer_kwargs", "a dict", kwargs);
  std::vector<std::string> known(kKnownKwargs.begin(), kKnownKwargs.end());
  known.insert(known.end(), special_token_names().begin(), special_token_names().end());
  for (const auto& [key, value] : kwargs.items()) {
    const bool named_token = key.ends_with("_token") && (value.is_string() || value.is_null() || value.is_object());
    if (!named_token && !kKnownKwargs.contains(key) && !kIgnoredKwargs.contains(key)) {
      throw UserError(cat(kKwargsComponent, ".", key), "expected an argument of the tokenizer, got an unknown one",
                      suggestion(key, known));
    }
  }
}

// special_tokens_map.json counts where tokenizer_config.json has no added_tokens_decoder, and then wins over it.
void merge_special_tokens_map(const fs::path& folder, const Json& kwargs, Json& config) {
  const fs::path path = folder / "special_tokens_map.json";
  if (config.contains("added_tokens_decoder") || !file_exists(path)) return;
  const Json map = read_object(path);
  for (const auto& [key, value] : map.items()) {
    if (kwargs.contains(key) && !kwargs[key].is_null()) continue;
    if (key != "additional_special_tokens" && key != "extra_special_tokens") token_content(value, path.string(), key);
    config[key] = value;
  }
}

void read_templates(const fs::path& folder, const TokenizerOptions& options, TokenizerFiles& files) {
  const std::string config_name = files.config_file.string();
  const auto add = [&](const std::string& name, std::string source, std::string origin) {
    files.chat_templates[name] = std::move(source);
    files.chat_template_origins[name] = std::move(origin);
  };
  if (options.chat_template) {
    add("default", *options.chat_template, "model.chat_template");
    return;
  }
  const Json* kwarg = options.kwargs.contains("chat_template") ? &options.kwargs["chat_template"] : nullptr;
  if (kwarg != nullptr && !kwarg->is_null()) {
    if (!kwarg->is_string()) wrong_type(kKwargsComponent, "chat_template", "str", *kwarg);
    add("default", kwarg->get<std::string>(), cat(kKwargsComponent, ".chat_template"));
    return;
  }
  if (file_exists(folder / "chat_template.jinja"))
    add("default", read_text_file(folder / "chat_template.jinja"), (folder / "chat_template.jinja").string());
  std::error_code ignored;
  std::vector<fs::path> named;
  for (const auto& entry : fs::directory_iterator(folder / "chat_templates", ignored)) {
    if (entry.path().extension() == ".jinja") named.push_back(entry.path());
  }
  for (const fs::path& path : named) add(path.stem().string(), read_text_file(path), path.string());
  if (!files.chat_templates.empty() || !files.config.contains("chat_template")) return;
  const Json& value = files.config["chat_template"];
  if (value.is_string()) {
    add("default", value.get<std::string>(), cat(config_name, ": chat_template"));
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      const std::string key = cat("chat_template[", i, "]");
      for (const char* part : {"name", "template"}) {
        if (!value[i].is_object() || !value[i].contains(part) || !value[i][part].is_string())
          wrong_type(config_name, key, "{name, template}, both str", value[i]);
      }
      const std::string name = value[i]["name"];
      add(name, value[i]["template"], cat(config_name, ": chat_template '", name, "'"));
    }
  } else if (!value.is_null()) {
    wrong_type(config_name, "chat_template", "str or a list of {name, template}", value);
  }
}

// Named tokens and extra ones, and everything that the vocabulary may lack.
void collect_tokens(TokenizerFiles& files) {
  const std::string component = files.config_file.string();
  Json& config = files.config;
  for (const std::string& name : special_token_names()) {
    if (config.contains(name) && !config[name].is_null())
      files.named_tokens[name] = token_content(config[name], component, name);
  }
  const auto is_own = [&](const std::string& key, const Json& value) {
    return key.ends_with("_token") && !files.named_tokens.contains(key) &&
           (value.is_string() || (value.is_object() && value.contains("content")));
  };
  std::vector<std::pair<std::string, Json>> own;
  for (const auto& [key, value] : config.items()) {
    if (is_own(key, value)) own.emplace_back(key, value);
  }
  if (!config.contains("extra_special_tokens") && config.contains("additional_special_tokens")) {
    Json additional = config["additional_special_tokens"];
    config["extra_special_tokens"] = std::move(additional);
  }
  config.erase("additional_special_tokens");
  std::vector<TokenToAdd> extra;
  const Json extras = config.value("extra_special_tokens", Json());
  if (extras.is_object()) {
    for (const auto& [key, value] : extras.items()) own.emplace_back(key, value);
  } else if (extras.is_array()) {
    for (std::size_t i = 0; i < extras.size(); ++i) {
      const std::string content = token_content(extras[i], component, cat("extra_special_tokens[", i, "]"));
      files.extra_tokens.push_back(content);
      Json flags = {{"normalized", false}, {"lstrip", false}, {"rstrip", false}, {"single_word", false}};
      flags.update(token_flags(extras[i]));
      extra.push_back({content, std::move(flags)});
    }
  } else if (!extras.is_null()) {
    wrong_type(component, "extra_special_tokens", "a list or dict of tokens", extras);
  }
  for (const auto& [key, value] : own) files.named_tokens[key] = token_content(value, component, key);

  if (config.contains("added_tokens_decoder")) {
    const Json& decoder = config["added_tokens_decoder"];
    if (!decoder.is_object()) wrong_type(component, "added_tokens_decoder", "a dict of id to token", decoder);
    std::map<std::int64_t, const Json*> by_id;
    for (const auto& [id, token] : decoder.items()) {
      try {
        by_id[std::stoll(id)] = &token;
      } catch (const std::exception&) {
        throw UserError(component, cat("added_tokens_decoder: expected ids as keys, got '", id, "'"),
                        "copy the file again from where the model came from");
      }
    }
    for (const auto& [id, token] : by_id)
      files.tokens_to_add.push_back({token_content(*token, component, cat("added_tokens_decoder.", id)), token_flags(*token)});
  }
  for (const auto& [key, value] : files.named_tokens.items()) {
    files.tokens_to_add.push_back({value.get<std::string>(), config.contains(key) ? token_flags(config[key]) : Json::object()});
    files.tokens_to_add.back().flags["special"] = true;
  }
  for (TokenToAdd& token : extra) {
    token.flags["special"] = true;
    files.tokens_to_add.push_back(std::move(token));
  }
}

}  // namespace

const std::vector<std::string>& special_token_names() {
  static const std::vector<std::string> kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                  "pad_token", "cls_token", "mask_token"};
  return kNames;
}

TokenizerFiles read_tokenizer_files(const fs::path& folder_or_file, const TokenizerOptions& options) {
  TokenizerFiles files;
  fs::path merges;
  find_sources(folder_or_file, files, merges);
  const fs::path folder = files.config_file.parent_path();
  if (file_exists(files.config_file)) files.config = read_object(files.config_file);
  if (files.has_tokenizer_json) {
    // Its post-processor says what is added; only arguments override it.
    files.config.erase("add_bos_token");
    files.config.erase("add_eos_token");
  }
  check_kwargs(options.kwargs);
  for (const auto& [key, value] : options.kwargs.items()) {
    if (!kIgnoredKwargs.contains(key)) files.config[key] = value;
  }
  merge_special_tokens_map(folder, options.kwargs, files.config);
  if (files.has_tokenizer_json) {
    files.tokenizer_json = read_text_file(files.source);
  } else {
    Gpt2Files gpt2 = read_gpt2_files(files.source, merges,
                                     {.add_prefix_space = files.config.value("add_prefix_space", Json()) == Json(true)});
    files.tokenizer_json = std::move(gpt2.tokenizer_json);
    for (const char* name : {"bos_token", "eos_token", "unk_token"}) {
      if (gpt2.has_end_of_text && !files.config.contains(name)) files.config[name] = "<|endoftext|>";
    }
  }
  read_templates(folder, options, files);
  collect_tokens(files);
  return files;
}

}  // namespace oumi::text
