// What no reference is needed for: errors, fallbacks, files.
#include <fstream>

#include "oumi/text/build_tokenizer.h"
#include "oumi/text/test_support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class TokenizerFolder : public testing::Test {
 protected:
  void SetUp() override { OUMI_NEEDS_BRIDGE(); }
  fs::path path() const { return folder_.path(); }
  void copy(const std::string& kind) {
    fs::copy(golden_tokenizer(kind), path(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(path() / name) << text; }
  // Changes one entry of a JSON file.
  void set(const std::string& name, const std::string& pointer, const Json& value) {
    Json json = fs::exists(path() / name) ? read_json_file(path() / name) : Json::object();
    json[Json::json_pointer(pointer)] = value;
    write(name, json.dump());
  }
  std::string error(const TokenizerOptions& options = {}) const {
    return user_error([&] { Tokenizer::load(path(), options); });
  }

 private:
  TemporaryDirectory folder_;
};

TEST_F(TokenizerFolder, NamesTheFileAndKeyOfAFault) {
  EXPECT_THAT(error(), AllOf(HasSubstr("expected tokenizer.json, or vocab.json and merges.txt, got an empty folder")));
  write("tokenizer.model", "x");
  EXPECT_THAT(error(), AllOf(HasSubstr("got tokenizer.model"), HasSubstr("save_pretrained")));

  copy("bytelevel");
  const std::string whole = read_text_file(path() / "tokenizer.json");
  write("tokenizer.json", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(error(), AllOf(StartsWith("[" + (path() / "tokenizer.json").string() + "] not valid JSON at line 1, column "),
                             HasSubstr("cut short")));
  write("tokenizer.json", "");
  EXPECT_THAT(error(), HasSubstr("the file is empty"));
  write("tokenizer.json", "{\"model\": 1e999}");
  EXPECT_THAT(error(), HasSubstr("expected numbers that fit a float, got '1e999'"));
  write("tokenizer.json", "[1]");
  EXPECT_THAT(error(), HasSubstr("expected a dict, got list"));

  const std::vector<std::tuple<const char*, Json, const char*>> faults = {
      {"/model", "BPE", "model: expected a dict, got str"},
      {"/model/type", "BEP", "model.type: expected BPE, WordPiece, WordLevel or Unigram, got 'BEP'"},
      {"/model/vocab/a", -1, "model.vocab.a: expected an id (int, not negative), got -1"},
      {"/model/vocab/a", "x", "model.vocab.a: expected an id (int, not negative), got str"},
      {"/model/merges", 3, "model.merges: expected a list, got int"},
      {"/model/merges/0", 3, "model.merges[0]: expected \"left right\" or [left, right], got int"},
      {"/model/merges/0", {"no", "where"}, "not a tokenizer.json that can be read"},
      {"/added_tokens/0/content", 5, "added_tokens[0].content: expected str, got int"},
      {"/added_tokens/1/id", "5", "added_tokens[1].id: expected int, not negative, got str"},
      {"/pre_tokenizer", "ByteLevel", "pre_tokenizer: expected a dict or null, got str"},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<gone>"}, {"type_id", 0}}}}}},
        {"pair", Json::array()},
        {"special_tokens", Json::object()}},
       "post_processor"},
      {"/decoder/type", "Nothing", "not a tokenizer.json that can be read"},
  };
  for (const auto& [pointer, value, expected] : faults) {
    write("tokenizer.json", whole);
    set("tokenizer.json", pointer, value);
    EXPECT_THAT(error(), AllOf(StartsWith("[" + (path() / "tokenizer.json").string() + "] "), HasSubstr(expected))) << pointer;
  }
}

TEST_F(TokenizerFolder, NamesTheKeyOfAWrongSetting) {
  const std::vector<std::tuple<const char*, Json, const char*>> faults = {
      {"/eos_token", 3, "eos_token: expected a token (str, or dict with content), got int"},
      {"/model_max_length", "long", "model_max_length: expected a positive int, got str"},
      {"/model_max_length", 0, "model_max_length: expected a positive int, got 0"},
      {"/padding_side", "up", "padding_side: expected right or left, got \"up\""},
      {"/extra_special_tokens", 1, "extra_special_tokens: expected a list or dict of tokens, got int"},
      {"/extra_special_tokens", {1}, "extra_special_tokens[0]: expected a token"},
      {"/added_tokens_decoder", {{"x", {{"content", "a"}}}}, "added_tokens_decoder: expected ids as keys, got 'x'"},
      {"/chat_template", 1, "chat_template: expected str or a list of {name, template}, got int"},
      {"/chat_template", {{{"name", "default"}}}, "chat_template[0]: expected {name, template}"},
      {"/chat_template", "{% if %}", "chat_template] line 1: "},
      {"/split_special_tokens", true, "split_special_tokens: expected false, got true"},
  };
  for (const auto& [pointer, value, expected] : faults) {
    copy("bytelevel");
    set("tokenizer_config.json", pointer, value);
    EXPECT_THAT(error(), AllOf(HasSubstr((path() / "tokenizer_config.json").string()), HasSubstr(expected))) << pointer;
  }
  copy("bytelevel");
  write("tokenizer_config.json", "{\"eos_token\": ");
  EXPECT_THAT(error(), HasSubstr("tokenizer_config.json] not valid JSON at line 1"));
  copy("bytelevel");
  write("special_tokens_map.json", "{\"eos_token\": [1]}");
  EXPECT_THAT(error(), HasSubstr("special_tokens_map.json] eos_token: expected a token"));
  copy("bytelevel");
  fs::remove(path() / "special_tokens_map.json");
  TokenizerOptions options;
  options.kwargs = {{"paddingside", "left"}};
  EXPECT_THAT(error(options),
              AllOf(StartsWith("[model.tokenizer_kwargs.paddingside]"), HasSubstr("did you mean 'padding_side'?")));
  EXPECT_THAT(user_error([&] { Tokenizer::load(path() / "nowhere"); }), HasSubstr("a path that does not exist"));
}

