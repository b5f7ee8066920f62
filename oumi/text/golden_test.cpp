// Against Transformers (tests/golden/text.py).
#include <cstdlib>
#include <map>
#include <set>
#include <thread>

#include "oumi/text/test_support.h"

namespace oumi {
namespace {

using Ids = std::vector<std::int32_t>;
using testing::ElementsAreArray;

std::vector<std::string> golden_texts() { return golden_text()["texts"]; }

Json offsets_of(const Encoding& encoding) {
  Json offsets = Json::array();
  for (const auto& [begin, end] : encoding.offsets) offsets.push_back({begin, end});
  return offsets;
}

std::shared_ptr<const Tokenizer> load_with_kwargs(const std::filesystem::path& path, Json kwargs) {
  TokenizerOptions options;
  options.kwargs = std::move(kwargs);
  return Tokenizer::load(path, options);
}

class GoldenTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    OUMI_NEEDS_BRIDGE();
    tokenizer = Tokenizer::load(golden_tokenizer(GetParam()));
    golden = golden_text()["kinds"][GetParam()];
  }
  std::shared_ptr<const Tokenizer> tokenizer;
  Json golden;
};

TEST_P(GoldenTokenizer, EncodesAndDecodesAsTransformers) {
  const auto texts = golden_texts();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE(texts[i]);
    const Json& row = golden["encodings"][i];
    EXPECT_EQ(tokenizer->encode(texts[i], {.add_special_tokens = false}), row["ids"].get<Ids>());
    const Ids ids = row["with_special"];
    EXPECT_EQ(tokenizer->encode(texts[i]), ids);
    const Encoding full = tokenizer->encode_full(texts[i]);
    EXPECT_EQ(full.ids, ids);
    EXPECT_EQ(offsets_of(full), row["offsets"]);
    EXPECT_EQ(Json(full.special_tokens_mask), row["special"]);
    EXPECT_EQ(tokenizer->decode(ids), row["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer->decode(ids, {.skip_special_tokens = true}), row["decoded_skipping"].get<std::string>());
  }
}

TEST_P(GoldenTokenizer, KnowsItsTokensAndLimits) {
  EXPECT_EQ(tokenizer->vocab_size(), golden["size"].get<std::int64_t>());
  EXPECT_EQ(tokenizer->special_tokens(), golden["special_tokens"]);
  EXPECT_EQ(tokenizer->padding_side() == PaddingSide::kLeft ? "left" : "right", golden["padding_side"]);
  EXPECT_EQ(tokenizer->model_max_length() ? Json(*tokenizer->model_max_length()) : Json(), golden["model_max_length"]);
  for (const auto& [name, token] : golden["special_tokens"].items()) {
    const auto id = tokenizer->token_to_id(token.get<std::string>());
    ASSERT_TRUE(id) << name;
    EXPECT_EQ(tokenizer->id_to_token(*id), token.get<std::string>());
    const std::map<std::string, std::optional<std::int32_t>> ids = {{"pad_token", tokenizer->pad_id()},
                                                                    {"eos_token", tokenizer->eos_id()},
                                                                    {"bos_token", tokenizer->bos_id()},
                                                                    {"unk_token", tokenizer->unk_id()}};
    if (ids.contains(name)) {
      EXPECT_EQ(ids.at(name), id) << name;
    }
  }
  EXPECT_FALSE(tokenizer->token_to_id("no such token"));
  EXPECT_FALSE(tokenizer->id_to_token(1 << 20));
  EXPECT_FALSE(tokenizer->id_to_token(-1));
}

TEST_P(GoldenTokenizer, EncodesBatchesAsOneByOneFromSeveralThreads) {
  std::vector<std::string> texts;
  for (int i = 0; i < 20; ++i) {
    for (const std::string& text : golden_texts()) texts.push_back(text + std::to_string(i % 3));
  }
  std::vector<Ids> expected;
  for (const std::string& text : texts) expected.push_back(tokenizer->encode(text));
  const auto check = [&](bool offsets) {
    const auto batch = tokenizer->encode_batch(texts, {.add_special_tokens = true, .offsets = offsets});
    std::vector<Ids> ids;
    for (const Encoding& encoding : batch) {
      ids.push_back(encoding.ids);
      if (encoding.offsets.size() != (offsets ? encoding.ids.size() : 0)) return false;
    }
    return ids == expected;
  };
  bool same[4] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&, i] { same[i] = check(i % 2 == 1); });
  for (std::thread& thread : threads) thread.join();
  for (const bool one : same) EXPECT_TRUE(one);
  EXPECT_TRUE(tokenizer->encode_batch(std::vector<std::string>{}).empty());
}

