#include "oumi/data/text/label_masks.h"

#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

const Json& reference() {
  static const Json json = read_json_file(testing::golden_folder() / "textdata.json");
  return json;
}

TrainedTurns turns_of(const std::string& target) {
  if (target == "all_assistant_turns") return TrainedTurns::kAllAssistantTurns;
  return target == "final_assistant_turn" ? TrainedTurns::kFinalAssistantTurn : TrainedTurns::kInstructionResponse;
}

// Random sequences in which markers overlap, repeat and are missing, against Oumi's own collator.
TEST(LabelMasks, EqualOumisCollator) {
  std::size_t cases = 0;
  for (const Json& entry : reference()["completions"]) {
    TurnMaskOptions options;
    options.turns = turns_of(entry["target"]);
    options.markers = {
        .response = {1, 2}, .instruction = {4}, .end_of_turn = {3}, .tool_response = {}, .end_of_tool_response = {}};
    if (entry["tools"]) options.markers.tool_response = {5}, options.markers.end_of_tool_response = {6};
    options.pad_id = entry["pad"].get<std::int32_t>();
    for (const Json& one : entry["cases"]) {
      const auto ids = one["ids"].get<TokenIds>();
      EXPECT_EQ(mask_turns(ids, options), one["labels"].get<TokenIds>())
          << entry["target"] << " pad " << entry["pad"] << ' ' << one["ids"];
      ++cases;
    }
  }
  EXPECT_EQ(cases, 400u);
}

TEST(LabelMasks, SaysWhenNoTurnWasFound) {
  bool found = true;
  TurnMaskOptions options;
  options.markers.response = {1};
  EXPECT_EQ(mask_turns(TokenIds{5, 6}, options, &found), (TokenIds{-100, -100}));
  EXPECT_FALSE(found);
  options.ignore_index = -1;
  EXPECT_EQ(mask_turns(TokenIds{5, 1, 6}, options, &found), (TokenIds{-1, -1, 6}));
  EXPECT_TRUE(found);
}

TEST(LabelMasks, SpansTakeTheTokensThatHoldThem) {
  const std::vector<std::pair<std::size_t, std::size_t>> offsets = {{0, 3}, {3, 5}, {6, 9}, {9, 13}, {9, 13}, {14, 15}};
  const TokenIds ids = {10, 11, 12, 13, 14, 15};
  const std::vector<std::pair<std::size_t, std::size_t>> middle = {{3, 9}};
  EXPECT_EQ(mask_spans(ids, offsets, middle), (TokenIds{-100, 11, 12, -100, -100, -100}));
  // White space that no token holds, at both ends.
  const std::vector<std::pair<std::size_t, std::size_t>> spaced = {{5, 14}};
  EXPECT_EQ(mask_spans(ids, offsets, spaced), (TokenIds{-100, -100, 12, 13, 14, -100}));
  const std::vector<std::pair<std::size_t, std::size_t>> none = {{20, 22}, {2, 2}};
  EXPECT_EQ(mask_spans(ids, offsets, none), TokenIds(6, -100));
}

}  // namespace
}  // namespace oumi
