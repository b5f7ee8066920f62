#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "oumi/base/error.h"
#include "oumi/data/data_loader.h"

namespace oumi {
namespace {

using testing::HasSubstr;
using Indices = std::vector<std::int64_t>;
using Batches = std::vector<Indices>;

struct StreamOptions {
  std::int64_t count = 0;
  bool knows_length = false;
  bool has_state = false;
  std::int64_t fails_at = -1;
};

// Yields 0, 1, ..., count - 1, plus 1000 times the epoch.
class Stream : public IterableDataset {
 public:
  explicit Stream(StreamOptions options) : options_(options) {}
  std::optional<std::int64_t> length() const override {
    return options_.knows_length ? std::optional(options_.count) : std::nullopt;
  }
  void set_epoch(std::int64_t epoch) override {
    Dataset::set_epoch(epoch);
    next_ = 0;
  }
  void shard(std::int64_t rank, std::int64_t world_size) override { rank_ = rank, world_size_ = world_size; }
  std::optional<Sample> next() override {
    while (next_ < options_.count && next_ % world_size_ != rank_) ++next_;
    if (next_ >= options_.count) return std::nullopt;
    if (next_ == options_.fails_at) throw UserError("data.jsonl:8", "expected an object");
    ++read;
    return Sample{{"x", at::full({}, next_++ + 1000 * epoch(), at::kLong)}};
  }
  Json state_dict() const override { return options_.has_state ? Json{{"next", next_}} : Json::object(); }
  void load_state_dict(const Json& state) override { next_ = state.at("next").get<std::int64_t>(); }
  std::string name() const override { return "stream"; }

  std::int64_t read = 0;

 private:
  StreamOptions options_;
  std::int64_t next_ = 0, rank_ = 0, world_size_ = 1;
};

Batches drain(DataLoader& loader) {
  Batches batches;
  while (const auto batch = loader.next()) {
    const Tensor& x = batch->at("x");
    batches.emplace_back(x.const_data_ptr<std::int64_t>(), x.const_data_ptr<std::int64_t>() + x.numel());
  }
  return batches;
}

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return describe(error);
  }
  return "no error";
}

TEST(IterableLoaderTest, GivesEverySampleOnceAtAnyNumberOfWorkers) {
  for (const std::int64_t workers : {0, 1, 4}) {
    for (const bool known : {false, true}) {
      DataLoader loader(std::make_shared<Stream>(StreamOptions{.count = 7, .knows_length = known}),
                        DataLoaderOptions{.batch_size = 3, .num_workers = workers});
      EXPECT_EQ(drain(loader), (Batches{{0, 1, 2}, {3, 4, 5}, {6}}));
      EXPECT_EQ(drain(loader), Batches{});
      loader.start_epoch(2);
      EXPECT_EQ(drain(loader), (Batches{{2000, 2001, 2002}, {2003, 2004, 2005}, {2006}}));
      EXPECT_EQ(loader.batches_per_epoch(), known ? std::optional<std::int64_t>(3) : std::nullopt);
      DataLoader dropping(std::make_shared<Stream>(StreamOptions{.count = 7, .knows_length = known}),
                          DataLoaderOptions{.batch_size = 3, .num_workers = workers, .drop_last = true});
      EXPECT_EQ(drain(dropping), (Batches{{0, 1, 2}, {3, 4, 5}}));
    }
  }
}

TEST(IterableLoaderTest, EmptyStreams) {
  for (const std::int64_t world : {1, 3}) {
    for (const bool known : {false, true}) {
      DataLoader loader(std::make_shared<Stream>(StreamOptions{.knows_length = known}),
                        DataLoaderOptions{.batch_size = 3, .world_size = world});
      EXPECT_EQ(drain(loader), Batches{});
    }
  }
}

TEST(IterableLoaderTest, RanksGetEqualNumbersOfBatchesAndTogetherEverySample) {
  for (std::int64_t count = 1; count <= 13; ++count) {
    for (const std::int64_t world : {2, 3}) {
      for (const std::int64_t batch_size : {1, 2, 3}) {
        for (const bool known : {false, true}) {
          for (const std::string kind : {"even", "drop_last", "uneven"}) {
            if (kind == "even" && count < world) continue;
            Indices all;
            std::vector<std::size_t> lengths;
            for (std::int64_t rank = 0; rank < world; ++rank) {
              DataLoader loader(std::make_shared<Stream>(StreamOptions{.count = count, .knows_length = known}),
                                DataLoaderOptions{.batch_size = batch_size,
                                                  .drop_last = kind == "drop_last",
                                                  .rank = rank,
                                                  .world_size = world,
                                                  .even_batches = kind == "even"});
              const Batches batches = drain(loader);
              lengths.push_back(batches.size());
              if (known) {
                EXPECT_EQ(static_cast<std::int64_t>(batches.size()), loader.size());
              }
              for (const Indices& batch : batches) {
                if (kind != "uneven") {
                  EXPECT_EQ(static_cast<std::int64_t>(batch.size()), batch_size);
                }
                for (const std::int64_t x : batch) EXPECT_EQ(x % world, rank);
                all.insert(all.end(), batch.begin(), batch.end());
              }
            }
            std::sort(all.begin(), all.end());
            const std::string which = kind + " " + std::to_string(count) + " samples, world " + std::to_string(world) +
                                      ", batch " + std::to_string(batch_size) + (known ? ", known" : "");
            if (kind != "uneven") {
              EXPECT_EQ(lengths, std::vector<std::size_t>(lengths.size(), lengths[0])) << which;
            }
            if (kind == "drop_last") {
              EXPECT_EQ(static_cast<std::int64_t>(all.size()), count / (world * batch_size) * world * batch_size) << which;
            }
            const std::size_t drawn = all.size();
            all.erase(std::unique(all.begin(), all.end()), all.end());
            if (kind != "even") {
              EXPECT_EQ(all.size(), drawn) << which;
            }
            if (kind != "drop_last") {
              EXPECT_EQ(static_cast<std::int64_t>(all.size()), count) << which;
            }
          }
        }
      }
    }
  }
}