TEST_P(GoldenTokenizer, SavesWhatLoadsTheSame) {
  const TemporaryDirectory folder;
  TokenizerOptions options;
  options.kwargs = {{"chat_template", "{{ messages[0].content }}"}};
  options.pad_token = "<a pad>";
  options.model_max_length = 77;
  const auto changed = Tokenizer::load(golden_tokenizer(GetParam()), options);
  EXPECT_THAT(changed->save(folder.path()), testing::ElementsAre("tokenizer.json", "tokenizer_config.json",
                                                                 "special_tokens_map.json", "chat_template.jinja"));
  // For tests/golden/text_check.py.
  if (const char* keep = std::getenv("OUMI_SAVE_TOKENIZERS")) changed->save(std::filesystem::path(keep) / GetParam());
  const auto loaded = Tokenizer::load(folder.path());
  EXPECT_EQ(loaded->vocab_size(), tokenizer->vocab_size() + 1);
  EXPECT_EQ(loaded->pad_id(), tokenizer->vocab_size());
  EXPECT_EQ(loaded->special_tokens(), changed->special_tokens());
  EXPECT_EQ(loaded->model_max_length(), 77);
  EXPECT_EQ(loaded->padding_side(), tokenizer->padding_side());
  EXPECT_EQ(loaded->chat_template(), "{{ messages[0].content }}");
  for (const std::string& text : golden_texts()) {
    EXPECT_EQ(loaded->encode(text), tokenizer->encode(text));
    EXPECT_EQ(loaded->decode(loaded->encode(text)), tokenizer->decode(tokenizer->encode(text)));
  }
  EXPECT_NE(changed->fingerprint(), tokenizer->fingerprint());
  EXPECT_EQ(Tokenizer::load(golden_tokenizer(GetParam()))->fingerprint(), tokenizer->fingerprint());
}

