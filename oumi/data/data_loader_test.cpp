#include "oumi/data/data_loader.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/length_grouping.h"
#include "oumi/data/samplers.h"

namespace oumi {
namespace {

using testing::HasSubstr;
using Indices = std::vector<std::int64_t>;
using Batches = std::vector<Indices>;

// Sample i holds i and the epoch; counts what is loaded, and fails or dawdles on request.
class Numbers : public MapDataset {
 public:
  explicit Numbers(std::int64_t n) : n_(n) {}
  std::optional<std::int64_t> length() const override { return n_; }
  Sample get(std::int64_t index) override {
    ++loaded;
    if (index == slow_index) std::this_thread::sleep_for(slow_time);
    if (on_get) on_get(index);
    return Sample{{"x", at::full({}, index, at::kLong)}, {"epoch", at::full({}, epoch(), at::kLong)}};
  }
  std::string name() const override { return "numbers"; }

  std::atomic<std::int64_t> loaded = 0;
  std::function<void(std::int64_t)> on_get;
  std::int64_t slow_index = -1;
  std::chrono::milliseconds slow_time{0};

 private:
  std::int64_t n_;
};

Indices values(const Batch& batch) {
  const Tensor& x = batch.at("x");
  const std::int64_t* data = x.const_data_ptr<std::int64_t>();
  return Indices(data, data + x.numel());
}

Batches drain(DataLoader& loader) {
  Batches batches;
  while (const auto batch = loader.next()) batches.push_back(values(*batch));
  return batches;
}

Batches epoch_of(DataLoader& loader, std::int64_t epoch) {
  loader.start_epoch(epoch);
  return drain(loader);
}

Indices sorted(const Batches& batches) {
  Indices all;
  for (const Indices& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  std::sort(all.begin(), all.end());
  return all;
}

Indices range(std::int64_t n) {
  Indices numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return cat(static_cast<int>(error.exit_code()), " ", describe(error));
  } catch (const std::exception& error) {
    return cat("not ours: ", error.what());
  }
  return "no error";
}

std::vector<DataLoaderOptions> kinds_of_workers() {
  std::vector<DataLoaderOptions> kinds;
  for (const std::int64_t workers : {0, 1, 2, 5}) {
    kinds.push_back({.num_workers = workers});
    if (workers > 0) {
      kinds.push_back({.num_workers = workers, .prefetch_factor = 1, .persistent_workers = true});
      kinds.push_back({.num_workers = workers, .prefetch_factor = 3});
    }
  }
  return kinds;
}

TEST(DataLoaderTest, OrderIsTheSamplersAtAnyNumberOfWorkers) {
  for (const bool custom_collate : {false, true}) {
    for (DataLoaderOptions options : kinds_of_workers()) {
      options.batch_size = 3;
      options.shuffle = true;
      options.seed = 42;
      if (custom_collate) options.collate_fn = default_collate;
      DataLoader loader(std::make_shared<Numbers>(10), options);
      SeedableRandomSampler sampler(10, 42);
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        sampler.start_epoch(epoch);
        loader.start_epoch(epoch);
        std::int64_t seen = 0;
        while (const auto batch = loader.next()) {
          Indices expected;
          for (std::int64_t i = 0; i < batch->batch_size(); ++i) expected.push_back(sampler.at(seen++));
          EXPECT_EQ(values(*batch), expected) << options.num_workers << " workers";
          EXPECT_EQ(batch->sample_ids, expected);
          EXPECT_EQ(batch->at("epoch")[0].item<std::int64_t>(), epoch);
        }
        EXPECT_EQ(seen, 10);
        EXPECT_EQ(loader.position(), loader.size());
        EXPECT_FALSE(loader.next().has_value()) << "stays at the end";
      }
    }
  }
}

TEST(DataLoaderTest, RangeForStartsTheNextEpoch) {
  for (const std::int64_t workers : {0, 2}) {
    DataLoader loader(std::make_shared<Numbers>(5), DataLoaderOptions{.batch_size = 2, .num_workers = workers});
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      Batches batches;
      for (const Batch& batch : loader) batches.push_back(values(batch));
      EXPECT_EQ(batches, (Batches{{0, 1}, {2, 3}, {4}}));
      EXPECT_EQ(loader.epoch(), epoch);
    }
    for (const Batch& batch : loader) {
      EXPECT_EQ(values(batch), (Indices{0, 1}));
      break;
    }
    for (Batch batch : loader) EXPECT_EQ(batch.at("epoch")[0].item<std::int64_t>(), 4) << "an early break ends the epoch";
  }
}

