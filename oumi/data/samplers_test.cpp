#include "oumi/data/samplers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/batch_samplers.h"
#include "oumi/data/length_grouping.h"

namespace oumi {
namespace {

using Indices = std::vector<std::int64_t>;
using Batches = std::vector<Indices>;

const Json& golden() {
  static const Json file = [] {
    const char* source = std::getenv("OUMI_SOURCE_DIR");
    return read_json_file(std::filesystem::path(source == nullptr ? "." : source) / "tests/golden/data_order.json");
  }();
  return file;
}

Indices order_of(Sampler& sampler, std::int64_t epoch) {
  sampler.start_epoch(epoch);
  Indices order;
  for (std::int64_t i = 0; i < sampler.size(); ++i) order.push_back(sampler.at(i));
  return order;
}

// Read backwards, since batches are promised at any position.
Batches batches_of(const BatchSampler& sampler) {
  Batches batches(static_cast<std::size_t>(sampler.size()));
  for (std::int64_t i = sampler.size() - 1; i >= 0; --i) sampler.read(i, batches[static_cast<std::size_t>(i)]);
  return batches;
}

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(SamplersTest, ShardedBatchesEqualAccelerates) {
  ASSERT_GT(golden().at("loaders").size(), 300u);
  for (const Json& c : golden().at("loaders")) {
    const std::int64_t world = c[2];
    for (std::int64_t rank = 0; rank < world; ++rank) {
      auto sampler = std::make_shared<SeedableRandomSampler>(c[0].get<std::int64_t>(), c[7].get<std::uint64_t>());
      BatchSamplerPtr batches = std::make_shared<BatchSampler>(
          sampler, BatchSamplerOptions{.batch_size = c[1].get<std::int64_t>(), .drop_last = c[3].get<bool>()});
      if (world > 1) {
        batches = std::make_shared<BatchSamplerShard>(batches, BatchSamplerShardOptions{.num_processes = world,
                                                                                        .process_index = rank,
                                                                                        .split_batches = c[5].get<bool>(),
                                                                                        .even_batches = c[4].get<bool>()});
      }
      batches->start_epoch(c[6].get<std::int64_t>());
      ASSERT_EQ(batches_of(*batches), c[8][static_cast<std::size_t>(rank)].get<Batches>())
          << "rank " << rank << " of " << c.dump();
    }
  }
}

class VaryingBatches : public BatchSampler {
 public:
  explicit VaryingBatches(Batches batches) : batches_(std::move(batches)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(batches_.size()); }
  void read(std::int64_t position, Indices& indices) const override {
    indices = batches_.at(static_cast<std::size_t>(position));
  }
  std::optional<std::int64_t> batch_size() const override { return std::nullopt; }

