#include "oumi/text/train_tokenizer.h"

#include <fstream>

#include "oumi/text/test_support.h"

namespace oumi {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class TrainTokenizer : public testing::Test {
 protected:
  void SetUp() override {
    OUMI_NEEDS_BRIDGE();
    std::ofstream text(folder_.path() / "text.txt");
    for (int i = 0; i < 30; ++i)
      text << "The keeper of the lighthouse counts 12" << i << " ships, gulls and waves.\nShe writes: 東京 は 静か, déjà vu!\n";
  }
  std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
  TrainTokenizerOptions options(const std::string& kind, std::int64_t vocab_size) const {
    TrainTokenizerOptions result;
    result.files = {path("text.txt")};
    result.kind = kind;
    result.vocab_size = vocab_size;
    return result;
  }
  std::string error(const TrainTokenizerOptions& options) const {
    return user_error([&] { train_tokenizer(options, path("out")); });
  }

 private:
  TemporaryDirectory folder_;
};

TEST_F(TrainTokenizer, GivesTextBackThatItHasNeverSeen) {
  const std::string seen = "The lighthouse counts 12 gulls.", unseen = "Ünknown → 😀 <|im_start|> 漢字\n\n  tabs\there ";
  const std::vector<std::pair<std::string, std::int64_t>> kinds = {{"bytelevel", 330}, {"bpe", 370}};
  for (const auto& [kind, vocab_size] : kinds) {
    SCOPED_TRACE(kind);
    const TrainedTokenizer trained = train_tokenizer(options(kind, vocab_size), path(kind));
    EXPECT_EQ(trained.vocab_size, vocab_size);
    const auto tokenizer = Tokenizer::load(path(kind));
    EXPECT_EQ(tokenizer->vocab_size(), vocab_size);
    for (const std::string& text : {seen, unseen}) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    EXPECT_LT(tokenizer->encode(seen).size(), seen.size() / 2);
    ASSERT_TRUE(tokenizer->pad_id() && tokenizer->eos_id() && tokenizer->bos_id() && tokenizer->unk_id());
    EXPECT_NE(tokenizer->pad_id(), tokenizer->eos_id());
  }
}

TEST_F(TrainTokenizer, TrainsUnigramAndWordPiece) {
  train_tokenizer(options("unigram", 120), path("unigram"));
  const auto unigram = Tokenizer::load(path("unigram"));
  EXPECT_EQ(unigram->decode(unigram->encode("The gulls and waves.")), "The gulls and waves.");
  EXPECT_EQ(unigram->encode("ж"), (std::vector<std::int32_t>{unigram->token_to_id("▁").value(), unigram->unk_id().value()}));

  TrainTokenizerOptions lower = options("wordpiece", 150);
  lower.lowercase = true;
  train_tokenizer(lower, path("wordpiece"));
  const auto wordpiece = Tokenizer::load(path("wordpiece"));
  const auto ids = wordpiece->encode("THE gulls");
  EXPECT_EQ(wordpiece->id_to_token(ids.front()), "[CLS]");
  EXPECT_EQ(wordpiece->id_to_token(ids.back()), "[SEP]");
  EXPECT_EQ(wordpiece->decode(ids, {.skip_special_tokens = true}), "the gulls");
}

TEST_F(TrainTokenizer, TakesTokensFromTheChatTemplateAndTheCommandLine) {
  TrainTokenizerOptions train = options("bpe", 400);
  train.chat_template = "chat_ml";
  train.special_tokens = {"<tool>"};
  train.bos_token = "<begin>";
  train.model_max_length = 128;
  train.add_bos_token = true;
  train_tokenizer(train, path("chat"));
  const auto tokenizer = Tokenizer::load(path("chat"));
  EXPECT_EQ(tokenizer->special_tokens(),
            (Json{{"bos_token", "<begin>"}, {"eos_token", "<|im_end|>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}}));
  EXPECT_EQ(tokenizer->model_max_length(), 128);
  EXPECT_EQ(tokenizer->encode("x").front(), tokenizer->bos_id());
  EXPECT_EQ(tokenizer->encode("<tool>", {.add_special_tokens = false}).size(), 1u);
  const ChatTokens chat = tokenizer->encode_chat({{{"role", "user"}, {"content", "The gulls"}}});
  EXPECT_EQ(chat.text, "<begin><|im_start|>user\nThe gulls<|im_end|>\n");
  EXPECT_EQ(chat.ids[0], tokenizer->bos_id());
  EXPECT_EQ(chat.ids[1], tokenizer->token_to_id("<|im_start|>"));
}

TEST_F(TrainTokenizer, ReadsTheStringsOfJsonLines) {
  std::ofstream(path("chat.jsonl"))
      << R"({"messages": [{"role": "zzzzzzzz", "content": "quokka quokka quokka"}], "conversation_id": "yyyyyyyy"})" << "\n\n"
      << R"({"instruction": "quokka"})" << "\n";
  TrainTokenizerOptions train = options("wordpiece", 100);
  train.files = {path("chat.jsonl")};
  train_tokenizer(train, path("json"));
  const auto tokenizer = Tokenizer::load(path("json"));
  EXPECT_TRUE(tokenizer->token_to_id("quokka"));
  EXPECT_FALSE(tokenizer->token_to_id("z"));
  EXPECT_FALSE(tokenizer->token_to_id("y"));
  std::ofstream(path("chat.jsonl"), std::ios::app) << "{\"x\": \n";
  EXPECT_THAT(error(train), HasSubstr("chat.jsonl line 4] not valid JSON"));
}

TEST_F(TrainTokenizer, RefusesWhatCannotBeTrained) {
  EXPECT_THAT(error(options("bytelevl", 400)),
              AllOf(StartsWith("[--kind] expected bytelevel, bpe, unigram, wordpiece, got 'bytelevl'"),
                    HasSubstr("did you mean 'bytelevel'?")));
  EXPECT_THAT(error(options("bpe", 260)),
              StartsWith("[--vocab-size] expected more than 260 (4 special tokens and 256 bytes), got 260"));
  TrainTokenizerOptions train = options("bpe", 400);
  train.files = {path("missing.txt")};
  EXPECT_THAT(error(train), HasSubstr("missing.txt] expected a text file, got a path that does not exist"));
  train = options("wordpiece", 100);
  train.add_bos_token = true;
  EXPECT_THAT(error(train), StartsWith("[--add-bos] expected a bos_token to add, got none"));
  train = options("bpe", 400);
  train.chat_template = "chatml";
  EXPECT_THAT(error(train), HasSubstr("did you mean 'chat_ml'?"));
  std::ofstream(path("latin1.txt")) << "caf\xe9\n";
  train = options("bpe", 400);
  train.files = {path("latin1.txt")};
  EXPECT_THAT(error(train), HasSubstr("training failed"));
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

}  // namespace
}  // namespace oumi
