#include "oumi/distributed/process_group.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <exception>
#include <iostream>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/gradient_sync.h"
#include "oumi/distributed/testing.h"

namespace oumi {
namespace {

using testing::free_port;
using testing::kQuick;
using testing::run_ranks;

TEST(ProcessGroup, AloneChangesNothing) {
  ProcessGroup group;
  const Tensor tensor = at::full({3}, 2.0);
  group.all_reduce(tensor, ReduceKind::kSum, "x");
  EXPECT_EQ(tensor.sum().item<double>(), 6.0);
  EXPECT_EQ(group.max({4}, "x").front(), 4);
  EXPECT_EQ(group.gather_text("a", "x"), std::vector<std::string>{"a"});
}

TEST(ProcessGroup, ReducesGathersAndSendsText) {
  const auto errors = run_ranks(3, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const double rank = static_cast<double>(group->rank());
    const Tensor tensor = at::full({5}, rank + 1);
    group->all_reduce(tensor, ReduceKind::kSum, "a sum");
    EXPECT_EQ(tensor.sum().item<double>(), 5 * 6.0);
    std::vector<double> values{rank, 0.5};
    group->sum(values, "a sum");
    EXPECT_EQ(values, (std::vector<double>{3.0, 1.5}));
    EXPECT_EQ(group->max({static_cast<std::int64_t>(rank), -static_cast<std::int64_t>(rank)}, "a maximum"),
              (std::vector<std::int64_t>{2, 0}));

    const Tensor all = at::zeros({6});
    group->all_gather(all, at::full({2}, rank), "a gather").wait();
    EXPECT_EQ(all[5].item<double>(), 2.0);
    const Tensor part = at::zeros({2});
    group->reduce_scatter(part, at::arange(6, at::kFloat), "a scatter").wait();
    EXPECT_EQ(part[0].item<double>(), 3 * 2 * rank);

    EXPECT_EQ(group->broadcast_text(group->is_main() ? "of rank 0" : "other", "text"), "of rank 0");
    const auto texts = group->gather_text(std::string(static_cast<std::size_t>(rank), 'x'), "text");
    EXPECT_EQ(texts, (std::vector<std::string>{"", "x", "xx"}));
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

TEST(ProcessGroup, FailsEverywhereWhenOneRankFails) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    try {
      group->on_all(
          [&] {
            if (group->rank() == 1) throw UserError("data", "is bad", "mend it");
          },
          "the check");
      ADD_FAILURE() << "no error on rank " << group->rank();
    } catch (const UserError& error) {
      EXPECT_EQ(error.component(), "data");
    }
    group->on_main([&] { throw EnvironmentError("disk", "is full"); }, "saving");
  });
  EXPECT_EQ(errors[0], "error: [disk] is full");
  EXPECT_EQ(errors[1], "error: [disk] is full (on rank 0)");
}

TEST(ProcessGroup, NamesTheRankThatDoesNotAnswer) {
  ProcessGroupOptions options = kQuick;
  options.timeout = std::chrono::seconds(1);
  const auto errors = run_ranks(2, options, [](std::shared_ptr<ProcessGroup> group) {
    group->set_completed_step(7);
    if (group->rank() == 1) return;  // leaves
    group->barrier("the end of the epoch");
  });
  EXPECT_THAT(
      errors[0],
      ::testing::HasSubstr(
          "[rank 0] the end of the epoch failed after step 7: expected all 2 ranks, got no sign of life from rank 1 (last seen "
          "computing after step "));
}

TEST(ProcessGroup, NamesRanksThatMakeOtherCalls) {
  ProcessGroupOptions options = kQuick;
  options.timeout = std::chrono::seconds(1);
  const auto errors = run_ranks(3, options, [](std::shared_ptr<ProcessGroup> group) {
    group->barrier("the start");
    group->set_completed_step(7);
    if (group->rank() == 2) {  // leaves a call out and waits in the next one
      group->guard("the gradients", [] { std::this_thread::sleep_for(std::chrono::seconds(7)); });
    } else {
      try {
        group->barrier("something in between");
        group->barrier("the loss");
      } catch (const Error&) {
        // Rank 0 holds the store that rank 1 asks about the others.
        if (group->is_main()) std::this_thread::sleep_for(std::chrono::seconds(2));
        throw;
      }
    }
  });
  for (int rank : {0, 1}) {
    const std::string& error = errors[static_cast<std::size_t>(rank)];
    EXPECT_THAT(
        error,
        ::testing::HasSubstr(
            "something in between failed after step 7: expected all 3 ranks, got ranks that are out of step: this one in "
            "something in between (call 2), rank 2 in the gradients (call 2) after step 7; the last calls of this rank: the "
            "start, something in between"));
  }
}

TEST(ProcessGroup, AnotherThreadHasItsOwnCollectives) {
  ProcessGroup alone;
  EXPECT_EQ(alone.for_another_thread("writers")->world_size(), 1);
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const auto writers = group->for_another_thread("writers");
    EXPECT_EQ(writers->rank(), group->rank());
    std::string failure;
    std::thread writer([&] {
      for (int i = 0; i < 20; ++i) writers->barrier("flushing");
      if (group->is_main())
        std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the others wait, and the main thread doesn't
      try {
        writers->on_all(
            [&] {
              if (!group->is_main()) throw EnvironmentError("disk", "is full");
            },
            "flushing");
      } catch (const EnvironmentError& error) {
        failure = describe(error);
      }
    });
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(group->max({group->rank() + i}, "a maximum").front(), 1 + i);
    }
    writer.join();
    EXPECT_EQ(failure, group->is_main() ? "error: [disk] is full (on rank 1)" : "error: [disk] is full");
    EXPECT_LT(group->seconds_in_collectives(), 0.25);
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

[[noreturn]] void explain_and_exit() {
  try {
    std::rethrow_exception(std::current_exception());
  } catch (const std::exception& error) {
    if (const auto known = explain_lost_thread(error)) std::cerr << describe(*known) << '\n';
    std::_Exit(static_cast<int>(ExitCode::kEnvironment));
  }
}

TEST(ProcessGroupDeathTest, ExplainsRanksThatSendOtherSizesOverGloo) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        std::set_terminate(explain_and_exit);
        ::setenv("OUMI_SHARED_MEMORY", "0", 1);
        run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
          group->barrier("the start");
          group->set_completed_step(7);
          group->all_reduce(at::zeros({1000 + 2 * group->rank()}), ReduceKind::kSum, "the gradients");
        });
      },
      ::testing::ExitedWithCode(3),
      "the gradients failed after step 7: expected as many bytes from all ranks, got ranks that have other sizes: this one in "
      "the gradients .call 2, 400[08] "
      "bytes., rank [01] in the gradients .call 2, 400[08] bytes. after step 7");
}

