// Orders and splits against NumPy and Hugging Face Datasets.
#include <map>

#include "oumi/data/mixture.h"
#include "oumi/data/random.h"
#include "oumi/data/split.h"
#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using Order = std::vector<std::int64_t>;

TEST(NumpyGenerator, PermutationsEqualNumpys) {
  ASSERT_EQ(golden()["permutation"].size(), 25u);
  for (const Json& entry : golden()["permutation"]) {
    EXPECT_EQ(NumpyGenerator(entry["seed"].get<std::uint64_t>()).permutation(entry["n"]), entry["order"].get<Order>())
        << entry.dump();
  }
}

TEST(NumpyGenerator, DoublesEqualNumpysAndAdvanceSkipsThem) {
  const auto expected = golden()["random"]["values"].get<std::vector<double>>();
  const std::uint64_t seed = golden()["random"]["seed"];
  NumpyGenerator rng(seed);
  for (const double value : expected) EXPECT_EQ(rng.random(), value);
  for (std::size_t skipped = 0; skipped < expected.size(); ++skipped) {
    NumpyGenerator jumped(seed);
    jumped.advance(skipped);
    EXPECT_EQ(jumped.random(), expected[skipped]);
  }
}

TEST(NumpyGenerator, IntervalsHoldTheirEnds) {
  NumpyGenerator rng(5);
  for (const std::uint64_t max : {0ull, 1ull, 2ull, 0xFFFFFFFFull, 0x100000000ull, ~0ull}) {
    for (int i = 0; i < 100; ++i) EXPECT_LE(rng.interval(max), max);
  }
  int tops = 0;
  for (int i = 0; i < 300; ++i) tops += rng.interval(2) == 2;
  EXPECT_NEAR(tops, 100, 41);  // five standard deviations
}

TEST(SampleRng, DependsOnEachPartOfItsKey) {
  EXPECT_EQ(SampleRng(1, 2, 3).next_uint64(), SampleRng(1, 2, 3).next_uint64());
  std::map<std::uint64_t, int> seen;
  for (int seed = 0; seed < 10; ++seed) {
    for (int epoch = 0; epoch < 10; ++epoch) {
      for (int index = 0; index < 10; ++index) ++seen[SampleRng(seed, epoch, index).next_uint64()];
    }
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(Mixture, SampleCountAndShuffleEqualOumis) {
  for (const Json& entry : golden()["sampling"]) {
    const SamplingOptions options{.shuffle = entry["shuffle"],
                                  .seed = entry["seed"],
                                  .sample_count = entry["count"].is_null() ? -1 : entry["count"].get<std::int64_t>()};
    EXPECT_EQ(sample_indices(entry["size"], options, "k"), entry["order"].get<Order>()) << entry.dump();
  }
  EXPECT_THAT(error_of([] { sample_indices(0, {.sample_count = 3}, "data.x"); }),
              HasSubstr("[data.x] expected samples to draw 3 from, got an empty dataset"));
}

TEST(Mixture, InterleavingEqualsDatasets) {
  std::map<std::string, std::size_t> sizes;
  for (const Json& entry : golden()["interleave"]) {
    const auto strategy = parse_mixture_strategy(entry["strategy"], "k");
    const auto order = interleave_indices(entry["sizes"].get<Order>(), entry["probabilities"].get<std::vector<double>>(),
                                          entry["seed"], strategy, "k");
    EXPECT_EQ(order, entry["order"].get<Order>()) << entry.dump();
    if (entry["seed"] == 1 && entry["sizes"] == Json({5, 50, 5})) sizes[entry["strategy"]] = order.size();
  }
  // The sizes that Oumi's own tests expect.
  EXPECT_EQ(sizes["first_exhausted"], 9u);
  EXPECT_EQ(sizes["all_exhausted"], 124u);
}

TEST(Mixture, RefusesWhatCannotBeMixed) {
  const auto mix = [](std::vector<std::int64_t> sizes, std::vector<double> p, MixtureStrategy strategy) {
    return error_of([&] { interleave_indices(sizes, p, 1, strategy, "data.train.datasets"); });
  };
  EXPECT_THAT(mix({5, 5}, {0.5, 0.9}, MixtureStrategy::kFirstExhausted), HasSubstr("add up to 1, got 1.4"));
  EXPECT_THAT(mix({5, 5}, {-0.5, 1.5}, MixtureStrategy::kFirstExhausted), HasSubstr("at least 0, got -0.5"));
  EXPECT_THAT(mix({5, 0}, {0.5, 0.5}, MixtureStrategy::kFirstExhausted), HasSubstr("dataset 1 of the mixture is empty"));
  EXPECT_THAT(mix({5, 5}, {1, 0}, MixtureStrategy::kAllExhausted), HasSubstr("never exhausted"));
  EXPECT_THAT(error_of([] { parse_mixture_strategy("first_exausted", "k"); }), HasSubstr("did you mean 'first_exhausted'?"));
}

TEST(Split, RangesEqualDatasets) {
  for (const Json& entry : golden()["splits"]) {
    const auto slices = parse_split(entry["split"], "k");
    ASSERT_EQ(slices.size(), 1u);
    const IndexRange range = resolve_slice(slices[0], entry["size"]);
    const auto begin = entry["range"][0].get<std::int64_t>(), end = entry["range"][1].get<std::int64_t>();
    // An empty range may be named by any bounds.
    EXPECT_EQ(range.end - range.begin, std::max<std::int64_t>(end - begin, 0)) << entry.dump();
    if (end > begin) {
      EXPECT_EQ(range.begin, begin) << entry.dump();
    }
  }
}

TEST(Split, JoinsTerms) {
  const auto slices = parse_split("train[:50%] + test", "k");
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0].name, "train");
  EXPECT_EQ(slices[1].name, "test");
  EXPECT_TRUE(slices[1].is_whole());
}

TEST(Split, RefusesWhatItCannotRead) {
  for (const char* text : {"", "train[", "train[5]", "train[:10%", "train[a:b]", "train++test", "train[1:2:3]", "train[:-]"}) {
    EXPECT_THAT(error_of([&] { parse_split(text, "data.split"); }), HasSubstr("[data.split]")) << text;
  }
  EXPECT_THAT(error_of([] { parse_split("train[:101%]", "k"); }), HasSubstr("expected percent in [-100, 100], got 101"));
  EXPECT_THAT(error_of([] { parse_split("train[10:50%]", "k"); }), HasSubstr("mixes samples and percent"));
  EXPECT_THAT(error_of([] { parse_split("train[:99999999999999999999]", "k"); }), HasSubstr("out of range"));
}

}  // namespace
}  // namespace oumi