TEST_P(GoldenTokenizer, MasksWhatTheAssistantSays) {
  for (const Json& row : golden["masked"]) {
    const std::string chat = row["chat"];
    SCOPED_TRACE(chat);
    const auto with_template = load_with_kwargs(golden_tokenizer(GetParam()), {{"chat_template", row["template"]}});
    const ChatTokens tokens = with_template->encode_chat(golden_text()["chats"][chat]);
    EXPECT_EQ(tokens.ids, row["ids"].get<Ids>());
    EXPECT_EQ(Json(tokens.assistant_mask), row["mask"]);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizer, testing::Values("bytelevel", "sentencepiece_bpe", "unigram", "wordpiece"),
                         [](const auto& info) { return info.param; });

TEST(Gpt2Files, EncodeAsTransformers) {
  OUMI_NEEDS_BRIDGE();
  const Json& golden = golden_text()["gpt2"];
  for (const char* name : {"", "vocab.json"}) {
    const auto tokenizer = Tokenizer::load(golden_tokenizer("vocab_and_merges") / name);
    EXPECT_EQ(tokenizer->vocab_size(), golden["size"].get<std::int64_t>());
    EXPECT_EQ(tokenizer->special_tokens(), golden["special_tokens"]);
    const auto texts = golden_texts();
    for (std::size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(tokenizer->encode(texts[i]), golden["ids"][i].get<Ids>()) << texts[i];
  }
}

// Ids alone take a shorter way than ids with offsets (bridge/src/words.rs), which are the crate's: for every way to cut text
// that it knows, and some that it doesn't.
TEST(Words, AreThoseOfTheWholePipeline) {
  OUMI_NEEDS_BRIDGE();
  const std::string path = golden_tokenizer("bytelevel") / "tokenizer.json";
  const auto level = [](bool regex, bool prefix) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"trim_offsets", true}, {"use_regex", regex}};
  };
  const auto digits = [](bool individual) { return Json{{"type", "Digits"}, {"individual_digits", individual}}; };
  const auto split = [](const char* pattern, const char* behavior, bool invert) {
    return Json{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", behavior}, {"invert", invert}};
  };
  const auto sequence = [](std::initializer_list<Json> parts) {
    return Json{{"type", "Sequence"}, {"pretokenizers", Json(std::vector<Json>(parts))}};
  };
  constexpr const char* kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::vector<Json> cuts = {level(true, false),
                                  level(true, true),
                                  level(false, false),
                                  sequence({digits(true), level(true, false)}),
                                  sequence({digits(false), level(true, false)}),
                                  sequence({split(kLlama3, "Isolated", false), level(false, false)}),
                                  sequence({split("[ \\n]+", "Removed", false), level(false, false)}),
                                  sequence({split("\\w+", "Removed", true), level(true, false)}),
                                  sequence({split("x*", "Isolated", false), level(false, false)}),
                                  sequence({level(true, false), digits(true)})};
  const Json none, nfc = {{"type", "NFC"}}, lower = {{"type", "Lowercase"}};
  std::vector<std::string> texts = golden_texts();
  for (const char* text :
       {"", " ", "a", "I'll say 12345, they'd say 3.14\u00b2 \u0664\u0665!", "x  \n\n\ty   z\r\n ", "e\u0301\u212a\u00e9",
        "<|endoftext|>", "in<|endoftext|> the text", "\U0001f600\U0001f468\u200d\U0001f469 \u4f60\u597d\u3000\u00a0"})
    texts.emplace_back(text);
  texts.push_back(std::string(300, 'w') + std::string(300, ' '));
  Json changed = read_json_file(path);
  const auto around = [](const char* id) { return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; };
  const auto sequence_of = [](const char* id) { return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
  const auto special = [&](const char* token) {
    const auto id = Tokenizer::load(golden_tokenizer("bytelevel"))->token_to_id(token).value();
    return Json{{"id", token}, {"ids", {id}}, {"tokens", {token}}};
  };
  changed["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {around("<|endoftext|>"), sequence_of("A"), around("<|im_end|>"), around("<|im_end|>")}},
      {"pair", {sequence_of("A"), sequence_of("B")}},
      {"special_tokens", {{"<|endoftext|>", special("<|endoftext|>")}, {"<|im_end|>", special("<|im_end|>")}}}};
  for (const Json& cut : cuts) {
    for (const Json& normalizer : {none, nfc, lower}) {
      changed["pre_tokenizer"] = cut;
      changed["normalizer"] = normalizer;
      const TemporaryDirectory folder;
      write_file_atomically(folder.path() / "tokenizer.json", changed.dump());
      const auto tokenizer = Tokenizer::load(folder.path());
      for (int twice = 0; twice < 2; ++twice) {  // the second time words are remembered
        for (const std::string& text : texts) {
          for (const bool framed : {false, true}) {
            EXPECT_EQ(tokenizer->encode(text, {.add_special_tokens = framed}),
                      tokenizer->encode_full(text, {.add_special_tokens = framed}).ids)
                << cut.dump() << normalizer.dump() << text;
          }
        }
      }
    }
  }
}

TEST(TokenizerKwargs, ChangeWhatIsLoaded) {
  OUMI_NEEDS_BRIDGE();
  for (const Json& row : golden_text()["kwargs"]) {
    SCOPED_TRACE(row["kwargs"].dump());
    const auto tokenizer = load_with_kwargs(golden_tokenizer("bytelevel"), row["kwargs"]);
    EXPECT_EQ(tokenizer->vocab_size(), row["size"].get<std::int64_t>());
    EXPECT_EQ(tokenizer->encode("the lighthouse <x> keeper"), row["ids"].get<Ids>());
    EXPECT_EQ(tokenizer->special_tokens(), row["special_tokens"]);
  }
}

// The text, or nothing when the template raises.
Json rendered(const ChatTemplate& chat, const Json& messages, const ChatRenderOptions& options) {
  try {
    return chat.render(messages, options).text;
  } catch (const UserError& error) {
    return error.message().find("refuses") != std::string::npos ? Json() : Json(error.what());
  }
}

TEST(ChatTemplates, BuiltInOnesGiveOumisText) {
  OUMI_NEEDS_BRIDGE();
  const auto tokenizer = Tokenizer::load(golden_tokenizer("bytelevel"));
  std::set<std::string> names;
  for (const Json& row : golden_text()["builtin"]) {
    SCOPED_TRACE(row.dump());
    names.insert(row["template"].get<std::string>());
    const ChatTemplate chat(builtin_chat_template(row["template"].get<std::string>()), tokenizer->special_tokens());
    EXPECT_EQ(rendered(chat, golden_text()["chats"][row["chat"].get<std::string>()],
                       {.add_generation_prompt = row["add_generation_prompt"]}),
              row["text"]);
  }
  EXPECT_THAT(builtin_chat_template_names(), ElementsAreArray(names));
}

TEST(ChatTemplates, RenderAsJinjaDoes) {
  OUMI_NEEDS_BRIDGE();
  const auto tokenizer = Tokenizer::load(golden_tokenizer("bytelevel"));
  for (const Json& row : golden_text()["features"]) {
    SCOPED_TRACE(row["name"].get<std::string>());
    const ChatTemplate chat(row["template"], tokenizer->special_tokens());
    EXPECT_EQ(
        rendered(
            chat, golden_text()["tool_chat"],
            {.add_generation_prompt = row["add_generation_prompt"], .tools = golden_text()["tools"], .documents = nullptr}),
        row["text"]);
  }
}

}  // namespace
}  // namespace oumi