TEST_F(TokenizerFolder, NamesTheLineOfFaultyMerges) {
  copy("vocab_and_merges");
  write("merges.txt", "#version: 0.2\na b c\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("merges.txt] line 2: expected two tokens with a space between them, got 'a b c'")));
  write("merges.txt", "#version: 0.2\nq zz\n");
  EXPECT_THAT(error(), AllOf(HasSubstr("merges.txt] line 2: expected tokens of vocab.json, got 'zz'"),
                             HasSubstr("different tokenizers")));
  set("vocab.json", "/a", "first");
  EXPECT_THAT(error(), HasSubstr("vocab.json] a: expected an id (int, not negative), got str"));
}

TEST_F(TokenizerFolder, RefusesTextThatIsNotUtf8) {
  copy("bytelevel");
  const auto tokenizer = Tokenizer::load(path());
  EXPECT_THAT(user_error([&] { tokenizer->encode("ab\xff"); }), HasSubstr("cannot encode: not valid UTF-8 at byte 2"));
  const std::vector<std::string> texts = {"a", "\xc3"};
  EXPECT_THAT(user_error([&] { tokenizer->encode_batch(texts); }),
              HasSubstr("cannot encode: text 1: not valid UTF-8 at byte 0"));
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{-5, 1 << 20}), "");
}

TEST_F(TokenizerFolder, ReadsSpecialTokensFromEveryPlaceThatHoldsThem) {
  copy("bytelevel");
  write(
      "special_tokens_map.json",
      R"({"pad_token": {"content": "<|map pad|>", "lstrip": true, "rstrip": false, "normalized": false, "single_word": false}})");
  auto tokenizer = Tokenizer::load(path());
  EXPECT_EQ(tokenizer->special_tokens()["pad_token"], "<|map pad|>");
  EXPECT_EQ(tokenizer->encode("a  <|map pad|>").size(), 2u) << "lstrip is honoured";
  // With added_tokens_decoder the map no longer counts.
  set("tokenizer_config.json", "/added_tokens_decoder",
      {{"0", {{"content", "<|endoftext|>"}, {"special", true}}}, {"900", {{"content", "<new>"}, {"special", false}}}});
  tokenizer = Tokenizer::load(path());
  EXPECT_FALSE(tokenizer->pad_id());
  EXPECT_TRUE(tokenizer->token_to_id("<new>"));
}

TEST_F(TokenizerFolder, TakesTheTemplateFromTheFileFirst) {
  copy("bytelevel");
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  set("tokenizer_config.json", "/chat_template",
      {{{"name", "default"}, {"template", "config"}}, {{"name", "tool_use"}, {"template", "with tools"}}});
  auto tokenizer = Tokenizer::load(path());
  EXPECT_EQ(tokenizer->encode_chat(messages).text, "config");
  ChatRenderOptions options;
  options.tools = Json::array({{{"type", "function"}}});
  EXPECT_EQ(tokenizer->encode_chat(messages, options).text, "with tools");
  tokenizer->save(path() / "saved");
  EXPECT_EQ(Tokenizer::load(path() / "saved")->encode_chat(messages, options).text, "with tools");
  write("chat_template.jinja", "file");
  tokenizer = Tokenizer::load(path());
  EXPECT_EQ(tokenizer->encode_chat(messages).text, "file");
  EXPECT_EQ(tokenizer->encode_chat(messages, options).text, "file");
}

TEST_F(TokenizerFolder, MasksSpansThatBeginAndEndBetweenTokens) {
  copy("wordpiece");
  write("chat_template.jinja",
        "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}");
  const ChatTokens tokens =
      Tokenizer::load(path())->encode_chat({{{"role", "a"}, {"content", " b "}}, {{"role", "a"}, {"content", " c "}}});
  EXPECT_THAT(tokens.assistant_mask, testing::ElementsAre(0, 0, 1, 0, 0, 0, 1, 0));
}