TEST(DataLoaderTest, OddSizes) {
  for (const std::int64_t workers : {0, 3}) {
    const auto batches = [&](std::int64_t n, std::int64_t batch_size, bool drop_last) {
      DataLoader loader(std::make_shared<Numbers>(n),
                        DataLoaderOptions{.batch_size = batch_size, .num_workers = workers, .drop_last = drop_last});
      Batches all = drain(loader);
      EXPECT_EQ(static_cast<std::int64_t>(all.size()), loader.size());
      return all;
    };
    EXPECT_EQ(batches(0, 4, false), Batches{});
    EXPECT_EQ(batches(1, 4, false), Batches{{0}});
    EXPECT_EQ(batches(1, 4, true), Batches{});
    EXPECT_EQ(batches(5, 2147483647, false), (Batches{{0, 1, 2, 3, 4}}));
    EXPECT_EQ(batches(5, 2, true), (Batches{{0, 1}, {2, 3}}));
  }
}

TEST(DataLoaderTest, OutOfOrderGivesEverySampleOnceAndDoesNotWaitForASlowOne) {
  const auto dataset = std::make_shared<Numbers>(40);
  dataset->slow_index = 0;
  dataset->slow_time = std::chrono::milliseconds(100);
  DataLoader loader(dataset, DataLoaderOptions{.batch_size = 2, .num_workers = 2, .in_order = false});
  const Batches batches = drain(loader);
  EXPECT_EQ(sorted(batches), range(40));
  EXPECT_NE(batches.front(), (Indices{0, 1}));
}

TEST(DataLoaderTest, ResumesAtEveryPositionWithoutLoadingWhatWasSeen) {
  for (DataLoaderOptions options : kinds_of_workers()) {
    options.batch_size = 3;
    options.shuffle = true;
    options.seed = 7;
    DataLoader whole(std::make_shared<Numbers>(14), options);
    epoch_of(whole, 0);
    const Batches epoch1 = epoch_of(whole, 1), epoch2 = epoch_of(whole, 2);
    for (std::size_t position = 0; position <= epoch1.size(); ++position) {
      Json state;
      {
        DataLoader interrupted(std::make_shared<Numbers>(14), options);
        interrupted.start_epoch(1);
        for (std::size_t i = 0; i < position; ++i) interrupted.next();
        state = Json::parse(interrupted.state_dict().dump());
      }
      EXPECT_LT(state.dump().size(), 400u);
      const auto dataset = std::make_shared<Numbers>(14);
      DataLoader resumed(dataset, options);
      resumed.load_state_dict(state);
      EXPECT_EQ(resumed.epoch(), 1);
      EXPECT_EQ(resumed.position(), static_cast<std::int64_t>(position));
      EXPECT_EQ(drain(resumed), Batches(epoch1.begin() + static_cast<std::ptrdiff_t>(position), epoch1.end()));
      EXPECT_EQ(dataset->loaded, 14 - std::min<std::int64_t>(14, 3 * static_cast<std::int64_t>(position)));
      Batches next_epoch;
      for (const Batch& batch : resumed) next_epoch.push_back(values(batch));
      EXPECT_EQ(next_epoch, epoch2);

      DataLoader sought(std::make_shared<Numbers>(14), options);
      sought.start_epoch(1, static_cast<std::int64_t>(position));
      EXPECT_EQ(drain(sought), Batches(epoch1.begin() + static_cast<std::ptrdiff_t>(position), epoch1.end()));
    }
  }
}

TEST(DataLoaderTest, RangeForGoesOnWhereAStateWasLoaded) {
  const DataLoaderOptions options{.batch_size = 2};
  DataLoader first(std::make_shared<Numbers>(6), options), second(std::make_shared<Numbers>(6), options);
  first.next();
  second.load_state_dict(first.state_dict());
  Batches batches;
  for (const Batch& batch : second) batches.push_back(values(batch));
  EXPECT_EQ(batches, (Batches{{2, 3}, {4, 5}}));
  first.load_state_dict(second.state_dict());  // at the end of epoch 0
  batches.clear();
  for (const Batch& batch : first) batches.push_back(values(batch));
  EXPECT_EQ(batches.size(), 3u);
  EXPECT_EQ(first.epoch(), 1);
}

