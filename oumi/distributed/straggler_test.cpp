#include "oumi/distributed/straggler.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "oumi/distributed/testing.h"

namespace oumi {
namespace {

using testing::kQuick;
using testing::run_ranks;

TEST(Straggler, IsTheOneFarBehindTheOthers) {
  const auto found = find_straggler(std::vector<double>{0.01, 0.01, 0.21, 0.02});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 2);
  EXPECT_EQ(found->seconds, 0.21);
  EXPECT_EQ(found->others, 0.01);
  EXPECT_TRUE(find_straggler(std::vector<double>{1.0, 1.31}));
  EXPECT_FALSE(find_straggler(std::vector<double>{1.0, 1.29}));     // within the usual
  EXPECT_FALSE(find_straggler(std::vector<double>{0.001, 0.040}));  // too short to matter
  EXPECT_FALSE(find_straggler(std::vector<double>{5.0}));
  EXPECT_FALSE(find_straggler(std::vector<double>{}));
}

TEST(Straggler, IsNamedWithin20UpdatesAndNotWithoutOne) {
  std::atomic<int> clean{0}, late{-1}, over{-1};
  const auto errors = run_ranks(3, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    StragglerWatch watch(group);
    const auto update = [&](int own_ms) {
      watch.begin_update();
      std::this_thread::sleep_for(std::chrono::milliseconds(own_ms));
      group->barrier("the gradients");  // all wait for the slowest here
      return watch.end_update();
    };
    for (int i = 0; i < 1000; ++i) clean += update(0).has_value();
    for (int i = 1; i <= 20; ++i) {
      const auto message = update(group->rank() == 1 ? 200 : 0);
      if (!message || group->rank() != 2) continue;
      EXPECT_THAT(*message, ::testing::StartsWith("rank 1 holds the others up: it takes 0.2"));
      EXPECT_EQ(late.exchange(i), -1) << "said twice";
    }
    for (int i = 1; i <= 20; ++i) {
      const auto message = update(0);
      if (!message || group->rank() != 2) continue;
      EXPECT_EQ(*message, "rank 1 keeps up with the others again");
      over = i;
    }
  });
  EXPECT_THAT(errors, ::testing::Each(""));
  EXPECT_EQ(clean, 0);
  EXPECT_GT(late, 0);
  EXPECT_GT(over, 0);
}

}  // namespace
}  // namespace oumi
