#include "oumi/data/prefetcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <set>
#include <stdexcept>

namespace oumi {
namespace {

using Pool = Prefetcher<std::int64_t>;
using Kind = Pool::Next::Kind;
using namespace std::chrono_literals;

PrefetcherOptions workers(std::int64_t count, std::int64_t capacity, bool in_order = true) {
  PrefetcherOptions options;
  options.num_workers = count;
  options.capacity = capacity;
  options.in_order = in_order;
  return options;
}

std::vector<std::int64_t> drain(Pool& pool) {
  std::vector<std::int64_t> items;
  for (auto next = pool.next(); next.kind == Kind::kItem; next = pool.next()) items.push_back(*next.item);
  return items;
}

std::vector<std::int64_t> range(std::int64_t first, std::int64_t end) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(end - first));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

// Finishes out of order: every third task is slow.
std::optional<std::int64_t> uneven(std::int64_t position) {
  if (position % 3 == 0) std::this_thread::sleep_for(200us);
  return position;
}

TEST(PrefetcherTest, GivesEveryItemOnceAtAnyNumberOfWorkers) {
  for (const bool in_order : {true, false}) {
    for (const std::int64_t count : {1, 2, 3, 8}) {
      for (const std::int64_t capacity : {1, 2, 5, 64}) {
        Pool pool(workers(count, capacity, in_order));
        for (int run = 0; run < 2; ++run) {
          pool.start(3, 60, uneven);
          std::vector<std::int64_t> items = drain(pool);
          if (!in_order) std::sort(items.begin(), items.end());
          EXPECT_EQ(items, range(3, 60)) << count << " workers, capacity " << capacity;
          EXPECT_EQ(pool.next().kind, Kind::kEnd) << "and again";
        }
      }
    }
  }
}

TEST(PrefetcherTest, KeepsToItsCapacity) {
  for (const bool in_order : {true, false}) {
    Pool pool(workers(4, 6, in_order));
    std::atomic<std::int64_t> taken = 0;
    pool.start(0, 100, [&](std::int64_t position) { return ++taken, std::optional(position); });
    for (std::int64_t given = 1; given <= 20; ++given) {
      ASSERT_EQ(pool.next().kind, Kind::kItem);
      std::this_thread::sleep_for(1ms);
      EXPECT_LE(taken, given + 6);
    }
    EXPECT_GE(taken, 20);
  }
}

TEST(PrefetcherTest, LeavesOutSkippedPositions) {
  for (const bool in_order : {true, false}) {
    Pool pool(workers(2, 4, in_order));
    pool.start(0, 10, uneven, {0, 1, 4, 9});
    std::vector<std::int64_t> items = drain(pool);
    std::sort(items.begin(), items.end());
    EXPECT_EQ(items, (std::vector<std::int64_t>{2, 3, 5, 6, 7, 8}));
  }
}

TEST(PrefetcherTest, ATaskCanReportTheEnd) {
  for (const bool in_order : {true, false}) {
    Pool pool(workers(1, 4, in_order));
    pool.start(0, std::numeric_limits<std::int64_t>::max(),
               [](std::int64_t position) { return position < 7 ? std::optional(position) : std::nullopt; });
    EXPECT_EQ(drain(pool), range(0, 7));
  }
}

TEST(PrefetcherTest, OutOfOrderDoesNotWaitForASlowItem) {
  Pool pool(workers(2, 4, false));
  std::atomic<bool> release = false;
  pool.start(0, 6, [&](std::int64_t position) {
    while (position == 0 && !release) std::this_thread::sleep_for(1ms);
    return std::optional(position);
  });
  for (const std::int64_t expected : {1, 2, 3, 4, 5}) EXPECT_EQ(pool.next().position, expected);
  release = true;
  EXPECT_EQ(pool.next().position, 0);
  EXPECT_EQ(pool.next().kind, Kind::kEnd);
}

TEST(PrefetcherTest, AnErrorComesBeforeReadyItemsAndStays) {
  for (const std::int64_t bad : {0, 25, 49}) {
    Pool pool(workers(3, 6));
    pool.start(0, 50, [bad](std::int64_t position) -> std::optional<std::int64_t> {
      if (position == bad) throw std::runtime_error("item " + std::to_string(position));
      return position;
    });
    std::int64_t given = 0;
    std::string message;
    try {
      for (; given < 50; ++given) pool.next();
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT_EQ(message, "item " + std::to_string(bad));
    EXPECT_LE(given, bad);
    EXPECT_THROW(pool.next(), std::runtime_error);
    pool.start(0, 5, uneven);  // and the pool is good for another run
    EXPECT_EQ(drain(pool), range(0, 5));
  }
}

TEST(PrefetcherTest, AFailingThreadStartIsAnError) {
  PrefetcherOptions options = workers(2, 2);
  options.on_thread_start = [](std::int64_t worker) {
    if (worker == 1) throw std::runtime_error("no");
  };
  Pool pool(options);
  pool.start(0, 1000000, uneven);
  EXPECT_THROW(while (pool.next().kind == Kind::kItem){}, std::runtime_error);
}

TEST(PrefetcherTest, TimesOutOnALateItemAndGoesOn) {
  Pool pool(workers(1, 2));
  std::atomic<bool> release = false;
  pool.start(4, 6, [&](std::int64_t position) {
    while (!release) std::this_thread::sleep_for(1ms);
    return std::optional(position);
  });
  const auto late = pool.next(20ms);
  EXPECT_EQ(late.kind, Kind::kTimeout);
  EXPECT_EQ(late.position, 4);
  release = true;
  EXPECT_EQ(drain(pool), range(4, 6));
}

TEST(PrefetcherTest, CanBeStoppedRestartedAndDestroyedAtAnyTime) {
  for (int taken = 0; taken < 12; ++taken) {
    std::atomic<int> running = 0;
    const auto task = [&](std::int64_t position) {
      ++running;
      auto item = uneven(position);
      --running;
      return item;
    };
    Pool pool(workers(3, 5, taken % 2 == 0));
    pool.start(0, 1000, task);
    for (int i = 0; i < taken; ++i) pool.next();
    pool.stop();
    EXPECT_EQ(running, 0) << "nothing runs after stop";
    EXPECT_EQ(pool.next().kind, Kind::kEnd);
    pool.start(500, 1000, task);
    for (int i = 0; i < taken; ++i) EXPECT_GE(pool.next().position, 500) << "nothing is left of the first run";
  }
}

}  // namespace
}  // namespace oumi