TEST(DataLoaderTest, OutOfOrderResumesExactlyOnce) {
  const DataLoaderOptions options{.batch_size = 1, .num_workers = 2, .in_order = false};
  for (const bool resume_in_order : {false, true}) {
    for (const std::int64_t resume_workers : {0, 2}) {
      const auto dataset = std::make_shared<Numbers>(12);
      dataset->slow_index = 2;
      dataset->slow_time = std::chrono::milliseconds(60);
      DataLoader first(dataset, options);
      Batches seen;
      for (int i = 0; i < 6; ++i) seen.push_back(values(*first.next()));
      DataLoaderOptions changed = options;
      changed.in_order = resume_in_order;
      changed.num_workers = resume_workers;
      DataLoader second(std::make_shared<Numbers>(12), changed);
      second.load_state_dict(Json::parse(first.state_dict().dump()));
      for (const Indices& batch : drain(second)) seen.push_back(batch);
      EXPECT_EQ(sorted(seen), range(12)) << first.state_dict();
    }
  }
}

TEST(DataLoaderTest, AChangedBatchOrWorldSizeKeepsTheSamplesSeen) {
  const auto options = [](std::int64_t batch_size, std::int64_t world, std::int64_t rank) {
    return DataLoaderOptions{.batch_size = batch_size, .shuffle = true, .seed = 3, .rank = rank, .world_size = world};
  };
  for (const auto& [batch_size, world] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{4, 1}, {3, 1}, {1, 2}, {2, 3}, {5, 2}, {40, 1}}) {
    Batches seen;
    Json state;
    for (std::int64_t rank = 0; rank < 2; ++rank) {
      DataLoader old(std::make_shared<Numbers>(24), options(2, 2, rank));
      old.start_epoch(1);
      for (int i = 0; i < 3; ++i) seen.push_back(values(*old.next()));
      state = old.state_dict();
    }
    Json second_state;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      DataLoader loader(std::make_shared<Numbers>(24), options(batch_size, world, rank));
      loader.load_state_dict(state);
      if (rank == 0) second_state = loader.state_dict();
      for (const Indices& batch : drain(loader)) seen.push_back(batch);
      DataLoader again(std::make_shared<Numbers>(24), options(batch_size, world, rank));
      loader.load_state_dict(second_state);
      again.load_state_dict(second_state);
      EXPECT_EQ(drain(again), drain(loader)) << "a state taken after the change is as good";
      EXPECT_EQ(static_cast<std::int64_t>(epoch_of(again, 2).size()), again.size()) << "the next epoch is whole";
    }
    Indices all = sorted(seen);
    all.erase(std::unique(all.begin(), all.end()), all.end());  // ranks are filled up to even numbers
    EXPECT_EQ(all, range(24)) << "batch size " << batch_size << ", world size " << world;
    if (12 % (batch_size * world) == 0) {
      EXPECT_EQ(sorted(seen), range(24)) << "nothing to fill up";
    }
  }
}

TEST(DataLoaderTest, StatesOfOtherDataOrOrdersAreRefused) {
  const auto loader = [](std::int64_t n, DataLoaderOptions options) {
    return DataLoader(std::make_shared<Numbers>(n), options);
  };
  const DataLoaderOptions shuffled{.batch_size = 2, .shuffle = true, .seed = 1};
  const Json state = loader(10, shuffled).state_dict();
  const auto refusal = [&](DataLoader target, const Json& from) { return error_of([&] { target.load_state_dict(from); }); };
  EXPECT_EQ(refusal(loader(10, shuffled), state), "no error");
  EXPECT_THAT(refusal(loader(11, shuffled), state), HasSubstr("dataset length: expected 10 as in the saved state, got 11"));
  EXPECT_THAT(refusal(loader(10, {.batch_size = 2, .shuffle = true, .seed = 2}), state), HasSubstr("seed: expected 1"));
  EXPECT_THAT(refusal(loader(10, {.batch_size = 2}), state), HasSubstr("shuffle: expected 1"));
  EXPECT_THAT(refusal(loader(10, shuffled), Json::array()), HasSubstr("expected dict, got list"));
  EXPECT_THAT(refusal(loader(10, shuffled), Json::object()), HasSubstr("version: expected int, got nothing"));
  for (const auto& [key, damage, text] :
       std::vector<std::tuple<std::string, Json, std::string>>{{"position", 6, "expected at most 5"},
                                                               {"position", -1, "expected 0 to"},
                                                               {"position", "x", "expected int, got \"x\""},
                                                               {"epoch", nullptr, "expected int, got null"},
                                                               {"version", 2, "version: expected 2"},
                                                               {"kind", "iterable", "expected kind"},
                                                               {"ahead", {0}, "expected positions after"},
                                                               {"ahead", "x", "expected a list of int"},
                                                               {"finished", 1, "expected bool"}}) {
    Json damaged = state;
    damaged[key] = damage;
    EXPECT_THAT(refusal(loader(10, shuffled), damaged), AllOf(testing::StartsWith("2 "), HasSubstr(text))) << key;
  }
  Json far = state;
  far["position"] = std::int64_t{1} << 50;
  EXPECT_THAT(refusal(loader(10, {.batch_size = 4, .shuffle = true, .seed = 1}), far), HasSubstr("position: expected at most"));
}