TEST(IterableLoaderTest, FewerSamplesThanRanksIsAnError) {
  DataLoader loader(std::make_shared<Stream>(StreamOptions{.count = 1}), DataLoaderOptions{.rank = 1, .world_size = 2});
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("[stream] expected at least one sample for each of the 2 ranks"));
}

TEST(IterableLoaderTest, ResumesAtEveryPosition) {
  for (const bool has_state : {true, false}) {
    for (const bool known : {false, true}) {
      for (const std::int64_t workers : {0, 2}) {
        for (const std::int64_t world : {1, 2}) {
          const StreamOptions stream{.count = 11, .knows_length = known, .has_state = has_state};
          const DataLoaderOptions options{.batch_size = 2, .num_workers = workers, .rank = world - 1, .world_size = world};
          DataLoader whole(std::make_shared<Stream>(stream), options);
          whole.start_epoch(1);
          const Batches expected = drain(whole);
          for (std::size_t position = 0; position <= expected.size(); ++position) {
            DataLoader first(std::make_shared<Stream>(stream), options);
            first.start_epoch(1);
            for (std::size_t i = 0; i < position; ++i) first.next();
            const Json state = Json::parse(first.state_dict().dump());
            const auto dataset = std::make_shared<Stream>(stream);
            DataLoader second(dataset, options);
            second.load_state_dict(state);
            EXPECT_EQ(second.position(), static_cast<std::int64_t>(position));
            const Json again = second.state_dict();
            EXPECT_EQ(again, state);
            const auto rest = Batches(expected.begin() + static_cast<std::ptrdiff_t>(position), expected.end());
            EXPECT_EQ(drain(second), rest) << state;
            if (has_state && world == 1) {
              EXPECT_EQ(dataset->read, 11 - std::min<std::int64_t>(11, 2 * static_cast<std::int64_t>(position)))
                  << "nothing is read again";
            }
            second.start_epoch(1, static_cast<std::int64_t>(position));
            EXPECT_EQ(drain(second), rest);
          }
        }
      }
    }
  }
}

TEST(IterableLoaderTest, AFinishedEpochResumesWithTheNext) {
  const DataLoaderOptions options{.batch_size = 2};
  DataLoader first(std::make_shared<Stream>(StreamOptions{.count = 3, .has_state = true}), options);
  drain(first);
  DataLoader second(std::make_shared<Stream>(StreamOptions{.count = 3, .has_state = true}), options);
  second.load_state_dict(first.state_dict());
  std::int64_t batches = 0;
  for (const Batch& batch : second) batches += batch.at("x")[0].item<std::int64_t>() >= 1000;
  EXPECT_EQ(batches, 2);
  EXPECT_EQ(second.epoch(), 1);
}

TEST(IterableLoaderTest, ErrorsSurfaceAndStatesOfAnotherWorldAreRefused) {
  for (const std::int64_t workers : {0, 1}) {
    for (const std::int64_t bad : {0, 3, 6}) {
      DataLoader loader(std::make_shared<Stream>(StreamOptions{.count = 7, .fails_at = bad}),
                        DataLoaderOptions{.batch_size = 2, .num_workers = workers});
      EXPECT_THAT(error_of([&] { drain(loader); }), HasSubstr("[data.jsonl:8] expected an object (reading on after "));
    }
  }
  const auto stream = [] { return std::make_shared<Stream>(StreamOptions{.count = 7}); };
  DataLoader one(stream(), DataLoaderOptions{}), two(stream(), DataLoaderOptions{.world_size = 2});
  DataLoader larger(stream(), DataLoaderOptions{.batch_size = 2});
  EXPECT_THAT(error_of([&] { two.load_state_dict(one.state_dict()); }),
              HasSubstr("world_size: expected 1 as in the saved state, got 2"));
  EXPECT_THAT(error_of([&] { larger.load_state_dict(one.state_dict()); }), HasSubstr("batch_size: expected 1"));
  EXPECT_THAT(error_of([&] { DataLoader(stream(), DataLoaderOptions{.shuffle = true}); }),
              HasSubstr("[shuffle] expected none for stream, which is an iterable dataset"));
  EXPECT_THAT(error_of([&] { one.size(); }), HasSubstr("training.max_steps"));
}

}  // namespace
}  // namespace oumi
