#include "oumi/trainer/operator_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oumi/trainer/operator_profiler.h"

namespace oumi {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

OperatorEvent call(const std::string& name, std::int64_t start, std::int64_t end, std::uint64_t thread = 1,
                   const std::string& shapes = "") {
  return {.name = name, .shapes = shapes, .thread = thread, .start_ns = start, .end_ns = end};
}

OperatorEvent allocation(std::int64_t time, std::int64_t bytes, std::uint64_t thread = 1) {
  return {.name = "[memory]", .shapes = "", .thread = thread, .start_ns = time, .end_ns = time, .is_memory = true, .bytes = bytes};
}

const OperatorTotals& row(const std::vector<OperatorTotals>& rows, const std::string& name) {
  for (const OperatorTotals& row : rows) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no row " + name);
}

TEST(OperatorTable, TimeInsideACallIsNotItsOwn) {
  const auto rows = sum_operators(
      {call("mm", 30, 40), call("linear", 0, 100), call("mm", 10, 30), call("linear", 200, 250), call("mm", 0, 7, 2)}, false);
  ASSERT_EQ(rows.size(), 2U);
  const OperatorTotals &linear = row(rows, "linear"), &mm = row(rows, "mm");
  EXPECT_EQ(linear.calls, 2);
  EXPECT_EQ(linear.total_ns, 150);
  EXPECT_EQ(linear.self_ns, 120);
  EXPECT_EQ(mm.calls, 3);
  EXPECT_EQ(mm.total_ns, 37);
  EXPECT_EQ(mm.self_ns, 37);
}

TEST(OperatorTable, ACallInsideItsOwnNameCountsOnceInTotal) {
  const auto rows = sum_operators({call("a", 0, 100), call("b", 10, 90), call("a", 20, 60)}, false);
  EXPECT_EQ(row(rows, "a").total_ns, 100);
  EXPECT_EQ(row(rows, "a").self_ns, 20 + 40);
  EXPECT_EQ(row(rows, "b").self_ns, 40);
}

TEST(OperatorTable, MemoryBelongsToTheInnermostCall) {
  const auto rows = sum_operators({call("a", 0, 100), call("b", 10, 50), allocation(10, 4096), allocation(50, 512),
                                   allocation(60, -1024), allocation(150, 77)},
                                  false);
  EXPECT_EQ(row(rows, "b").self_bytes, 4096 + 512);
  EXPECT_EQ(row(rows, "a").self_bytes, -1024);
  EXPECT_EQ(row(rows, "a").total_bytes, 4096 + 512 - 1024);
}

TEST(OperatorTable, ShowsTheLargestFirstAndSaysWhatItLeavesOut) {
  const auto rows = sum_operators(
      {call("small", 0, 1'500), call("large", 10'000, 2'010'000, 1, "[[2, 3]]"), call("middle", 3'000'000, 3'400'000)}, true);
  const std::string text = operator_table(rows, {.row_limit = 2, .shapes = true});
  EXPECT_THAT(text, HasSubstr("2.000ms"));
  EXPECT_THAT(text, HasSubstr("[[2, 3]]"));
  EXPECT_THAT(text, Not(HasSubstr("small")));
  EXPECT_THAT(text, HasSubstr("1 more rows are left out"));
  EXPECT_THAT(text, HasSubstr("Self CPU time total: 2.401ms"));
  EXPECT_LT(text.find("large"), text.find("middle"));
  EXPECT_THAT(operator_table(rows, {.row_limit = -1}), HasSubstr("small"));
  EXPECT_THAT(operator_table({}, {}), HasSubstr("Self CPU time total: 0.000us"));
}

TEST(OperatorProfiler, FollowsTorchsSchedule) {
  const auto actions = [](const ProfilerScheduleParams& schedule, std::int64_t steps) {
    std::string text;
    for (std::int64_t step = 0; step < steps; ++step) text += ".wrS"[static_cast<int>(profiler_action(schedule, step))];
    return text;
  };
  // As torch.profiler.schedule gives them: none, warm-up, record, record and save.
  EXPECT_EQ(actions({.enable_schedule = true}, 7), ".wrrS..");
  EXPECT_EQ(actions({.enable_schedule = true, .wait = 2, .warmup = 0, .active = 1, .repeat = 2, .skip_first = 0}, 8),
            "..S..S..");
  EXPECT_EQ(actions({.enable_schedule = true, .wait = 0, .warmup = 1, .active = 2, .repeat = 0, .skip_first = 1}, 10),
            ".wrSwrSwrS");
}

}  // namespace
}  // namespace oumi