TEST_F(TokenizerFolder, BuildFollowsOumisRules) {
  copy("bytelevel");
  ModelParams params;
  BuiltTokenizer built = build_tokenizer(path(), params);
  EXPECT_EQ(built.tokenizer->pad_id(), built.tokenizer->eos_id());
  EXPECT_EQ(built.tokenizer->chat_template(), builtin_chat_template("default"));
  ASSERT_EQ(built.notices.size(), 2u);
  EXPECT_THAT(built.notices[0], HasSubstr("<|endoftext|> stands in"));

  params.chat_template = "Chat_ML";
  params.tokenizer_pad_token = "<|pad|>";
  params.model_max_length = 64;
  built = build_tokenizer(path(), params);
  EXPECT_EQ(built.tokenizer->chat_template(), builtin_chat_template("chat_ml"));
  EXPECT_EQ(built.tokenizer->id_to_token(*built.tokenizer->pad_id()), "<|pad|>");
  EXPECT_EQ(built.tokenizer->model_max_length(), 64);
  EXPECT_TRUE(built.notices.empty());

  params.chat_template = "chatml";
  EXPECT_THAT(user_error([&] { build_tokenizer(path(), params); }),
              AllOf(StartsWith("[model.chat_template]"), HasSubstr("did you mean 'chat_ml'?")));
  params.chat_template = "auto";
  built = build_tokenizer(path(), params);
  EXPECT_EQ(built.tokenizer->chat_template(), "");
  EXPECT_THAT(user_error([&] { built.tokenizer->chat(); }),
              AllOf(HasSubstr("chat template: expected one, got none"), HasSubstr("chat_ml, default")));

  write("config.json", R"({"model_type": "gpt2"})");
  built = build_tokenizer(path(), {});
  EXPECT_EQ(built.tokenizer->chat_template(), builtin_chat_template("gpt2"));
  EXPECT_EQ(built.tokenizer->id_to_token(*built.tokenizer->pad_id()), "<|endoftext|>");
  set("tokenizer_config.json", "/eos_token", nullptr);
  fs::remove(path() / "config.json");
  EXPECT_THAT(user_error([&] { build_tokenizer(path(), {}); }),
              StartsWith("[model.tokenizer_pad_token] expected a padding token, got none"));
}

TEST(ChatTemplateErrors, NameTheTemplateAndTheLine) {
  OUMI_NEEDS_BRIDGE();
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const auto error = [&](const std::string& source, const Json& given = {{{"role", "user"}, {"content", "x"}}}) {
    return user_error([&] { ChatTemplate(source, Json::object(), "a.jinja").render(given); });
  };
  EXPECT_THAT(error("a\n{% for m in messages %}\n{{ m.content }"),
              AllOf(StartsWith("[a.jinja] line 3: syntax error"), EndsWith("is understood")));
  EXPECT_THAT(error("{% generation %}x"), StartsWith("[a.jinja] line 1: syntax error"));
  EXPECT_THAT(error("\n\n{{ nothing.x }}"), StartsWith("[a.jinja] line 3: undefined value"));
  EXPECT_THAT(error("\n{{ 'a' + 1 }}"), StartsWith("[a.jinja] line 2: "));
  EXPECT_THAT(error("{{ messages | nofilter }}"), HasSubstr("unknown filter"));
  EXPECT_THAT(error("\n{{ raise_exception('roles ' + messages[0].role) }}"),
              StartsWith("[a.jinja] the template refuses the conversation: line 2: roles user |"));
  EXPECT_THAT(error("x", Json::object()), StartsWith("[a.jinja] messages: expected a list of {role, content}, got dict"));
  EXPECT_THAT(error("x", Json::array()), HasSubstr("expected at least one message, got none"));
  EXPECT_THAT(error("x", {{{"role", "user"}}, 3}), HasSubstr("messages[1]: expected a dict, got int"));
  EXPECT_THAT(error("{{ messages[0].content }}", {{{"role", "user"}, {"content", "\xff"}}}), HasSubstr("expected UTF-8 text"));
  EXPECT_THAT(error("{{ strftime_now('%Y') }}"), "no error");
  // Text that could be taken for the markers of spans stays as it is.
  const RenderedChat marked =
      ChatTemplate("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}")
          .render({{{"role", "user"}, {"content", "\uFDD0x\uFDD1"}}});
  EXPECT_EQ(marked.text, "\uFDD0x\uFDD1");
  EXPECT_THAT(marked.generation_spans, testing::ElementsAre(std::pair<std::size_t, std::size_t>{0, 7}));
}

}  // namespace
}  // namespace oumi