TEST(DataLoaderTest, LengthGroupingResumes) {
  const auto options = [] {
    return DataLoaderOptions{.batch_size = 2,
                             .sampler = std::make_shared<LengthGroupedSampler>(
                                 Indices{5, 3, 9, 1, 7, 2, 2}, LengthGroupedSamplerOptions{.batch_size = 2, .seed = 4})};
  };
  DataLoader first(std::make_shared<Numbers>(7), options()), second(std::make_shared<Numbers>(7), options());
  first.start_epoch(3);
  first.next();
  second.load_state_dict(first.state_dict());
  EXPECT_EQ(drain(second), drain(first));
}

TEST(DataLoaderTest, AnErrorNamesTheSampleAndLeavesTheLoaderUsable) {
  for (const bool custom_collate : {false, true}) {
    for (const std::int64_t workers : {0, 1, 3}) {
      for (const std::int64_t bad : {0, 11, 23}) {
        const auto dataset = std::make_shared<Numbers>(24);
        bool failing = true;
        dataset->on_get = [&](std::int64_t index) {
          if (failing && index == bad) throw UserError("images/7.png", "is truncated");
        };
        DataLoaderOptions options{.batch_size = 2, .num_workers = workers};
        if (custom_collate) options.collate_fn = default_collate;
        DataLoader loader(dataset, options);
        const std::string error = error_of([&] { drain(loader); });
        EXPECT_THAT(error, HasSubstr("2 error: [images/7.png] is truncated (sample"));
        EXPECT_THAT(error, HasSubstr(cat(bad)));
        EXPECT_THAT(error, HasSubstr("of numbers)"));
        EXPECT_LE(loader.position(), bad / 2);
        EXPECT_EQ(error_of([&] { loader.next(); }), error) << "it stays";
        loader.start_epoch(0);  // waits, so that the flag can be changed
        failing = false;
        EXPECT_EQ(sorted(drain(loader)), range(24));
      }
    }
  }
}

TEST(DataLoaderTest, ForeignErrorsBecomeUserErrorsAndKindsAreKept) {
  for (const std::int64_t workers : {0, 2}) {
    const auto dataset = std::make_shared<Numbers>(4);
    const auto error_when = [&](std::function<void(std::int64_t)> fails) {
      dataset->on_get = [fails = std::move(fails)](std::int64_t index) {
        if (index == 0) fails(index);  // only: which of two failing workers is first is anyone's guess
      };
      DataLoader loader(dataset, DataLoaderOptions{.num_workers = workers, .collate_fn = default_collate});
      return error_of([&] { drain(loader); });
    };
    EXPECT_EQ(error_when([](std::int64_t) { throw std::out_of_range("no such row\nmore"); }),
              "2 error: [numbers] sample 0: no such row");
    EXPECT_THAT(error_when([](std::int64_t) { at::full({2}, 1).view({3}); }),
                HasSubstr("2 error: [numbers] sample 0: shape '[3]' is invalid"));
    EXPECT_THAT(error_when([](std::int64_t) { throw EnvironmentError("disk", "input/output error"); }),
                HasSubstr("3 error: [disk] input/output error (sample 0"));
    EXPECT_THAT(error_when([](std::int64_t) { throw UserError("f.csv", "sample 0: bad"); }),
                HasSubstr("2 error: [f.csv] sample 0: bad"));
    EXPECT_THAT(error_when([](std::int64_t) { throw std::bad_alloc(); }), HasSubstr("not ours"));
    dataset->on_get = nullptr;
    DataLoader loader(
        dataset, DataLoaderOptions{.batch_size = 4,
                                   .num_workers = workers,
                                   .collate_fn = [](const std::vector<Sample>&) -> Batch { throw std::runtime_error("odd"); }});
    EXPECT_EQ(error_of([&] { loader.next(); }), "2 error: [numbers] collate_fn on samples 0, 1, 2, 3: odd");
  }
}