// A rank that gets less than it has room for hears nothing of it from Gloo.
TEST(ProcessGroup, AgreementFindsCallsOfOtherSizes) {
  ::setenv("OUMI_SHARED_MEMORY", "0", 1);
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const Tensor same = at::zeros({8});
    group->broadcast(same, 0, "the weights");
    EXPECT_EQ(group->max({3}, "the request to stop").front(), 3);
    group->set_completed_step(7);
    const Tensor other = at::zeros({8 + 8 * group->rank()});
    group->broadcast(other, 0, "the buffers");
    group->max({3}, "the request to stop");
    ADD_FAILURE() << "no error on rank " << group->rank();
  });
  ::unsetenv("OUMI_SHARED_MEMORY");
  EXPECT_THAT(errors[0], ::testing::HasSubstr("[rank 0] the request to stop found after step 7 that ranks have made different "
                                              "calls, or with other sizes: expected the same on all 2 ranks, got on this one"));
  EXPECT_THAT(errors[0], ::testing::HasSubstr("the buffers (32 bytes)"));
  EXPECT_THAT(errors[1], ::testing::HasSubstr("the buffers (64 bytes)"));
}

TEST(ProcessGroup, NamesTheRankThatNeverJoins) {
  ProcessGroupOptions options = kQuick;
  options.join_timeout = std::chrono::seconds(1);
  std::string message;
  try {
    ProcessGroup::connect({.rank = 0, .world_size = 3, .master_port = free_port()}, options);
  } catch (const EnvironmentError& error) {
    message = describe(error);
  }
  EXPECT_THAT(message, ::testing::HasSubstr("expected 3 ranks at 127.0.0.1:"));
  EXPECT_THAT(message, ::testing::HasSubstr("within 1 s, got no rank 1, 2"));
}

TEST(GradientSync, AveragesOverRanksOnlyWhenAsked) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const Tensor weight = at::full({4}, 1.0).requires_grad_(), unused = at::full({2}, 1.0).requires_grad_();
    GradientSync sync(group, {{"weight", weight}, {"unused", unused}}, {.find_unused_parameters = true});
    const double factor = group->rank() == 0 ? 1 : 3;
    const auto loss = [&] { return (weight * factor).sum(); };
    sync.backward(loss());  // kept local
    EXPECT_EQ(weight.grad()[0].item<double>(), factor);
    const Tensor second = loss();
    sync.before_backward(second);
    sync.backward(second);
    EXPECT_EQ(weight.grad()[0].item<double>(), 4.0);  // the mean of 2 and 6
    EXPECT_FALSE(unused.grad().defined());
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

TEST(GradientSync, RefusesAnotherModelOnAnotherRank) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const Tensor weight = at::zeros({4 + group->rank()}).requires_grad_();
    GradientSync(group, {{"weight", weight}}, {});
  });
  EXPECT_THAT(errors[1], ::testing::HasSubstr("rank 0 has weight Float [4], rank 1 has weight Float [5]"));
  EXPECT_THAT(errors[0], ::testing::HasSubstr("[the model's parameters] expected the same on all ranks"));
}

}  // namespace
}  // namespace oumi
