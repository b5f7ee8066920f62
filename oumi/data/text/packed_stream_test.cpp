// Packing of streams: each run of samples as the map-style packing gives it, at any place where it is resumed.
#include "oumi/data/text/packed_stream.h"

#include "oumi/data/text/testing.h"

namespace oumi {
namespace {

using PackedStreams = testing::TextDataTest;

std::string join_numbers(const TokenIds& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += cat(id, ' ');
  return text;
}

std::string row_text(const Sample& row) {
  std::string text;
  for (const char* field : {"input_ids", "labels", "position_ids", "segment_ids"}) {
    if (row.contains(field)) text += cat(field, ' ', join_numbers(token_field(row, field, "test")), '\n');
  }
  return text;
}

std::vector<std::string> rows_of(Dataset& stream) {
  std::vector<std::string> rows;
  while (const auto row = stream.next()) rows.push_back(row_text(*row));
  return rows;
}

TEST_F(PackedStreams, EqualMapStylePackingRunByRun) {
  Json samples = Json::array();
  for (int i = 0; i < 2300; ++i) {
    Json ids = Json::array(), labels = Json::array();
    for (int k = 0; k < 1 + i * 7919 % 40; ++k) {
      ids.push_back((i + k) % 400);
      labels.push_back(k % 3 == 0 ? -100 : (i + k) % 400);
    }
    samples.push_back({{"input_ids", ids}, {"labels", labels}});
  }
  const auto path = file("rows.jsonl", jsonl(samples));
  DatasetSplitParams params;
  params.pack = true;
  const auto build = [&](PackingStrategy strategy, const std::string& split, bool stream) {
    params.stream = stream;
    params.datasets = {{.dataset_name = "pretokenized", .dataset_path = path.string(), .split = split}};
    return build_dataset(params, {.text = context, .packing = strategy, .pack_length = 64});
  };
  for (const PackingStrategy strategy :
       {PackingStrategy::kBestFit, PackingStrategy::kBestFitSplit, PackingStrategy::kWrapped, PackingStrategy::kConcatenated}) {
    std::vector<std::string> expected;
    for (const char* run : {"train[:1000]", "train[1000:2000]", "train[2000:]"}) {
      const DatasetPtr rows = build(strategy, run, false);
      for (std::int64_t i = 0; i < rows->size(); ++i) expected.push_back(row_text(rows->get(i)));
    }
    const DatasetPtr stream = build(strategy, "train", true);
    ASSERT_FALSE(stream->is_map_style());
    stream->set_epoch(0);
    EXPECT_EQ(rows_of(*stream), expected);

    stream->set_epoch(1);
    for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
      if (i % 97 == 0) {
        const DatasetPtr resumed = build(strategy, "train", true);
        resumed->load_state_dict(stream->state_dict());
        EXPECT_EQ(rows_of(*resumed),
                  std::vector<std::string>(expected.begin() + static_cast<std::ptrdiff_t>(i), expected.end()))
            << i;
      }
      ASSERT_TRUE(stream->next());
    }
  }
}

}  // namespace
}  // namespace oumi
