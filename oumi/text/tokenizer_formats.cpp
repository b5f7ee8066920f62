#include "oumi/text/tokenizer_formats.h"

#include <unordered_set>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi::text {
namespace {

using LargeJson = nlohmann::json;

constexpr const char* kCopyAgain = "copy the file again from where the model came from";

LargeJson read_vocabulary(const std::filesystem::path& path) {
  LargeJson vocab = parse_large_json(read_text_file(path), path.string());
  if (!vocab.is_object())
    throw UserError(path.string(), cat("expected a dict of token to id, got ", json_type_name(vocab)), kCopyAgain);
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned()) {
      throw UserError(
          path.string(),
          cat(token, ": expected an id (int, not negative), got ", id.is_number_integer() ? id.dump() : json_type_name(id)),
          kCopyAgain);
    }
  }
  return vocab;
}

LargeJson read_merges(const std::filesystem::path& path, const LargeJson& vocab, const std::string& vocab_name) {
  const std::string origin = path.string();
  LargeJson merges = LargeJson::array();
  std::size_t number = 0;
  for (const std::string& raw : split(read_text_file(path), '\n')) {
    ++number;
    const std::string line = raw.ends_with('\r') ? raw.substr(0, raw.size() - 1) : raw;
    if (line.empty() || line.starts_with("#version")) continue;
    const auto space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      throw UserError(origin, cat("line ", number, ": expected two tokens with a space between them, got '", line, "'"),
                      kCopyAgain);
    }
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    for (const std::string& token : {left, right, left + right}) {
      if (!vocab.contains(token))
        throw UserError(origin, cat("line ", number, ": expected tokens of ", vocab_name, ", got '", token, "'"),
                        "the two files belong to different tokenizers");
    }
    merges.push_back({left, right});
  }
  return merges;
}

std::string explain_vocabulary(const std::string& type, const LargeJson& vocab) {
  if (type == "Unigram") {
    if (!vocab.is_array()) return cat("model.vocab: expected a list of [token, score], got ", json_type_name(vocab));
    for (std::size_t i = 0; i < vocab.size(); ++i) {
      const LargeJson& pair = vocab[i];
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number())
        return cat("model.vocab[", i, "]: expected [token, score], got ", pair.is_array() ? pair.dump() : json_type_name(pair));
    }
    return "";
  }
  if (!vocab.is_object()) return cat("model.vocab: expected a dict of token to id, got ", json_type_name(vocab));
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned())
      return cat("model.vocab.", token, ": expected an id (int, not negative), got ",
                 id.is_number_integer() ? id.dump() : json_type_name(id));
  }
  return "";
}

std::string explain_model(const LargeJson& json) {
  if (!json.contains("model")) return "model: expected a dict, got nothing";
  const LargeJson& model = json["model"];
  if (!model.is_object()) return cat("model: expected a dict, got ", json_type_name(model));
  std::string type;
  if (model.contains("type")) {
    if (!model["type"].is_string()) return cat("model.type: expected str, got ", json_type_name(model["type"]));
    type = model["type"];
    static const std::unordered_set<std::string> kTypes = {"BPE", "WordPiece", "WordLevel", "Unigram"};
    if (!kTypes.contains(type)) return cat("model.type: expected BPE, WordPiece, WordLevel or Unigram, got '", type, "'");
  }
  if (!model.contains("vocab")) return "model.vocab: expected the vocabulary, got nothing";
  if (!type.empty()) {
    if (std::string fault = explain_vocabulary(type, model["vocab"]); !fault.empty()) return fault;
  }
  if (type != "BPE") return "";
  if (!model.contains("merges")) return "model.merges: expected a list, got nothing";
  if (!model["merges"].is_array()) return cat("model.merges: expected a list, got ", json_type_name(model["merges"]));
  for (std::size_t i = 0; i < model["merges"].size(); ++i) {
    const LargeJson& merge = model["merges"][i];
    if (!merge.is_string() && !(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()))
      return cat("model.merges[", i, "]: expected \"left right\" or [left, right], got ", json_type_name(merge));
  }
  return "";
}

std::string explain_added_tokens(const LargeJson& added) {
  if (!added.is_array()) return cat("added_tokens: expected a list, got ", json_type_name(added));
  for (std::size_t i = 0; i < added.size(); ++i) {
    const std::string key = cat("added_tokens[", i, "]");
    if (!added[i].is_object()) return cat(key, ": expected a dict, got ", json_type_name(added[i]));
    const auto got = [&](const char* name) { return added[i].contains(name) ? json_type_name(added[i][name]) : "nothing"; };
    if (got("content") != "str") return cat(key, ".content: expected str, got ", got("content"));
    if (got("id") != "int" || added[i]["id"] < 0) return cat(key, ".id: expected int, not negative, got ", got("id"));
  }
  return "";
}

}  // namespace

Gpt2Files read_gpt2_files(const std::filesystem::path& vocab_file, const std::filesystem::path& merges_file,
                          const Gpt2Options& options) {
  LargeJson vocab = read_vocabulary(vocab_file);
  LargeJson merges = read_merges(merges_file, vocab, vocab_file.filename().string());
  const bool has_end_of_text = vocab.contains("<|endoftext|>");
  const auto byte_level = [](bool add_prefix_space, bool trim_offsets) {
    return LargeJson{
        {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", trim_offsets}, {"use_regex", true}};
  };
  const LargeJson json = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", LargeJson::array()},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level(options.add_prefix_space, true)},
                          {"post_processor", byte_level(true, false)},
                          {"decoder", byte_level(true, true)},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", ""},
                            {"end_of_word_suffix", ""},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", false},
                            {"vocab", std::move(vocab)},
                            {"merges", std::move(merges)}}}};
  return {json.dump(-1, ' ', false, LargeJson::error_handler_t::replace), has_end_of_text};
}

std::string explain_tokenizer_json(const std::string& text, const std::string& origin) {
  const LargeJson json = parse_large_json(text, origin);
  if (!json.is_object()) return cat("expected a dict, got ", json_type_name(json));
  if (std::string fault = explain_model(json); !fault.empty()) return fault;
  if (json.contains("added_tokens")) {
    if (std::string fault = explain_added_tokens(json["added_tokens"]); !fault.empty()) return fault;
  }
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    if (!json.contains(part) || json[part].is_null()) continue;
    if (!json[part].is_object()) return cat(part, ": expected a dict or null, got ", json_type_name(json[part]));
    if (!json[part].contains("type") || !json[part]["type"].is_string())
      return cat(part, ".type: expected str, got ",
                 json[part].contains("type") ? json_type_name(json[part]["type"]) : "nothing");
  }
  return "";
}

}  // namespace oumi::text
