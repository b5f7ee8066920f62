#include "oumi/data/text/text_collators.h"

#include "oumi/data/text/packed_dataset.h"
#include "oumi/data/text/testing.h"
#include "oumi/data/text/turn_markers.h"

namespace oumi {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::text_golden;
using Matrix = std::vector<std::vector<std::int64_t>>;

Matrix rows(const Tensor& tensor) {
  const Tensor wide = tensor.to(c10::kLong).contiguous();
  Matrix result;
  for (std::int64_t i = 0; i < wide.size(0); ++i) {
    const auto* data = wide.const_data_ptr<std::int64_t>() + i * wide.size(1);
    result.emplace_back(data, data + wide.size(1));
  }
  return result;
}

// The matrices of Oumi's own tests of text_with_padding.
TEST(TextCollators, PadsAndCutsAsOumi) {
  const std::vector<Sample> samples = {token_sample(TokenIds{101}, TokenIds{101}),
                                       token_sample(TokenIds{201, 202, 203, 204}, TokenIds{201, 202, 203, 204}),
                                       token_sample(TokenIds{301, 302}, TokenIds{301, 302})};
  const Batch cut = token_collator({.pad_id = 9, .max_length = 2})(samples);
  EXPECT_EQ(rows(cut.at("input_ids")), (Matrix{{101, 9}, {201, 202}, {301, 302}}));
  EXPECT_EQ(rows(cut.at("attention_mask")), (Matrix{{1, 0}, {1, 1}, {1, 1}}));
  EXPECT_EQ(rows(cut.at("labels")), (Matrix{{101, -100}, {201, 202}, {301, 302}}));
  const Batch left =
      token_collator({.pad_id = 9, .label_ignore_index = 7, .padding_side = PaddingSide::kLeft, .pad_to_multiple_of = 3})(
          {samples[0], samples[2]});
  EXPECT_EQ(rows(left.at("input_ids")), (Matrix{{9, 9, 101}, {9, 301, 302}}));
  EXPECT_EQ(rows(left.at("labels")), (Matrix{{7, 7, 101}, {7, 301, 302}}));
  Sample bare;
  bare.set("input_ids", samples[0].at("input_ids"));
  EXPECT_EQ(rows(token_collator({})({bare}).at("attention_mask")), (Matrix{{1}}));
  Sample other;
  other.set("images", samples[0].at("input_ids"));
  EXPECT_THAT(error_of([&] { token_collator({})({other}); }), HasSubstr("expected samples with input_ids, got [images]"));
}

TEST(TextCollators, CompletionsMaskBeforePadding) {
  TurnMaskOptions masks;
  masks.markers = {.response = {1}, .instruction = {}, .end_of_turn = {2}, .tool_response = {}, .end_of_tool_response = {}};
  masks.pad_id = 9;
  const Batch batch =
      completions_collator(masks, {.pad_id = 9})({token_sample(TokenIds{5, 1, 6, 2, 7}, {}), token_sample(TokenIds{1, 8}, {})});
  EXPECT_EQ(rows(batch.at("labels")), (Matrix{{-100, -100, 6, 2, -100}, {-100, 8, -100, -100, -100}}));
  EXPECT_EQ(rows(batch.at("input_ids"))[1], (std::vector<std::int64_t>{1, 8, 9, 9, 9}));
}

class Packed : public testing::TextDataTest {};

TEST_F(Packed, KeepsSamplesApart) {
  const auto path = file("a.jsonl",
                         "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3]}\n{\"input_ids\": [4, 5], \"labels\": [4, "
                         "5]}\n{\"input_ids\": [6, 7, 8, 9], \"labels\": [6, 7, 8, 9]}\n");
  const DatasetPtr samples = make("pretokenized", path);
  const auto packed =
      std::make_shared<PackedDataset>(samples, PackOptions{.strategy = PackingStrategy::kBestFit, .seq_length = 5});
  ASSERT_EQ(packed->size(), 2);
  EXPECT_EQ(ids(*packed, 1), (TokenIds{1, 2, 3, 4, 5}));
  EXPECT_EQ(ids(*packed, 1, "labels"), (TokenIds{-100, 2, 3, -100, 5}));
  EXPECT_EQ(ids(*packed, 1, "position_ids"), (TokenIds{0, 1, 2, 0, 1}));
  EXPECT_EQ(ids(*packed, 1, "segment_ids"), (TokenIds{0, 0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(packed->report().fill, 0.9);
  const Batch batch = token_collator({.pad_id = 0})({packed->get(0), packed->get(1)});
  EXPECT_EQ(rows(batch.at("segment_ids")), (Matrix{{0, 0, 0, 0, -1}, {0, 0, 0, 1, 1}}));
  EXPECT_EQ(rows(batch.at("position_ids"))[0], (std::vector<std::int64_t>{0, 1, 2, 3, 0}));
  EXPECT_EQ(batch.at("segment_ids").scalar_type(), c10::kInt);

  PackedDataset wrapped(samples, {.strategy = PackingStrategy::kWrapped, .seq_length = 4});
  EXPECT_EQ(ids(wrapped, 0), (TokenIds{1, 2, 3, 4}));
  EXPECT_FALSE(wrapped.get(0).contains("segment_ids"));
}

// Oumi's concatenation: samples 1-6 twice into rows of 10, as its own test has it.
TEST_F(Packed, ConcatenatesAsOumi) {
  const auto path =
      file("a.jsonl",
           "{\"input_ids\": [1, 2, 3, 4, 5, 6]}\n{\"input_ids\": [1, 2, 3, 4, 5, 6]}\n{\"input_ids\": [1, 2, 3, 4, 5, 6]}\n");
  PackedDataset packed(make("pretokenized", path),
                       {.strategy = PackingStrategy::kConcatenated, .seq_length = 10, .separator_id = 0});
  ASSERT_EQ(packed.size(), 2);
  EXPECT_EQ(ids(packed, 0), (TokenIds{1, 2, 3, 4, 5, 6, 0, 1, 2, 3}));
  EXPECT_EQ(ids(packed, 0, "labels"), (TokenIds{1, 2, 3, 4, 5, 6, 0, 1, 2, 3}));
  EXPECT_EQ(ids(packed, 1), (TokenIds{4, 5, 6, 0, 1, 2, 3, 4, 5, 6}));
}

class Markers : public testing::TextDataTest {};

TEST_F(Markers, DetectedAsOumi) {
  for (const Json& entry : text_golden()["markers"]) {
    context = testing::text_context(entry["template"]);
    if (entry["response"].is_null()) {
      EXPECT_THROW(detect_turn_markers(*context.tokenizer), UserError);
      continue;
    }
    const DetectedMarkers found = detect_turn_markers(*context.tokenizer);
    EXPECT_EQ(found.response_template, entry["response"]) << entry["template"];
    EXPECT_EQ(context.tokenizer->decode(found.end_of_turn), entry["end_of_turn"]) << entry["template"];
  }
}

TEST_F(Markers, TargetsOfTheConfig) {
  const auto masks = [&](const Json& kwargs, std::optional<TrainTarget> target = std::nullopt) {
    DatasetSplitParams split;
    split.train_target = target;
    return completion_masks(split, Kwargs(kwargs, "data.train.collator_kwargs"), *context.tokenizer, "data.train");
  };
  EXPECT_EQ(masks({{"response_template", "a"}}).turns, TrainedTurns::kFinalAssistantTurn);
  EXPECT_EQ(masks({{"response_template", "a"}, {"instruction_template", "b"}}).turns, TrainedTurns::kInstructionResponse);
  EXPECT_EQ(masks({{"response_template", "a"}, {"end_of_turn_template", "b"}}).turns, TrainedTurns::kAllAssistantTurns);
  EXPECT_EQ(masks(Json::object(), TrainTarget::kFinalAssistantTurn).turns, TrainedTurns::kFinalAssistantTurn);
  EXPECT_EQ(masks({{"response_template", {4, 5}}}, TrainTarget::kAllAssistantTurns).markers.response, (TokenIds{4, 5}));
  EXPECT_THAT(error_of([&] { masks(Json::object()); }), HasSubstr("data.train.train_target"));
  EXPECT_THAT(error_of([&] { masks({{"response_template", "a"}, {"tool_response_template", "t"}}); }),
              HasSubstr("go together"));
  EXPECT_THAT(error_of([&] { masks({{"train_target", "some"}}); }),
              HasSubstr("expected all_assistant_turns or final_assistant_turn"));
}

// From a config's section to a batch: chats packed by completions.
TEST_F(Markers, SectionsBecomeLabelledPackedBatches) {
  const auto path = file(
      "a.jsonl", jsonl({{{"messages", {{{"role", "user"}, {"content", "a"}}, {{"role", "assistant"}, {"content", "b"}}}}},
                        {{"messages", {{{"role", "user"}, {"content", "c"}}, {{"role", "assistant"}, {"content", "d"}}}}}}));
  DatasetSplitParams split;
  split.datasets.emplace_back();
  split.datasets[0].dataset_name = "text_sft";
  split.datasets[0].dataset_path = path.string();
  split.collator_name = "text_completions_only_with_padding";
  split.train_target = TrainTarget::kAllAssistantTurns;
  split.pack = true;
  DatasetBuildContext build;
  build.text = context;
  build.pack_length = 64;
  const DatasetPtr dataset = build_dataset(split, build);
  ASSERT_EQ(dataset->size(), 1);
  const Batch batch = collator_for(split, build)({dataset->get(0)});
  TokenIds learned;
  const Matrix labels = rows(batch.at("labels"));
  for (const std::int64_t label : labels[0]) {
    if (label != kIgnoredLabel) learned.push_back(static_cast<std::int32_t>(label));
  }
  EXPECT_EQ(context.tokenizer->decode(learned), "\nb<|im_end|>\n\nd<|im_end|>\n");
  EXPECT_TRUE(batch.contains("segment_ids"));
}

}  // namespace
}  // namespace oumi
