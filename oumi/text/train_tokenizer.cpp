#include "oumi/text/train_tokenizer.h"

#include <algorithm>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/text/bridge.h"
#include "oumi/text/builtin_templates.h"
#include "oumi/text/tokenizer.h"
#include "oumi/text/training_text.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

// Rare characters beyond these, or beyond half of the vocabulary, are spelled with bytes or are unknown.
constexpr std::int64_t kAlphabetLimit = 1000;
constexpr int kBytes = 256;
constexpr const char* kBlock = "\u2581";  // stands for a space

struct Kind {
  const char* name;
  const char* trainer;                                            // the bridge's
  std::vector<std::pair<const char*, const char*>> named_tokens;  // in the order of their ids
  bool bytes_in_vocabulary = false;
  bool limits_alphabet = false;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> kKinds = {
      {"bytelevel",
       "bpe",
       {{"eos_token", "<|endoftext|>"},
        {"bos_token", "<|endoftext|>"},
        {"unk_token", "<|endoftext|>"},
        {"pad_token", "<|pad|>"}}},
      {"bpe", "bpe", {{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}}, true, true},
      {"unigram", "unigram", {{"pad_token", "<pad>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"bos_token", "<s>"}}},
      {"wordpiece",
       "wordpiece",
       {{"pad_token", "[PAD]"},
        {"unk_token", "[UNK]"},
        {"cls_token", "[CLS]"},
        {"sep_token", "[SEP]"},
        {"mask_token", "[MASK]"}},
       false,
       true},
  };
  return kKinds;
}

const Kind& find_kind(const std::string& name) {
  for (const Kind& kind : kinds()) {
    if (kind.name == to_lower(name)) return kind;
  }
  throw UserError("--kind", cat("expected ", join(tokenizer_kinds(), ", "), ", got '", name, "'"),
                  suggestion(name, tokenizer_kinds()));
}

std::string byte_token(int byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">";
}

// The 256 characters that stand for bytes in byte-level BPE: printable Latin-1 for itself, the rest from U+0100 on (GPT-2).
std::string byte_level_alphabet() {
  std::string alphabet;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = printable ? byte : next++;
    if (code < 0x80) {
      alphabet += static_cast<char>(code);
    } else {
      alphabet += static_cast<char>(0xC0 | (code >> 6));
      alphabet += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return alphabet;
}

struct Plan {
  Json named_tokens = Json::object();
  std::vector<std::string> special_tokens;  // all of them, in the order of their ids
  std::string chat_template;
};

void read_chat_template(const TrainTokenizerOptions& options, Plan& plan, std::vector<std::string>& tokens,
                        std::string& end_of_turn) {
  if (!options.chat_template) return;
  const auto names = builtin_chat_template_names();
  std::error_code ignored;
  if (std::find(names.begin(), names.end(), to_lower(*options.chat_template)) == names.end() &&
      fs::is_regular_file(*options.chat_template, ignored)) {
    plan.chat_template = read_text_file(*options.chat_template);
    const ChatTemplate parsed(plan.chat_template, Json::object(), *options.chat_template);
    return;
  }
  const text::BuiltinTemplate& builtin = text::builtin_template(*options.chat_template);
  plan.chat_template = builtin.source;
  tokens = builtin.tokens;
  end_of_turn = builtin.end_of_turn;
}

Plan make_plan(const Kind& kind, const TrainTokenizerOptions& options) {
  Plan plan;
  std::vector<std::string> template_tokens;
  std::string end_of_turn;
  read_chat_template(options, plan, template_tokens, end_of_turn);
  std::set<std::string> seen;
  const auto add = [&](const std::string& token) {
    if (token.empty()) throw UserError("--special", "expected a token, got an empty one");
    if (seen.insert(token).second) plan.special_tokens.push_back(token);
  };
  for (const auto& [name, token] : kind.named_tokens) plan.named_tokens[name] = token;
  if (!end_of_turn.empty()) plan.named_tokens["eos_token"] = end_of_turn;
  const std::vector<std::pair<const char*, const std::optional<std::string>*>> given = {{"bos_token", &options.bos_token},
                                                                                        {"eos_token", &options.eos_token},
                                                                                        {"unk_token", &options.unk_token},
                                                                                        {"pad_token", &options.pad_token}};
  for (const auto& [name, token] : given) {
    if (*token) plan.named_tokens[name] = **token;
  }
  for (const auto& [name, token] : plan.named_tokens.items()) add(token.get<std::string>());
  for (const std::string& token : template_tokens) add(token);
  for (const std::string& token : options.special_tokens) add(token);
  return plan;
}

// What stands around a text: Transformers' TemplateProcessing.
Json template_processor(const std::vector<std::string>& before, const std::vector<std::string>& after,
                        const std::vector<std::string>& ids) {
  Json special = Json::object();
  const auto append = [&](Json& parts, const std::vector<std::string>& tokens, int type) {
    for (const std::string& token : tokens) {
      const auto id = std::find(ids.begin(), ids.end(), token) - ids.begin();
      special[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
      parts.push_back({{"SpecialToken", {{"id", token}, {"type_id", type}}}});
    }
  };
  Json single = Json::array(), pair = Json::array();
  append(single, before, 0);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  append(single, after, 0);
  for (const Json& part : single) pair.push_back(part);
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  append(pair, after, 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

Json post_processor(const Kind& kind, const Plan& plan, const TrainTokenizerOptions& options) {
  std::vector<std::string> before, after;
  const auto take = [&](const char* name, const char* option, std::vector<std::string>& place) {
    if (!plan.named_tokens.contains(name)) throw UserError(option, cat("expected a ", name, " to add, got none"), "name one");
    place.push_back(plan.named_tokens[name]);
  };
  if (kind.name == std::string("wordpiece")) take("cls_token", "", before);
  if (options.add_bos_token) take("bos_token", "--add-bos", before);
  if (options.add_eos_token) take("eos_token", "--add-eos", after);
  if (kind.name == std::string("wordpiece")) take("sep_token", "", after);
  if (!before.empty() || !after.empty()) return template_processor(before, after, plan.special_tokens);
  if (kind.name == std::string("bytelevel"))
    return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  return nullptr;
}

// tokenizer.json with an empty vocabulary.
Json empty_tokenizer(const Kind& kind, const Plan& plan, const TrainTokenizerOptions& options) {
  const std::string name = kind.name;
  const Json unk = plan.named_tokens.value("unk_token", Json());
  Json json = {{"version", "1.0"},      {"truncation", nullptr},    {"padding", nullptr}, {"added_tokens", Json::array()},
               {"normalizer", nullptr}, {"post_processor", nullptr}};
  const Json bpe = {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"ignore_merges", false},
                    {"vocab", Json::object()},
                    {"merges", Json::array()}};
  const Json metaspace = {{"type", "Metaspace"}, {"replacement", kBlock}, {"prepend_scheme", "first"}, {"split", true}};
  if (name == "bytelevel") {
    const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    json["pre_tokenizer"] = byte_level;
    json["decoder"] = byte_level;
    json["model"] = bpe;
    json["model"].update({{"unk_token", nullptr}, {"fuse_unk", false}, {"byte_fallback", false}});
  } else if (name == "bpe") {
    const Json lines = {{"type", "Split"}, {"pattern", {{"String", "\n"}}}, {"behavior", "Isolated"}, {"invert", false}};
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {lines, metaspace, digits}}};
    const Json blocks = {{"type", "Replace"}, {"pattern", {{"String", kBlock}}}, {"content", " "}};
    const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
    json["decoder"] = {{"type", "Sequence"}, {"decoders", {blocks, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}};
    json["model"] = bpe;
    json["model"].update({{"unk_token", unk}, {"fuse_unk", true}, {"byte_fallback", true}});
  } else if (name == "unigram") {
    json["normalizer"] = {{"type", "NFKC"}};
    json["pre_tokenizer"] = metaspace;
    json["decoder"] = metaspace;
    json["model"] = {
        {"type", "Unigram"}, {"unk_id", 0}, {"vocab", Json::array({Json::array({unk, 0.0})})}, {"byte_fallback", false}};
  } else {
    json["normalizer"] = {{"type", "BertNormalizer"},
                          {"clean_text", true},
                          {"handle_chinese_chars", true},
                          {"strip_accents", nullptr},
                          {"lowercase", options.lowercase}};
    json["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
    json["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
    json["model"] = {{"type", "WordPiece"},
                     {"unk_token", unk},
                     {"continuing_subword_prefix", "##"},
                     {"max_input_chars_per_word", 100},
                     {"vocab", Json::object()}};
  }
  return json;
}

// Puts <0x00> ... <0xFF> between the special tokens and the rest.
void insert_bytes(nlohmann::json& model, std::size_t special_tokens) {
  nlohmann::json vocab = nlohmann::json::object();
  for (const auto& [token, id] : model["vocab"].items()) {
    const auto old = id.get<std::size_t>();
    vocab[token] = old < special_tokens ? old : old + kBytes;
  }
  for (int byte = 0; byte < kBytes; ++byte) vocab[byte_token(byte)] = special_tokens + static_cast<std::size_t>(byte);
  model["vocab"] = std::move(vocab);
}

}  // namespace

std::vector<std::string> tokenizer_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.emplace_back(kind.name);
  return names;
}

TrainedTokenizer train_tokenizer(const TrainTokenizerOptions& options, const fs::path& folder) {
  const Kind& kind = find_kind(options.kind);
  text::bridge();
  const Plan plan = make_plan(kind, options);
  const bool byte_level = kind.name == std::string("bytelevel");
  const auto reserved =
      static_cast<std::int64_t>(plan.special_tokens.size()) + (kind.bytes_in_vocabulary || byte_level ? kBytes : 0);
  if (options.vocab_size <= reserved) {
    throw UserError("--vocab-size",
                    cat("expected more than ", reserved, " (", plan.special_tokens.size(), " special tokens",
                        reserved > kBytes ? " and 256 bytes" : "", "), got ", options.vocab_size),
                    "ask for a larger vocabulary");
  }

  const TemporaryDirectory scratch;
  const Json request = {
      {"tokenizer", empty_tokenizer(kind, plan, options)},
      {"kind", kind.trainer},
      {"vocab_size", options.vocab_size - (kind.bytes_in_vocabulary ? kBytes : 0)},
      {"min_frequency", options.min_frequency},
      {"special_tokens", plan.special_tokens},
      {"alphabet", byte_level ? byte_level_alphabet() : ""},
      {"limit_alphabet",
       kind.limits_alphabet ? Json(std::min(kAlphabetLimit, (options.vocab_size - reserved + 1) / 2)) : Json()},
      {"unk_token", plan.named_tokens.value("unk_token", Json())},
      {"files", text::training_files(options.files, scratch.path())}};
  text::BridgeBuffer out;
  text::check_bridge(
      text::bridge().train(text::as_bytes(request.dump()), out.out()), out, "tokenizer train", "training failed",
      "the files must be UTF-8 text; a vocabulary must be large enough for their characters, and not larger than they give");
  nlohmann::json trained = parse_large_json(out.text(), "tokenizer train");
  if (kind.bytes_in_vocabulary) insert_bytes(trained["model"], plan.special_tokens.size());
  trained["post_processor"] = nlohmann::json(post_processor(kind, plan, options));
  const fs::path draft = scratch.path() / "tokenizer";
  make_directories(draft);
  write_file_atomically(draft / "tokenizer.json", trained.dump());

  TokenizerOptions load;
  for (const auto& [name, token] : plan.named_tokens.items()) load.kwargs[name] = token;
  std::vector<std::string> extra;
  for (const std::string& token : plan.special_tokens) {
    const bool named =
        std::any_of(plan.named_tokens.begin(), plan.named_tokens.end(), [&](const Json& value) { return value == token; });
    if (!named) extra.push_back(token);
  }
  if (!extra.empty()) load.kwargs["extra_special_tokens"] = extra;
  load.model_max_length = options.model_max_length;
  if (!plan.chat_template.empty()) load.chat_template = plan.chat_template;
  const auto tokenizer = Tokenizer::load(draft, load);
  return {tokenizer->save(folder), tokenizer->vocab_size()};
}

}  // namespace oumi
