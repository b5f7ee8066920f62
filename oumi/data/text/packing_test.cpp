#include "oumi/data/text/packing.h"

#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

using Ids = std::vector<std::int64_t>;
using Rows = std::vector<Ids>;

// Sample i holds consecutive numbers from the sum of the lengths before it.
Rows contents(const std::vector<PackedRow>& rows, const Ids& lengths) {
  Ids starts = {0};
  for (const std::int64_t length : lengths) starts.push_back(starts.back() + length);
  Rows result;
  for (const PackedRow& row : rows) {
    Ids ids;
    for (const PackedPiece& piece : row) {
      for (std::int64_t i = 0; i < piece.size; ++i)
        ids.push_back(piece.sample < 0 ? -1 : starts[static_cast<std::size_t>(piece.sample)] + piece.begin + i);
    }
    result.push_back(std::move(ids));
  }
  return result;
}

Rows sizes(const std::vector<PackedRow>& rows) {
  Rows result;
  for (const PackedRow& row : rows) {
    result.emplace_back();
    for (const PackedPiece& piece : row) result.back().push_back(piece.size);
  }
  return result;
}

TEST(Packing, EqualsTrl) {
  const Json json = read_json_file(testing::golden_folder() / "textdata.json");
  ASSERT_EQ(json["packing"].size(), 3u);
  for (const Json& entry : json["packing"]) {
    const auto lengths = entry["lengths"].get<Ids>();
    const auto capacity = entry["capacity"].get<std::int64_t>();
    const auto whole = pack_best_fit(lengths, {.capacity = capacity}),
               split = pack_best_fit(lengths, {.capacity = capacity, .split = true});
    EXPECT_EQ(contents(whole, lengths), entry["bfd"].get<Rows>());
    EXPECT_EQ(sizes(whole), entry["bfd_lengths"].get<Rows>());
    EXPECT_EQ(contents(split, lengths), entry["bfd_split"].get<Rows>());
    EXPECT_EQ(sizes(split), entry["bfd_split_lengths"].get<Rows>());
    EXPECT_EQ(contents(pack_wrapped(lengths, capacity), lengths), entry["wrapped"].get<Rows>());
  }
}

// The cases of Oumi's own tests of PackedSftDataset: samples 1-3, 4-5, 6-9.
TEST(Packing, GreedyAsOumi) {
  const Ids lengths = {3, 2, 4};
  const auto packed = [&](GreedyPackOptions options) { return contents(pack_greedily(lengths, options), lengths); };
  EXPECT_EQ(packed({.capacity = 5, .split_samples = true}), (Rows{{0, 1, 2, 3, 4}, {5, 6, 7, 8}}));
  EXPECT_EQ(packed({.capacity = 4}), (Rows{{0, 1, 2}, {3, 4}, {5, 6, 7, 8}}));
  EXPECT_EQ(packed({.capacity = 6, .split_samples = true, .separator = true}), (Rows{{0, 1, 2, -1, 3, 4}, {5, 6, 7, 8}}));
  const Ids longer = {3, 2, 4, 10};
  EXPECT_EQ(pack_greedily(longer, {.capacity = 5, .split_samples = true}).size(), 4u);
  EXPECT_EQ(pack_greedily(longer, {.capacity = 5}).size(), 2u);
  EXPECT_TRUE(pack_greedily(Ids{0}, {.capacity = 5}).empty());
}

TEST(Packing, WrapsWithSeparators) {
  EXPECT_EQ(pack_wrapped(Ids{2, 3}, 4, 1), (std::vector<PackedRow>{{{0, 0, 3}, {1, 0, 1}}, {{1, 1, 3}}}));
}

TEST(Packing, LosesNothingAndFillsRows) {
  Ids lengths;
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < 20000; ++i) total += lengths.emplace_back(1 + (i * 7919) % 700);
  const auto rows = pack_best_fit(lengths, {.capacity = 2048});
  std::int64_t packed = 0;
  for (const PackedRow& row : rows) {
    std::int64_t used = 0;
    for (const PackedPiece& piece : row) used += piece.size;
    EXPECT_LE(used, 2048);
    packed += used;
  }
  EXPECT_EQ(packed, total);
  EXPECT_GT(static_cast<double>(total) / static_cast<double>(rows.size() * 2048), 0.99);
}

TEST(Packing, NamesStrategies) {
  EXPECT_EQ(parse_packing_strategy("Wrapped", "k"), PackingStrategy::kWrapped);
  EXPECT_THAT(testing::error_of([] { parse_packing_strategy("bdf", "training.trainer_kwargs.packing_strategy"); }),
              ::testing::HasSubstr("did you mean 'bfd'"));
  EXPECT_THAT(testing::error_of([] { pack_best_fit(Ids{1}, {.capacity = 0}); }), ::testing::HasSubstr("at least one token"));
}

}  // namespace
}  // namespace oumi
