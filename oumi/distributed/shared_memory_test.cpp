// Collectives over shared memory against sums made by hand; what happens when ranks differ, end, or are not on one machine.
#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "oumi/base/strings.h"
#include "oumi/distributed/c10d.h"
#include "oumi/distributed/testing.h"

namespace oumi {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using testing::kQuick;
using testing::run_ranks;

// Numbers that floats and bfloat16 add up without rounding, other ones on each rank.
Tensor values(std::int64_t count, std::int64_t rank, at::ScalarType dtype) {
  return at::arange(count, at::kLong).remainder(13).add(rank).to(dtype);
}

void expect_collectives(ProcessGroup& group, std::int64_t count, at::ScalarType dtype) {
  SCOPED_TRACE(cat(count, " values of ", c10::toString(dtype), ", rank ", group.rank()));
  const std::int64_t world = group.world_size();
  std::vector<Tensor> all;
  Tensor sum = at::zeros({count}, at::kDouble);
  for (std::int64_t rank = 0; rank < world; ++rank) {
    all.push_back(values(count, rank, dtype));
    sum += all.back();
  }
  const Tensor own = values(count, group.rank(), dtype), added = own.clone(), largest = own.clone();
  group.all_reduce(added, ReduceKind::kSum, "a sum");
  EXPECT_TRUE(at::equal(added, sum.to(dtype)));
  group.all_reduce(largest, ReduceKind::kMax, "a maximum");
  EXPECT_TRUE(at::equal(largest, all.back()));
  const Tensor sent = own.clone();
  group.broadcast(sent, world - 1, "a broadcast");
  EXPECT_TRUE(at::equal(sent, all.back()));
  // Under way at the same time: they end in the order of calls.
  const Tensor gathered = at::zeros({world * count}, dtype), scattered = at::zeros({count}, dtype), whole = own.repeat({world});
  PendingCollective first = group.all_gather(gathered, own, "a gather"),
                    second = group.reduce_scatter(scattered, whole, "a scatter");
  second.wait();
  first.wait();
  EXPECT_TRUE(at::equal(gathered, at::cat(all)));
  EXPECT_TRUE(at::equal(scattered, sum.to(dtype)));
}

TEST(SharedMemory, CollectivesOfAnySizeAndType) {
  for (const int threads : {1, 2}) {  // in the caller; beside it
    for (const std::int64_t world : {2, 3, 5}) {
      const auto errors = run_ranks(world, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
        at::set_num_threads(threads);
        EXPECT_EQ(group->c10d()->getBackend(c10::DeviceType::CPU)->getBackendName(), "shared_memory");
        for (const std::int64_t count : {0, 1, 7, 65'536, 65'537, 600'001}) expect_collectives(*group, count, at::kFloat);
        for (const at::ScalarType dtype : {at::kDouble, at::kLong, at::kInt, at::kByte, at::kBFloat16, at::kHalf})
          expect_collectives(*group, 70'003, dtype);
      });
      EXPECT_THAT(errors, Each(""));
    }
  }
}

TEST(SharedMemory, SumsAreTheSameOnAllRanks) {
  std::vector<Tensor> sums(3);
  const auto errors = run_ranks(3, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    const auto rank = static_cast<std::size_t>(group->rank());
    sums[rank] = at::arange(200'001, at::kFloat).add(static_cast<double>(rank) * 0.37).sin();
    group->all_reduce(sums[rank], ReduceKind::kSum, "a sum");
  });
  EXPECT_THAT(errors, Each(""));
  EXPECT_TRUE(at::equal(sums[0], sums[1]) && at::equal(sums[0], sums[2]));
}

TEST(SharedMemory, GlooIsUsedWhereOneRankRefuses) {
  ::setenv("OUMI_SHARED_MEMORY", "0", 1);
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    EXPECT_EQ(group->c10d()->getBackend(c10::DeviceType::CPU)->getBackendName(), "gloo");
    expect_collectives(*group, 70'003, at::kFloat);
  });
  ::unsetenv("OUMI_SHARED_MEMORY");
  EXPECT_THAT(errors, Each(""));
}

TEST(SharedMemory, RanksThatHaveOtherSizesAreNamedByAll) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    group->barrier("the start");
    group->set_completed_step(7);
    group->all_reduce(at::zeros({1000 + 2 * group->rank()}), ReduceKind::kSum, "the gradients");
  });
  EXPECT_THAT(errors[0],
              AllOf(HasSubstr("[rank 0] the gradients failed after step 7: expected as many bytes from all ranks, got ranks "
                              "that have other sizes: this one in the gradients (call 2, 4000 bytes), rank 1 in the "
                              "gradients (call 2, 4008 bytes) after step 7"),
                    HasSubstr("hint: start every rank with the same config")));
  EXPECT_THAT(errors[1],
              HasSubstr("[rank 1] the gradients failed after step 7: expected as many bytes from all ranks, got ranks that "
                        "have other sizes: this one in the gradients (call 2, 4008 bytes), rank 0 in the gradients (call 2, "
                        "4000 bytes) after step 7"));
}

TEST(SharedMemory, RanksInOtherCallsAreNamedAtOnce) {
  const auto began = std::chrono::steady_clock::now();
  const auto errors = run_ranks(2, {.timeout = std::chrono::minutes(5)}, [](std::shared_ptr<ProcessGroup> group) {
    const Tensor tensor = at::zeros({8});
    if (group->is_main()) {
      group->all_reduce(tensor, ReduceKind::kSum, "the loss");
    } else {
      group->broadcast(tensor, 0, "the weights");
    }
  });
  EXPECT_THAT(errors[0],
              HasSubstr("expected all 2 ranks, got ranks that are out of step: this one in the loss (call 1), rank 1 in the "
                        "weights (call 1)"));
  EXPECT_THAT(errors[1], HasSubstr("this one in the weights (call 1), rank 0 in the loss (call 1)"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
}

TEST(SharedMemory, ATimeoutIsWaitedForOnce) {
  const auto began = std::chrono::steady_clock::now();
  const auto errors = run_ranks(2, {.timeout = std::chrono::seconds(3)}, [&](std::shared_ptr<ProcessGroup> group) {
    if (!group->is_main()) return std::this_thread::sleep_for(std::chrono::seconds(9));
    const Tensor first = at::zeros({8}), second = at::zeros({8}), third = at::zeros({8});
    // As c10d's Reducer: several are begun before the first is waited for.
    std::vector<PendingCollective> pending;
    for (const Tensor& tensor : {first, second, third})
      pending.push_back(group->start_all_reduce(tensor, ReduceKind::kSum, "the gradients"));
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(6));
    pending.front().wait();
  });
  EXPECT_THAT(errors[0], HasSubstr("no answer within 3 s"));
}

TEST(SharedMemory, ARankThatEndsIsNoticedBeforeTheTimeout) {
  const auto errors = run_ranks(2, {.timeout = std::chrono::minutes(5)}, [](std::shared_ptr<ProcessGroup> group) {
    at::set_num_threads(2);
    if (!group->is_main()) return;
    group->all_reduce(at::zeros({1'000'000}), ReduceKind::kSum, "the gradients");  // beside the caller
  });
  EXPECT_THAT(errors[0],
              AllOf(HasSubstr("the gradients failed after step 0: expected all 2 ranks, got no sign of life from rank 1"),
                    HasSubstr("rank 1 of the group has ended")));
}

}  // namespace
}  // namespace oumi
