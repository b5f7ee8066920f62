#include "oumi/telemetry/rate_meter.h"

#include <gtest/gtest.h>

namespace oumi {
namespace {

using std::chrono::seconds;

class RateMeterTest : public testing::Test {
 protected:
  RateMeter::Clock::time_point time_{};
  RateMeter meter_{[this] { return time_; }};
};

TEST_F(RateMeterTest, CountsSinceTheLastTake) {
  time_ += seconds(2);
  meter_.add_step(16, 100);
  meter_.add_step(16, 60);
  const Rates first = meter_.take();
  EXPECT_DOUBLE_EQ(first.samples_per_second, 16);
  EXPECT_DOUBLE_EQ(first.tokens_per_second, 80);
  EXPECT_DOUBLE_EQ(first.steps_per_second, 1);
  time_ += seconds(4);
  meter_.add_step(8);
  EXPECT_DOUBLE_EQ(meter_.take().samples_per_second, 2);
}

TEST_F(RateMeterTest, LeavesPausesOutAlsoNestedOnes) {
  time_ += seconds(1);
  {
    const RateMeter::Pause evaluation(meter_);
    time_ += seconds(100);
    {
      const RateMeter::Pause saving(meter_);
      time_ += seconds(50);
    }
    time_ += seconds(10);
  }
  time_ += seconds(1);
  meter_.add_step(10);
  const Rates rates = meter_.take();
  EXPECT_DOUBLE_EQ(rates.seconds, 2);
  EXPECT_DOUBLE_EQ(rates.samples_per_second, 5);
}

TEST_F(RateMeterTest, TakeInsideOfAPauseCountsNeitherSideTwice) {
  time_ += seconds(3);
  meter_.pause();
  time_ += seconds(5);
  EXPECT_DOUBLE_EQ(meter_.take().seconds, 3);
  time_ += seconds(5);
  meter_.resume();
  time_ += seconds(4);
  EXPECT_DOUBLE_EQ(meter_.take().seconds, 4);
}

TEST_F(RateMeterTest, NoTimeGivesZeroAndNotInfinity) {
  meter_.add_step(10, 10);
  EXPECT_EQ(meter_.take().samples_per_second, 0);
}

TEST_F(RateMeterTest, ResumeWithoutPauseIsHarmless) {
  time_ += seconds(2);
  meter_.resume();
  EXPECT_DOUBLE_EQ(meter_.take().seconds, 2);
}

}  // namespace
}  // namespace oumi