TEST(DataLoaderTest, WorkersComputeAloneAndWithoutGradients) {
  const auto dataset = std::make_shared<Numbers>(8);
  const int threads_here = at::get_num_threads();
  std::atomic<int> wrong = 0, named = 0;
  dataset->on_get = [&](std::int64_t) {
    if (at::get_num_threads() != 1 || c10::GradMode::is_enabled()) ++wrong;
  };
  {
    DataLoader loader(
        dataset, DataLoaderOptions{.num_workers = 2, .worker_init_fn = [&](std::int64_t worker) { named |= 1 << worker; }});
    drain(loader);
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(named, 3);
  EXPECT_EQ(at::get_num_threads(), threads_here);
  std::thread([&] { EXPECT_EQ(at::get_num_threads(), threads_here) << "new threads are not affected"; }).join();
  EXPECT_TRUE(c10::GradMode::is_enabled());
}

TEST(DataLoaderTest, PersistentWorkersAreStartedOnce) {
  for (const bool persistent : {false, true}) {
    std::atomic<int> started = 0;
    {
      DataLoader loader(std::make_shared<Numbers>(8), DataLoaderOptions{.num_workers = 2,
                                                                        .worker_init_fn = [&](std::int64_t) { ++started; },
                                                                        .persistent_workers = persistent});
      for (int epoch = 0; epoch < 3; ++epoch) epoch_of(loader, epoch);
    }
    EXPECT_EQ(started, persistent ? 2 : 6);
  }
}

TEST(DataLoaderTest, TimeoutNamesTheBatch) {
  const auto dataset = std::make_shared<Numbers>(4);
  dataset->slow_index = 2;
  dataset->slow_time = std::chrono::milliseconds(200);
  DataLoader loader(dataset, DataLoaderOptions{.batch_size = 2, .num_workers = 1, .timeout = 0.02});
  EXPECT_EQ(values(*loader.next()), (Indices{0, 1}));
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("3 error: [timeout] batch 1 of epoch 0 of numbers has not come"));
}

TEST(DataLoaderTest, CanBeLeftAndDestroyedAtAnyTime) {
  for (const std::int64_t workers : {1, 4}) {
    for (int taken = 0; taken < 10; ++taken) {
      DataLoader loader(std::make_shared<Numbers>(1000),
                        DataLoaderOptions{.num_workers = workers, .persistent_workers = taken % 2 == 0});
      for (int i = 0; i < taken; ++i) loader.next();
      if (taken % 3 == 0) loader.start_epoch(5);
      DataLoader moved = std::move(loader);
      EXPECT_EQ(values(*moved.next()), (Indices{taken % 3 == 0 ? 0 : taken}));
    }
  }
}

TEST(DataLoaderTest, TwoLoadersShareADataset) {
  const auto dataset = std::make_shared<Numbers>(50);
  DataLoader first(dataset, DataLoaderOptions{.batch_size = 4, .num_workers = 2});
  DataLoader second(dataset, DataLoaderOptions{.batch_size = 4, .shuffle = true, .num_workers = 2});
  Batches a, b;
  for (int i = 0; i < 13; ++i) a.push_back(values(*first.next())), b.push_back(values(*second.next()));
  EXPECT_EQ(sorted(a), range(50));
  EXPECT_EQ(sorted(b), range(50));
}

TEST(DataLoaderTest, RefusesContradictions) {
  const auto refusal = [](DataLoaderOptions options) {
    return error_of([&] { DataLoader(std::make_shared<Numbers>(4), std::move(options)); });
  };
  const auto sampler = std::make_shared<SequentialSampler>(4);
  const auto batches = std::make_shared<BatchSampler>(sampler, BatchSamplerOptions{});
  EXPECT_EQ(refusal({.batch_sampler = batches}), "no error");
  EXPECT_THAT(refusal({.batch_size = 0}), HasSubstr("[batch_size] expected 1 to"));
  EXPECT_THAT(refusal({.num_workers = -1}), HasSubstr("[num_workers] expected 0 to"));
  EXPECT_THAT(refusal({.timeout = -1}), HasSubstr("[timeout] expected 0 or more"));
  EXPECT_THAT(refusal({.timeout = 1}), HasSubstr("without workers"));
  EXPECT_THAT(refusal({.prefetch_factor = 2}), HasSubstr("[prefetch_factor] expected none without workers"));
  EXPECT_THAT(refusal({.persistent_workers = true}), HasSubstr("[persistent_workers] expected false without workers"));
  EXPECT_THAT(refusal({.num_workers = 1, .prefetch_factor = 0}), HasSubstr("[prefetch_factor] expected 1 to"));
  EXPECT_THAT(refusal({.shuffle = true, .sampler = sampler}), HasSubstr("[sampler] expected no shuffle"));
  EXPECT_THAT(refusal({.batch_size = 2, .batch_sampler = batches}), HasSubstr("[batch_sampler]"));
  EXPECT_THAT(refusal({.rank = 2, .world_size = 2}), HasSubstr("[rank] expected 0 to 1, got 2"));
  EXPECT_THAT(error_of([] { DataLoader(nullptr, DataLoaderOptions{}); }), HasSubstr("expected a dataset, got none"));
  DataLoader loader(std::make_shared<Numbers>(4), DataLoaderOptions{});
  EXPECT_THAT(error_of([&] { loader.start_epoch(0, 5); }), HasSubstr("[first_batch] expected 0 to 4, got 5"));
}

