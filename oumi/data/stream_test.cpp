#include "oumi/data/stream.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>

#include "oumi/data/function_dataset.h"
#include "oumi/data/mixture.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/data/testing/support.h"
#include "oumi/data/torch_data.h"
#include "oumi/data/views.h"

namespace oumi {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

Sample numbered(std::int64_t i) { return {{"x", at::scalar_tensor(i, at::TensorOptions(c10::kLong))}}; }

StreamPtr count_from(std::int64_t begin, std::int64_t size) {
  return as_stream(std::make_shared<FunctionDataset>(size, [begin](std::int64_t i) { return numbered(begin + i); }));
}

// A stream without a state or length of its own.
StreamPtr generated(std::int64_t begin, std::int64_t size) {
  return as_stream(std::make_shared<GeneratorDataset>([begin, size](std::int64_t) {
    return [i = begin, end = begin + size]() mutable -> std::optional<Sample> {
      return i < end ? std::optional(numbered(i++)) : std::nullopt;
    };
  }));
}

Ids drain(Dataset& stream) {
  Ids ids;
  while (const auto sample = stream.next()) ids.push_back(sample->at("x").item<std::int64_t>());
  return ids;
}

using Make = std::function<StreamPtr()>;

std::vector<std::pair<const char*, Make>> all_streams() {
  const auto mix = [](MixtureStrategy strategy) {
    return interleave_streams({count_from(0, 5), generated(5, 20), count_from(25, 6)}, {{0.2, 0.5, 0.3}, 1, strategy});
  };
  return {
      {"map", [] { return count_from(0, 13); }},
      {"generator", [] { return generated(0, 13); }},
      {"shuffle", [] { return shuffle_stream(generated(0, 23), {.buffer_size = 5, .seed = 3}); }},
      {"repeat", [] { return repeat_stream(count_from(0, 4), 11); }},
      {"slice", [] { return slice_stream(generated(0, 30), {7, 19}); }},
      {"concat", [] { return concat_streams({count_from(0, 3), generated(3, 4), count_from(7, 5)}); }},
      {"first_exhausted", [=] { return mix(MixtureStrategy::kFirstExhausted); }},
      {"all_exhausted", [=] { return mix(MixtureStrategy::kAllExhausted); }},
      {"all of it",
       [=] {
         return repeat_stream(shuffle_stream(concat_streams({mix(MixtureStrategy::kAllExhausted), count_from(90, 4)}),
                                             {.buffer_size = 7, .seed = 1}),
                              150);
       }},
  };
}

TEST(Stream, ResumesExactlyFromEveryPositionWithASmallState) {
  for (const auto& [name, make] : all_streams()) {
    const StreamPtr whole = make();
    whole->set_epoch(2);
    const Ids expected = drain(*whole);
    ASSERT_GE(expected.size(), 5u) << name;
    for (std::size_t taken = 0; taken <= expected.size(); ++taken) {
      const StreamPtr stream = make();
      stream->set_epoch(2);
      for (std::size_t i = 0; i < taken; ++i) ASSERT_TRUE(stream->next());
      const Json state = parse_json(stream->state_dict().dump(), "state");
      EXPECT_LT(state.dump().size(), 1500u);
      const StreamPtr resumed = make();
      resumed->load_state_dict(state);
      EXPECT_EQ(drain(*resumed), Ids(expected.begin() + static_cast<std::ptrdiff_t>(taken), expected.end()))
          << name << " after " << taken;
    }
  }
}

TEST(Stream, ShardsPartitionTheStreamAndStatesOfRanksAreInterchangeable) {
  for (const auto& [name, make] : all_streams()) {
    const Ids expected = drain(*make());
    for (const std::int64_t world_size : {2, 3, 40}) {
      for (std::int64_t rank = 0; rank < world_size; ++rank) {
        const StreamPtr stream = make();
        stream->shard(rank, world_size);
        Ids wanted;
        for (std::size_t i = static_cast<std::size_t>(rank); i < expected.size(); i += static_cast<std::size_t>(world_size))
          wanted.push_back(expected[i]);
        EXPECT_EQ(drain(*stream), wanted) << name;
      }
    }
    // Two samples on each of two ranks, then on with three ranks from either rank's state.
    for (std::int64_t writer = 0; writer < 2; ++writer) {
      const StreamPtr stream = make();
      stream->shard(writer, 2);
      stream->next(), stream->next();
      for (std::int64_t rank = 0; rank < 3; ++rank) {
        const StreamPtr resumed = make();
        resumed->shard(rank, 3);
        resumed->load_state_dict(stream->state_dict());
        Ids wanted;
        for (std::size_t i = 4; i < expected.size(); ++i) {
          if (static_cast<std::int64_t>(i) % 3 == rank) wanted.push_back(expected[i]);
        }
        EXPECT_EQ(drain(*resumed), wanted) << name << " " << writer << " " << rank;
      }
    }
  }
}

TEST(Stream, ShuffleKeepsEverySampleAndChangesWithEpochAndSeed) {
  const StreamPtr a = shuffle_stream(count_from(0, 100), {.buffer_size = 30, .seed = 1});
  const Ids first = drain(*a);
  a->set_epoch(1);
  const Ids second = drain(*a);
  a->set_epoch(0);
  EXPECT_EQ(drain(*a), first);
  EXPECT_NE(first, second);
  EXPECT_NE(drain(*shuffle_stream(count_from(0, 100), {.buffer_size = 30, .seed = 2})), first);
  Ids sorted = first;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_NE(first, sorted);
  for (std::int64_t i = 0; i < 100; ++i) EXPECT_EQ(sorted[i], i);
}

TEST(Stream, InterleavingEqualsDatasets) {
  int compared = 0;
  for (const Json& entry : golden()["interleave"]) {
    if (!entry.contains("stream")) continue;
    std::vector<StreamPtr> parts;
    std::int64_t begin = 0;
    for (const std::int64_t size : entry["sizes"].get<Ids>()) {
      parts.push_back(begin % 2 == 0 ? count_from(begin, size) : generated(begin, size));
      begin += size;
    }
    const auto mixed = interleave_streams(parts, {entry["probabilities"].get<std::vector<double>>(), entry["seed"],
                                                  parse_mixture_strategy(entry["strategy"], "k")});
    EXPECT_EQ(drain(*mixed), entry["stream"].get<Ids>()) << entry.dump();
    ++compared;
  }
  EXPECT_EQ(compared, 12);
}

TEST(Stream, RefusesMistakes) {
  EXPECT_THAT(error_of([] { count_from(0, 3)->shard(2, 2); }), HasSubstr("got rank 2 of 2"));
  EXPECT_THAT(error_of([] { count_from(0, 3)->load_state_dict(Json{{"epoch", 0}}); }), HasSubstr("state cannot be read"));
  EXPECT_THAT(error_of([] { shuffle_stream(count_from(0, 3), {.buffer_size = 0}); }), HasSubstr("shuffle_buffer_size"));
  EXPECT_THAT(error_of([] { drain(*repeat_stream(count_from(0, 0), 3)); }), HasSubstr("got an empty dataset"));
}

TEST(Views, SubsetAndConcatAgreeBetweenGetAndGetBatch) {
  const auto tensors = [](std::int64_t begin, std::int64_t end) {
    return std::make_shared<TensorDataset>(TensorDict{{"x", at::arange(begin, end)}});
  };
  const auto joined = std::make_shared<ConcatDataset>(std::vector<DatasetPtr>{tensors(0, 4), tensors(4, 4), tensors(4, 10)});
  SubsetDataset subset(std::make_shared<SubsetDataset>(joined, Ids{9, 8, 7, 0, 1, 4}), {5, 0, 3, 3});
  const Ids order = {0, 1, 2, 3};
  const Batch batch = subset.get_batch(order);
  EXPECT_EQ(batch.sample_ids, order);
  Ids one_by_one;
  for (const std::int64_t i : order) one_by_one.push_back(subset.get(i).at("x").item<std::int64_t>());
  EXPECT_THAT(one_by_one, ElementsAre(4, 9, 0, 0));
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(batch.at("x")[i].item<std::int64_t>(), one_by_one[i]);
  EXPECT_THAT(error_of([&] { subset.get(4); }), HasSubstr("sample 4 is out of range: expected an index in [0, 4)"));
  EXPECT_THAT(error_of([&] { joined->get(-1); }), HasSubstr("sample -1 is out of range"));
  EXPECT_THAT(error_of([&] { SubsetDataset(joined, {10}); }), HasSubstr("sample 10 is out of range"));
  const auto other = std::make_shared<TensorDataset>(TensorDict{{"y", at::arange(3)}});
  ConcatDataset mismatched({tensors(0, 3), other});
  EXPECT_THAT(error_of([&] { mismatched.get_batch(Ids{0, 5}); }), HasSubstr("expected [x], got [y]"));
}

struct Squares : torch::data::datasets::Dataset<Squares> {
  torch::data::Example<> get(std::size_t i) override {
    const auto value = static_cast<std::int64_t>(i);
    return {at::scalar_tensor(value * value), at::scalar_tensor(value)};
  }
  std::optional<std::size_t> size() const override { return 5; }
};

TEST(TorchData, DatasetsGoBothWays) {
  const DatasetPtr ours = from_torch_data(Squares{}, {.data = "inputs", .target = "labels"});
  ASSERT_EQ(ours->size(), 5);
  EXPECT_EQ(ours->get(3).at("inputs").item<int>(), 9);
  EXPECT_EQ(ours->get(3).at("labels").item<int>(), 3);
  EXPECT_THAT(error_of([&] { ours->get(5); }), HasSubstr("out of range"));
  ToTorchData theirs(ours, {.data = "inputs", .target = "labels"});
  EXPECT_EQ(*theirs.size(), 5u);
  EXPECT_EQ(theirs.get_batch({1, 2}).at(1).data.item<int>(), 4);
  EXPECT_THAT(error_of([] { ToTorchData(generated(0, 3)); }), HasSubstr("expected a map-style dataset"));
}

}  // namespace
}  // namespace oumi
