#include "oumi/data/text/text_datasets.h"

#include "oumi/data/stream.h"
#include "oumi/data/text/rows.h"
#include "oumi/data/text/testing.h"
#include "oumi/data/text/token_report.h"

namespace oumi {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::text_golden;

using TextDatasets = testing::TextDataTest;

// Ids and assistant masks of Transformers' apply_chat_template, emoji and CJK included.
TEST_F(TextDatasets, ChatsEqualTransformers) {
  std::size_t chats = 0;
  for (const Json& entry : text_golden()["chats"]) {
    const std::string name = entry["template"];
    context = testing::text_context(name);
    const bool spans = !entry["mask"].is_null();
    const auto path = file("chat.jsonl", Json{{"messages", entry["messages"]}}.dump() + "\n");
    const DatasetPtr dataset = make("text_sft", path, spans ? Json{{"assistant_only", true}} : Json::object());
    const auto expected = entry["input_ids"].get<TokenIds>();
    EXPECT_EQ(ids(*dataset, 0), expected) << name << entry["text"];
    EXPECT_EQ(context.tokenizer->decode(expected), entry["text"]);
    TokenIds labels = expected;
    for (std::size_t i = 0; spans && i < labels.size(); ++i) {
      if (entry["mask"][i] == 0) labels[i] = kIgnoredLabel;
    }
    EXPECT_EQ(ids(*dataset, 0, "labels"), labels) << name << entry["text"];
    ++chats;
  }
  EXPECT_EQ(chats, 15u);
}

TEST_F(TextDatasets, BothAlpacaMappings) {
  const Json& golden = text_golden()["alpaca"];
  const auto list = file("rows.json", golden["rows"].dump());
  const auto check = [&](const DatasetPtr& dataset, const char* key) {
    ASSERT_EQ(dataset->size(), 2);
    for (std::int64_t i = 0; i < 2; ++i)
      EXPECT_EQ(ids(*dataset, i), golden[key][static_cast<std::size_t>(i)].get<TokenIds>()) << key;
  };
  check(make("yahma/alpaca-cleaned", list), "alpaca");
  check(make("tatsu-lab/alpaca", list, {{"include_system_prompt", false}}), "alpaca_without_system");
  check(make("text_sft", list), "text_sft");
  check(make("text_sft_jsonl", file("rows.jsonl", testing::TextDataTest::jsonl(golden["rows"])), {{"format", "alpaca"}}),
        "text_sft");
}

TEST_F(TextDatasets, OtherColumnsAndNames) {
  const Json chat = {{"role", "user"}, {"content", "a"}}, answer = {{"role", "assistant"}, {"content", "b"}};
  const auto reference = ids(*make("text_sft", file("a.jsonl", Json{{"messages", {chat, answer}}}.dump())), 0);
  EXPECT_EQ(ids(*make("text_sft", file("b.jsonl", Json{{"conversation", {{"messages", {chat, answer}}}}}.dump())), 0),
            reference);
  EXPECT_EQ(
      ids(*make("PromptResponseDataset", file("c.csv", "q,r\na,b\n"), {{"prompt_column", "q"}, {"response_column", "r"}}), 0),
      reference);
  EXPECT_EQ(
      ids(*make("HuggingFaceDataset", file("d.jsonl", Json{{"turns", {chat, answer}}}.dump()), {{"messages_column", "turns"}}),
          0),
      reference);
  EXPECT_EQ(
      ids(*make("Magpie-Align/Magpie-Pro-300K-Filtered",
                file("e.jsonl", R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})")),
          0),
      reference);
  EXPECT_EQ(ids(*make("somebody/unknown", folder.path() / "a.jsonl"), 0), reference);
  EXPECT_EQ(ids(*make("anything", file("f.jsonl", R"({"input_ids": [5, 6], "labels": [-100, 6]})")), 0, "labels"),
            (TokenIds{-100, 6}));
  EXPECT_EQ(make("debug_sft", "")->size(), 5);
}

TEST_F(TextDatasets, CutsAndCounts) {
  context.max_length = 6;
  const DatasetPtr dataset =
      make("text_sft", file("a.jsonl", jsonl({{{"messages", {{{"role", "user"}, {"content", "Hello, how are you?"}}}}}})));
  EXPECT_EQ(dataset->sample_length(0), 6);
  const TokenReport report = report_tokens(dataset, "data.train");
  EXPECT_EQ(report.cut_samples, 1);
  EXPECT_GT(report.dropped_tokens, 0);
  EXPECT_THAT(report.lines("data.train")[1], HasSubstr("1 samples were longer than allowed and cut"));
}

std::shared_ptr<const Tokenizer> cutting_tokenizer(const std::string& folder, const std::string& side,
                                                   const std::string& chat_template = "") {
  TokenizerOptions options;
  options.kwargs["truncation_side"] = side;
  if (!chat_template.empty()) options.chat_template = testing::text_golden()["templates"][chat_template].get<std::string>();
  return Tokenizer::load(testing::golden_folder() / folder, options);
}

TEST_F(TextDatasets, CutsAtTheTokenizersSide) {
  const auto path = file("a.txt", "Hello, how are you today, my old friend?");
  const Json messages = {{{"role", "user"}, {"content", "Hello, how are you?"}},
                         {{"role", "assistant"}, {"content", "Well, and you?"}}};
  const auto chats = file("a.jsonl", jsonl({{{"messages", messages}}}));
  for (const bool left : {false, true}) {
    // [CLS] and [SEP] stay around what is left of the text, as in Transformers.
    context.max_length = 7;
    const std::string side = left ? "left" : "right";
    context.tokenizer = cutting_tokenizer("text/wordpiece", side);
    TokenIds whole = context.tokenizer->encode("Hello, how are you today, my old friend?");
    ASSERT_GT(whole.size(), 9u);
    const auto dropped = static_cast<std::ptrdiff_t>(whole.size()) - 7;
    if (left)
      whole.erase(whole.begin() + 1, whole.begin() + 1 + dropped);
    else
      whole.erase(whole.end() - 1 - dropped, whole.end() - 1);
    EXPECT_EQ(ids(*make("text", path), 0), whole);
    EXPECT_EQ(context.tokenizer->id_to_token(whole.front()), "[CLS]");

    context.tokenizer = cutting_tokenizer("textdata", side, "chat_ml_spans");
    context.max_length = std::nullopt;
    const DatasetPtr full = make("text_sft", chats, {{"assistant_only", true}});
    context.max_length = 5;
    const DatasetPtr cut = make("text_sft", chats, {{"assistant_only", true}});
    for (const char* field : {"input_ids", "labels"}) {
      const TokenIds all = ids(*full, 0, field);
      ASSERT_GT(all.size(), 10u);
      EXPECT_EQ(ids(*cut, 0, field), left ? TokenIds(all.end() - 5, all.end()) : TokenIds(all.begin(), all.begin() + 5))
          << field;
    }
  }
  EXPECT_THAT(testing::error_of([] { cutting_tokenizer("textdata", "middle"); }),
              HasSubstr("truncation_side: expected right or left, got \"middle\""));
}

// A recipe's split is of the Hub's dataset; a file that is named stands for it.
TEST_F(TextDatasets, OneFileServesAnySplit) {
  DatasetRequest request;
  request.name = "HuggingFaceH4/ultrachat_200k";
  request.path = file(
      "a.jsonl", jsonl({{{"messages", {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Ho"}}}}}}));
  request.split = "train_sft";
  request.key = "data.train.datasets[0]";
  request.text = context;
  EXPECT_EQ(make_dataset(request)->size(), 1);
}

TEST_F(TextDatasets, AssistantOnlyByTemplates) {
  const Json chat = {{"messages",
                      {{{"role", "user"}, {"content", "a"}},
                       {{"role", "assistant"}, {"content", "b"}},
                       {{"role", "user"}, {"content", "c"}}}}};
  const auto path = file("a.jsonl", chat.dump());
  EXPECT_THAT(error_of([&] { make("text_sft", path, {{"assistant_only", true}}); }),
              HasSubstr("both response_template and instruction_template"));
  const DatasetPtr dataset = make("text_sft", path,
                                  {{"assistant_only", true},
                                   {"response_template", " <|im_start|>assistant\n "},
                                   {"instruction_template", "<|im_start|>user"}});
  TokenIds learned;
  for (const std::int32_t label : ids(*dataset, 0, "labels")) {
    if (label != kIgnoredLabel) learned.push_back(label);
  }
  EXPECT_EQ(context.tokenizer->decode(learned), "\nb<|im_end|>\n");
}

TEST_F(TextDatasets, PretrainingChunksEqualOumisAndStreamEqually) {
  const Json& golden = text_golden()["pretraining"];
  Json rows = Json::array();
  for (const Json& document : golden["documents"]) rows.push_back({{"text", document}});
  const auto path = file("documents.jsonl", jsonl(rows));
  for (const Json& entry : golden["cases"]) {
    const Json kwargs = {{"seq_length", entry["seq_length"]},
                         {"append_concat_token", entry["append_concat_token"]},
                         {"skip_last", entry["skip_last"]}};
    const auto expected = entry["rows"].get<std::vector<TokenIds>>();
    const DatasetPtr map = make("pretraining", path, kwargs);
    ASSERT_EQ(map->size(), static_cast<std::int64_t>(expected.size())) << kwargs;
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(ids(*map, static_cast<std::int64_t>(i)), expected[i]) << kwargs;
    const DatasetPtr stream = make("HuggingFaceFW/fineweb-edu", path, kwargs, /*stream=*/true);
    stream->set_epoch(0);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      // A stream that is put where this one stands goes on with the same chunk.
      const DatasetPtr resumed = make("pretraining", path, kwargs, /*stream=*/true);
      resumed->load_state_dict(stream->state_dict());
      const auto sample = stream->next(), again = resumed->next();
      ASSERT_TRUE(sample && again) << kwargs << ' ' << i;
      EXPECT_EQ(token_field(*sample, "input_ids", "test"), expected[i]) << kwargs;
      EXPECT_EQ(token_field(*again, "input_ids", "test"), expected[i]) << kwargs << ' ' << i;
    }
    EXPECT_FALSE(stream->next());
    // Trained by epochs, which need a length.
    context.needs_length = true;
    EXPECT_EQ(make("pretraining", path, kwargs, /*stream=*/true)->length(), static_cast<std::int64_t>(expected.size()));
    context.needs_length = false;
  }
}

TEST_F(TextDatasets, PlainTextByLineAndByFile) {
  const auto path = file("a.txt", "Hello\n\nnaïve\r\n");
  const DatasetPtr lines = make("text", path);
  ASSERT_EQ(lines->size(), 2);
  EXPECT_EQ(context.tokenizer->decode(ids(*lines, 1)), "naïve");
  const DatasetPtr whole = make("text", path, {{"document", "file"}});
  ASSERT_EQ(whole->size(), 1);
  EXPECT_EQ(context.tokenizer->decode(ids(*whole, 0)), "Hello\n\nnaïve\r\n");
  EXPECT_EQ(make("text", path, {{"document", "file"}, {"seq_length", 2}})->sample_length(0), 2);
}

TEST_F(TextDatasets, Preferences) {
  const auto dpo = make(
      "text_dpo", file("a.jsonl", R"({"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"})"));
  const Sample sample = dpo->get(0);
  EXPECT_EQ(context.tokenizer->decode(token_field(sample, "prompt_ids", "t")), "<|im_start|>user\na<|im_end|>\n");
  EXPECT_EQ(context.tokenizer->decode(token_field(sample, "chosen_ids", "t")),
            "<|im_start|>assistant\nb<|im_end|>\n<|endoftext|>");
  EXPECT_EQ(context.tokenizer->decode(token_field(sample, "rejected_ids", "t")),
            "<|im_start|>assistant\nc<|im_end|>\n<|endoftext|>");
  const auto kto = make("text_kto", file("b.jsonl", R"({"prompt": "a", "completion": "b", "label": true})"));
  EXPECT_TRUE(kto->get(0).at("label").item<bool>());
  EXPECT_THAT(error_of([&] { make("text_kto", file("c.jsonl", R"({"prompt": "a", "completion": "b", "label": 1})"))->get(0); }),
              HasSubstr("label: expected true or false"));
  EXPECT_TRUE(is_preference_dataset("debug_DPO"));
}

TEST_F(TextDatasets, BadRowsAreNamed) {
  const std::string good = R"({"messages": [{"role": "user", "content": "a"}]})";
  const auto bad = [&](const std::string& name, const std::string& text) {
    return error_of([&] { make("text_sft", file(name, text)); });
  };
  EXPECT_THAT(bad("a.jsonl", good + "\n" + good + "\n{\"messages\": [\n"),
              AllOf(HasSubstr("a.jsonl, line 3]"), HasSubstr("not valid JSON")));
  EXPECT_THAT(bad("b.jsonl", good + "\n{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}\n"),
              AllOf(HasSubstr("b.jsonl, line 2]"), HasSubstr("UTF-8")));
  EXPECT_THAT(bad("c.jsonl", good + "\n\n{\"message\": 1}\n"),
              AllOf(HasSubstr("c.jsonl, line 3]"), HasSubstr("expected a key 'messages'")));
  EXPECT_THAT(bad("d.json", "[" + good + ", {\"messages\": [{\"role\": \"cat\", \"content\": \"a\"}]}]"),
              HasSubstr("d.json, row 2]"));
  EXPECT_THAT(bad("e.jsonl", ""), HasSubstr("empty file"));
  EXPECT_THAT(bad("f.jsonl", "\n\n"), HasSubstr("expected samples, got none"));
  EXPECT_THAT(bad("g.jsonl", "{\"a\": 1}\n"), HasSubstr("format of its rows cannot be told from keys [a]"));
  EXPECT_THAT(bad("h.xlsx", "x"), HasSubstr("expected a .jsonl, .json, .parquet"));
  EXPECT_THAT(error_of([&] { make("yahma/alpaca-cleaned", file("i.jsonl", R"({"instruction": "a", "input": ""})")); }),
              HasSubstr("expected a column 'output', got [instruction, input]"));
  EXPECT_THAT(error_of([&] { make("yahma/alpaca-cleaned", ""); }), HasSubstr("dataset_path] is required"));
  EXPECT_THAT(error_of([&] { make("some/thing", ""); }), HasSubstr("set dataset_path to a local copy"));
  EXPECT_THAT(error_of([&] { make("text_sft", file("j.jsonl", good), {{"assistant_onli", true}}); }),
              HasSubstr("assistant_only"));
  EXPECT_THAT(error_of([&] { make("text_sft", file("k.jsonl", good), {{"format", "chat"}}); }),
              HasSubstr("expected oumi, conversations or alpaca"));
  // Nothing of a failed run stays in the cache.
  for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "cache" / "tokens"))
    EXPECT_EQ(entry.path().extension(), ".lock");
  context.tokenizer = nullptr;
  EXPECT_THAT(bad("l.jsonl", good), HasSubstr("need a tokenizer"));
}

// Python's json module writes NaN and Infinity; in columns that nobody reads they are no reason to stop.
TEST_F(TextDatasets, RowsMayHoldPythonsNan) {
  const std::string row =
      R"({"score": NaN, "range": [-Infinity, Infinity], "question": "a \"NaN\" b", "answer": "NaN, Infinity"})";
  const Json columns = {{"prompt_column", "question"}, {"response_column", "answer"}};
  const auto reference = ids(
      *make("PromptResponseDataset", file("a.jsonl", R"({"question": "a \"NaN\" b", "answer": "NaN, Infinity"})"), columns), 0);
  EXPECT_EQ(ids(*make("PromptResponseDataset", file("b.jsonl", row + "\n"), columns), 0), reference);
  EXPECT_EQ(ids(*make("PromptResponseDataset", file("c.json", "[" + row + "]"), columns), 0), reference);
  const auto error = [&](const std::string& text) {
    return error_of([&] { make("PromptResponseDataset", file("d.jsonl", text + "\n"), columns); });
  };
  EXPECT_THAT(error(R"({"question": NaN, "answer": "b"})"), AllOf(HasSubstr("d.jsonl, line 1"), HasSubstr("question")));
  EXPECT_THAT(error(R"({"question": "a", "answer": NaN)"),
              AllOf(HasSubstr("d.jsonl, line 1"), HasSubstr("not valid JSON at column")));
  EXPECT_THAT(error(R"({"question": "a", "answer": "b", "c": 1e999})"),
              AllOf(HasSubstr("d.jsonl, line 1"), HasSubstr("fit a float, got '1e999'")));
}

TEST_F(TextDatasets, RowsThatNestTooDeeplyAreNamed) {
  const std::string good = R"({"messages": [{"role": "user", "content": "Hi"}]})";
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  EXPECT_THAT(testing::error_of([&] { make("text_sft", file("a.jsonl", good + "\n" + deep + "\n")); }),
              HasSubstr("a.jsonl, line 2] expected JSON of at most 500 levels, got more at column 501"));
  EXPECT_THAT(testing::error_of([&] { make("text_sft", file("b.json", deep)); }),
              HasSubstr("expected JSON of at most 500 levels"));
  const std::string brackets(2000, '[');  // in text they nest nothing
  EXPECT_EQ(make("text_sft", file("c.jsonl", R"({"messages": [{"role": "user", "content": "\")" + brackets + "\"}]}"))->size(),
            1);
}

// Arrow's readers take offsets as they are in the file.
TEST_F(TextDatasets, DamagedArrowFilesGiveRowsOrAnError) {
  const std::string whole = testing::read(testing::golden_folder() / "data/table.arrow");
  int errors = 0;
  for (std::size_t at = 8; at < whole.size(); at += 5) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    const auto reader = open_rows({{file("damaged.arrow", damaged)}, RowFormat::kArrow});
    try {
      for (TextRow row; reader->next(row);) row.json();
    } catch (const UserError& error) {
      ++errors;
      EXPECT_THAT(error.component(), HasSubstr("damaged.arrow"));
    }
  }
  EXPECT_GT(errors, 10);
}

TEST_F(TextDatasets, ChecksIdsAndSupervision) {
  const auto path = file("a.jsonl", "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 70], \"labels\": [3, -100]}\n");
  const auto other = file("b.jsonl", "{\"input_ids\": [1, 2], \"labels\": [-100, -100]}\n");
  const auto mixed = file("c.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 99]}\n");
  EXPECT_THAT(error_of([&] {
                report_tokens(make("pretokenized", file("d.jsonl", "{\"input_ids\": [1, 2]}\n{\"input_ids\": [3, 70]}\n")),
                              "data.train", 64);
              }),
              AllOf(HasSubstr("sample 1 "), HasSubstr("input_ids[1]"), HasSubstr("[0, 64)"), HasSubstr("got 70")));
  EXPECT_THAT(error_of([&] { report_tokens(make("pretokenized", mixed), "data.train", 64); }),
              HasSubstr("labels[1]: expected a token id in [0, 64), the model's vocabulary, got 99"));
  EXPECT_THAT(error_of([&] { report_tokens(make("pretokenized", other), "data.train"); }),
              HasSubstr("expected supervised tokens, got none"));
}

TEST_F(TextDatasets, PretokenizedGetsWhatIsMissing) {
  context.max_length = 3;
  const DatasetPtr dataset =
      make("pretokenized", file("a.jsonl", "{\"input_ids\": [5, 6, 7, 8], \"attention_mask\": [0, 1, 1, 1]}\n"));
  const Sample sample = dataset->get(0);
  EXPECT_EQ(token_field(sample, "input_ids", "t"), (TokenIds{5, 6, 7}));
  EXPECT_EQ(token_field(sample, "attention_mask", "t"), (TokenIds{0, 1, 1}));
  EXPECT_EQ(token_field(sample, "labels", "t"), (TokenIds{-100, 6, 7}));
}

}  // namespace
}  // namespace oumi