TEST(DataLoaderTest, ReadsPyTorchsOptions) {
  const DataLoaderOptions options = DataLoaderOptions::from_kwargs({{"batch_size", 16},
                                                                    {"shuffle", true},
                                                                    {"num_workers", 2},
                                                                    {"collate_fn", "padding"},
                                                                    {"pin_memory", true},
                                                                    {"drop_last", true},
                                                                    {"timeout", 30},
                                                                    {"prefetch_factor", 4},
                                                                    {"persistent_workers", true},
                                                                    {"in_order", false},
                                                                    {"generator", 7},
                                                                    {"sampler", nullptr},
                                                                    {"batch_sampler", nullptr},
                                                                    {"worker_init_fn", nullptr},
                                                                    {"multiprocessing_context", nullptr},
                                                                    {"pin_memory_device", ""}});
  EXPECT_EQ(options.batch_size, 16);
  EXPECT_TRUE(options.shuffle && options.pin_memory && options.drop_last && options.persistent_workers &&
              options.collate_fn != nullptr);
  EXPECT_EQ(options.num_workers, 2);
  EXPECT_EQ(options.timeout, 30);
  EXPECT_EQ(options.prefetch_factor, 4);
  EXPECT_FALSE(options.in_order);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(DataLoaderOptions::from_kwargs({{"num_workers", "auto"}}).num_workers, auto_num_workers());
  EXPECT_EQ(DataLoaderOptions::from_kwargs(nullptr).batch_size, 1);
  EXPECT_EQ(DataLoaderOptions::from_kwargs({{"collate_fn", "default"}}).collate_fn, nullptr);
  EXPECT_NE(DataLoaderOptions::from_kwargs({{"collate_fn", {{"name", "padding"}, {"max_length", 3}}}}).collate_fn, nullptr);
  DataLoader loader(std::make_shared<Numbers>(5), Json{{"batch_size", 2}});
  EXPECT_EQ(loader.size(), 3);
}

TEST(DataLoaderTest, RefusesUnknownAndIllTypedOptions) {
  const auto refusal = [](const Json& kwargs) { return error_of([&] { DataLoaderOptions::from_kwargs(kwargs); }); };
  EXPECT_THAT(refusal({{"batchsize", 2}}), AllOf(HasSubstr("dataloader_kwargs.batchsize"), HasSubstr("batch_size")));
  EXPECT_THAT(refusal({{"batch_size", "16"}}), HasSubstr("[dataloader_kwargs.batch_size] expected int, got str"));
  EXPECT_THAT(refusal({{"batch_size", nullptr}}), HasSubstr("hint: use batch_size: 1"));
  EXPECT_THAT(refusal({{"shuffle", 1}}), HasSubstr("expected bool, got int"));
  EXPECT_THAT(refusal({{"num_workers", "all"}}), HasSubstr("expected int or auto"));
  EXPECT_THAT(refusal({{"multiprocessing_context", "fork"}}), HasSubstr("workers are threads here"));
  EXPECT_THAT(refusal({{"sampler", "x"}}), HasSubstr("expected null, got str"));
  EXPECT_THAT(refusal({{"collate_fn", "pading"}}), HasSubstr("did you mean 'padding'?"));
  EXPECT_THAT(refusal({{"collate_fn", 3}}), HasSubstr("expected a collator's name"));
  EXPECT_THAT(refusal(3), HasSubstr("expected dict, got int"));
}

}  // namespace
}  // namespace oumi