 private:
  Batches batches_;
};

TEST(SamplersTest, ShardedBatchesOfVaryingSizeEqualAccelerates) {
  for (const Json& c : golden().at("varying")) {
    for (std::int64_t rank = 0; rank < c[1].get<std::int64_t>(); ++rank) {
      const BatchSamplerShard shard(
          std::make_shared<VaryingBatches>(c[0].get<Batches>()),
          {.num_processes = c[1].get<std::int64_t>(), .process_index = rank, .even_batches = c[2].get<bool>()});
      EXPECT_EQ(batches_of(shard), c[3][static_cast<std::size_t>(rank)].get<Batches>())
          << "rank " << rank << " of " << c.dump();
    }
  }
}

TEST(SamplersTest, LargePermutationsStartAsPyTorchs) {
  for (const Json& c : golden().at("large")) {
    SeedableRandomSampler sampler(c[0].get<std::int64_t>(), c[1].get<std::uint64_t>());
    const Indices order = order_of(sampler, c[2].get<std::int64_t>());
    EXPECT_EQ(Indices(order.begin(), order.begin() + 8), c[3].get<Indices>());
    std::int64_t hash = 0;  // a polynomial of the whole order
    for (const std::int64_t index : order) hash = (hash * 1000003 + index) % 2147483647;
    EXPECT_EQ(hash, c[4].get<std::int64_t>()) << c.dump();
  }
}

std::unique_ptr<Sampler> make_sampler(const std::string& kind, const Json& a, std::optional<at::Generator> generator) {
  if (kind == "random") {
    RandomSamplerOptions options{.replacement = a[2].get<bool>(), .generator = generator};
    if (!a[1].is_null()) options.num_samples = a[1].get<std::int64_t>();
    return std::make_unique<RandomSampler>(a[0].get<std::int64_t>(), options);
  }
  if (kind == "subset") return std::make_unique<SubsetRandomSampler>(a[0].get<Indices>(), generator);
  return std::make_unique<WeightedRandomSampler>(
      a[0].get<std::vector<double>>(),
      WeightedRandomSamplerOptions{
          .num_samples = a[1].get<std::int64_t>(), .replacement = a[2].get<bool>(), .generator = generator});
}

std::uint64_t seed_of(const std::string& kind, const Json& a) {
  return kind == "random" ? 5 : kind == "subset" ? 6 : a[2].get<bool>() ? 7 : 8;
}

TEST(SamplersTest, GeneratorSamplersEqualPyTorchsOverTwoEpochs) {
  for (const Json& c : golden().at("torch_samplers")) {
    const auto kind = c[0].get<std::string>();
    const auto sampler = make_sampler(kind, c[1], make_generator(seed_of(kind, c[1])));
    EXPECT_EQ(order_of(*sampler, 0), c[2][0].get<Indices>()) << c.dump();
    EXPECT_EQ(order_of(*sampler, 0), c[2][0].get<Indices>()) << "an epoch keeps its order";
    EXPECT_EQ(order_of(*sampler, 1), c[2][1].get<Indices>()) << c.dump();
  }
}

TEST(SamplersTest, StateBringsBackAnEpochAndTheOnesAfterIt) {
  for (const bool own_generator : {true, false}) {
    for (const Json& c : golden().at("torch_samplers")) {
      const auto kind = c[0].get<std::string>();
      const auto generator = [&] { return own_generator ? std::optional(make_generator(99)) : std::nullopt; };
      const auto first = make_sampler(kind, c[1], generator());
      order_of(*first, 0);
      const Indices epoch1 = order_of(*first, 1);
      const Json state = Json::parse(first->state_dict().dump());
      const auto second = make_sampler(kind, c[1], own_generator ? std::optional(make_generator(1)) : std::nullopt);
      second->load_state_dict(state);
      EXPECT_EQ(order_of(*second, 1), epoch1) << kind;
      if (own_generator) {
        EXPECT_EQ(order_of(*second, 2), order_of(*first, 2)) << kind;
      }
    }
  }
}

TEST(SamplersTest, DamagedGeneratorStateIsAnError) {
  RandomSampler sampler(5, {.generator = make_generator(0)});
  EXPECT_THAT(error_of([&] { sampler.load_state_dict({{"generator", "00ff"}}); }),
              testing::HasSubstr("expected 5056 bytes, got 2"));
  EXPECT_THAT(error_of([&] { sampler.load_state_dict({{"generator", "zz"}}); }), testing::HasSubstr("hexadecimal"));
}

TEST(SamplersTest, DistributedSamplerEqualsPyTorchs) {
  for (const Json& c : golden().at("distributed")) {
    for (std::int64_t rank = 0; rank < c[1].get<std::int64_t>(); ++rank) {
      DistributedSampler sampler(c[0].get<std::int64_t>(), {.num_replicas = c[1].get<std::int64_t>(),
                                                            .rank = rank,
                                                            .shuffle = c[2].get<bool>(),
                                                            .seed = c[4].get<std::uint64_t>(),
                                                            .drop_last = c[3].get<bool>()});
      EXPECT_EQ(order_of(sampler, c[5].get<std::int64_t>()), c[6][static_cast<std::size_t>(rank)].get<Indices>()) << c.dump();
    }
  }
}

TEST(SamplersTest, ImpossibleRequestsAreErrors) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of([] { RandomSampler(5, {.num_samples = 0}); }), HasSubstr("num_samples: expected 1 or more, got 0"));
  EXPECT_THAT(error_of([] { RandomSampler(0, {.num_samples = 3}); }), HasSubstr("empty dataset"));
  EXPECT_THAT(error_of([] { SequentialSampler(-1); }), HasSubstr("expected 0 or more, got -1"));
  EXPECT_THAT(error_of([] { WeightedRandomSampler({1, -0.5}, {.num_samples = 1}); }),
              HasSubstr("weights[1]: expected a finite number"));
  EXPECT_THAT(error_of([] { WeightedRandomSampler({0, 0}, {.num_samples = 1}); }), HasSubstr("at least one above 0"));
  EXPECT_THAT(error_of([] { WeightedRandomSampler({1, 0, 2}, {.num_samples = 3, .replacement = false}); }),
              HasSubstr("expected at most 2"));
  EXPECT_THAT(error_of([] { DistributedSampler(5, {.num_replicas = 2, .rank = 2}); }),
              HasSubstr("rank: expected 0 to 1, got 2"));
  const auto sequential = std::make_shared<SequentialSampler>(5);
  EXPECT_THAT(error_of([&] { BatchSampler(sequential, {.batch_size = 0}); }), HasSubstr("expected 1 or more, got 0"));
  EXPECT_THAT(error_of([&] {
                BatchSamplerShard(std::make_shared<BatchSampler>(sequential, BatchSamplerOptions{.batch_size = 3}),
                                  {.num_processes = 2, .split_batches = true});
              }),
              HasSubstr("expected a multiple of the world size 2, got 3"));
}

TEST(LengthGroupingTest, OrderEqualsTransformers) {
  for (const Json& c : golden().at("length_grouped")) {
    at::Generator generator = make_generator(c[3].get<std::uint64_t>());
    const auto mult = c[2].is_null() ? std::nullopt : std::optional(c[2].get<std::int64_t>());
    EXPECT_EQ(length_grouped_indices(c[0].get<Indices>(), c[1].get<std::int64_t>(), generator, mult), c[4].get<Indices>())
        << c.dump();
  }
}

TEST(LengthGroupingTest, EpochsDifferAndCanBeRestarted) {
  Indices lengths(100);
  std::iota(lengths.begin(), lengths.end(), 0);
  LengthGroupedSampler sampler(lengths, {.batch_size = 2, .seed = 1});
  const Indices first = order_of(sampler, 0), second = order_of(sampler, 1);
  EXPECT_NE(first, second);
  EXPECT_EQ(first[0], 99) << "the longest comes first";
  EXPECT_EQ(order_of(sampler, 0), first);
  Indices sorted = second;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, lengths) << "every sample once";
  EXPECT_EQ(LengthGroupedSampler({}, {}).size(), 0);
}

TEST(LengthGroupingTest, AStateOfOtherLengthsIsRefused) {
  LengthGroupedSampler sampler({3, 1, 2}, {.batch_size = 2, .seed = 1}), other({3, 1, 9}, {.batch_size = 2, .seed = 1});
  EXPECT_NO_THROW(sampler.load_state_dict(sampler.state_dict()));
  EXPECT_THAT(error_of([&] { other.load_state_dict(sampler.state_dict()); }), testing::HasSubstr("lengths: expected"));
}

}  // namespace
}  // namespace oumi
