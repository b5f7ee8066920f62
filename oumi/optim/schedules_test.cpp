// Schedules against Transformers': the same doubles.
#include <ATen/ops/zeros.h>
#include <torch/optim/sgd.h>

#include <cmath>

#include "oumi/optim/lr_schedule.h"
#include "oumi/optim/test_support.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An optimizer with one parameter a group; the default rate is the first.
std::unique_ptr<torch::optim::Optimizer> optimizer_with(const std::vector<double>& rates) {
  std::vector<ParameterGroup> groups;
  for (const double rate : rates) {
    groups.push_back({"g", {{"p", at::zeros({1}).requires_grad_(true)}}, 0.0, rate});
  }
  return make_optimizer({.name = "sgd", .learning_rate = rates.front()}, groups);
}

// cos, pow and sqrt may differ by an ulp between C libraries.
void expect_same(double actual, double expected, const std::string& what) {
  EXPECT_NEAR(actual, expected, 1e-15 * std::abs(expected) + 1e-20) << what;
}

TEST(Schedules, CurvesEqualTransformers) {
  const Json all = golden("schedules");
  const auto rates = all.at("rates").get<std::vector<double>>();
  ASSERT_GT(all.at("cases").size(), 100u);
  for (const Json& entry : all.at("cases")) {
    const ScheduleOptions options{.type = entry.at("type"),
                                  .warmup_steps = entry.at("warmup"),
                                  .total_steps = entry.at("total"),
                                  .kwargs = entry.at("kwargs")};
    const auto optimizer = optimizer_with(rates);
    LrScheduler scheduler(*optimizer, options);
    const auto last = entry.at("points").back()[0].get<std::int64_t>();
    const std::vector<double> preview = LrScheduler::preview(options, rates[0], last + 1);
    std::int64_t step = 0;
    for (const Json& point : entry.at("points")) {
      for (; step < point[0].get<std::int64_t>(); ++step) scheduler.step();
      const std::string what = cat(entry.at("type"), entry.at("kwargs"), " warmup ", options.warmup_steps, " total ",
                                   options.total_steps, " step ", step);
      expect_same(scheduler.last_lr()[0], point[1].get<double>(), what);
      expect_same(scheduler.last_lr()[1], point[2].get<double>(), what);
      expect_same(preview[static_cast<std::size_t>(step)], point[1].get<double>(), "preview of " + what);
    }
  }
}

TEST(Schedules, MetricSchedulesEqualTransformers) {
  const Json all = golden("metric_schedules");
  for (const Json& entry : all.at("cases")) {
    const ScheduleOptions options{.type = entry.at("type"), .kwargs = entry.at("kwargs")};
    const auto optimizer = optimizer_with({0.1, 0.2});
    LrScheduler scheduler(*optimizer, options);
    ASSERT_TRUE(scheduler.needs_metric());
    for (std::size_t i = 0; i < all.at("metrics").size(); ++i) {
      scheduler.step();  // changes nothing
      scheduler.step_metric(number_from_json(all.at("metrics")[i], "metric"));
      const auto rates = scheduler.last_lr();
      const std::string what = cat(entry.at("type"), entry.at("kwargs"), " step ", i);
      expect_same(rates[0], entry.at("rates")[i][0].get<double>(), what);
      expect_same(rates[1], entry.at("rates")[i][1].get<double>(), what);
      // Half-way through, a scheduler on a fresh optimizer takes over from Transformers' saved state.
      if (i != 19) continue;
      Json saved = entry.at("state_after_20");
      saved["type"] = options.type;
      const auto fresh = optimizer_with({0.1, 0.2});
      LrScheduler resumed(*fresh, options);
      resumed.load_state_dict(saved);
      for (std::size_t j = 20; j < all.at("metrics").size(); ++j) {
        resumed.step_metric(number_from_json(all.at("metrics")[j], "metric"));
        expect_same(resumed.last_lr()[0], entry.at("rates")[j][0].get<double>(), cat("resumed ", what, " at ", j));
      }
    }
    const Json state = scheduler.state_dict();
    for (const auto& [key, value] : entry.at("final_state").items()) {
      ASSERT_TRUE(state.contains(key)) << key;
      if (value.is_number()) {
        expect_same(state.at(key).get<double>(), value.get<double>(), key);
      } else if (value.is_string() || value.is_boolean()) {
        EXPECT_EQ(state.at(key), value) << key;
      }
    }
  }
}

TEST(Schedules, ConstructingSetsTheRateOfStepZero) {
  const auto optimizer = optimizer_with({0.5, 0.25});
  LrScheduler scheduler(*optimizer, {.type = "Linear", .warmup_steps = 4, .total_steps = 8});
  EXPECT_THAT(scheduler.last_lr(), ElementsAre(0.0, 0.0));
  scheduler.step();
  EXPECT_THAT(scheduler.last_lr(), ElementsAre(0.125, 0.0625));
  EXPECT_EQ(optimizer->param_groups()[1].options().get_lr(), 0.0625);
}

TEST(Schedules, ResumeContinuesTheCurve) {
  const ScheduleOptions options{.type = "cosine", .warmup_steps = 3, .total_steps = 20};
  const auto first = optimizer_with({0.3, 0.7});
  LrScheduler scheduler(*first, options);
  for (int i = 0; i < 7; ++i) scheduler.step();
  const Json saved = Json::parse(scheduler.state_dict().dump());
  const auto second = optimizer_with({1.0, 1.0});  // other rates: the saved ones count
  LrScheduler resumed(*second, options);
  resumed.load_state_dict(saved);
  for (int i = 0; i < 13; ++i) {
    EXPECT_EQ(resumed.last_lr(), scheduler.last_lr()) << i;
    EXPECT_EQ(resumed.state_dict(), scheduler.state_dict()) << i;
    scheduler.step();
    resumed.step();
  }
}

TEST(Schedules, WorksWithLibTorchsOptimizers) {
  torch::optim::SGD optimizer({at::zeros({1}).requires_grad_(true)}, torch::optim::SGDOptions(0.5));
  LrScheduler scheduler(optimizer, {.type = "polynomial", .total_steps = 2, .kwargs = {{"lr_end", 0.0}}});
  scheduler.step();
  EXPECT_THAT(scheduler.last_lr(), ElementsAre(0.25));
}

TEST(Schedules, BadStatesAreRefused) {
  const auto optimizer = optimizer_with({0.5});
  LrScheduler scheduler(*optimizer, {.type = "linear", .total_steps = 8});
  const auto refused = [&](const char* pointer, const Json& value) {
    Json state = scheduler.state_dict();
    state[Json::json_pointer(pointer)] = value;
    return user_error([&] { scheduler.load_state_dict(state); });
  };
  EXPECT_THAT(refused("/type", "cosine"), HasSubstr("field 'type': expected 'linear', got \"cosine\""));
  EXPECT_THAT(refused("/last_epoch", -1), HasSubstr("field 'last_epoch': expected a step count, got -1"));
  EXPECT_THAT(refused("/last_epoch", "3"), HasSubstr("field 'last_epoch'"));
  EXPECT_THAT(refused("/base_lrs", {0.1, 0.2}), HasSubstr("field 'base_lrs': expected 1 numbers, one a parameter group"));
  EXPECT_THAT(refused("/_last_lr", {"x"}), HasSubstr("field '_last_lr': expected float, got str \"x\""));
  EXPECT_THAT(user_error([&] { scheduler.load_state_dict(Json::array()); }), HasSubstr("expected a dict, got list"));
  EXPECT_THAT(scheduler.last_lr(), ElementsAre(0.5)) << "a refused state changes nothing";
}

std::string refused(const std::string& type, const Json& kwargs, std::int64_t warmup = 0) {
  return user_error([&] {
    const auto optimizer = optimizer_with({0.5});
    LrScheduler(*optimizer, {.type = type, .warmup_steps = warmup, .total_steps = 10, .kwargs = kwargs});
  });
}

TEST(Schedules, BadOptionsAreRefused) {
  const Json none = Json::object();
  EXPECT_THAT(refused("cosin", none),
              HasSubstr("[training.lr_scheduler_type] unknown schedule 'cosin' (did you mean 'cosine'?)"));
  EXPECT_THAT(refused("linear", none, -1), HasSubstr("[training.warmup_steps] expected 0 or more, got -1"));
  EXPECT_THAT(refused("linear", {{"num_cycles", 2}}), HasSubstr("[training.lr_scheduler_kwargs.num_cycles] unknown key"));
  EXPECT_THAT(refused("cosine", {{"num_cycle", 2}}), HasSubstr("did you mean 'num_cycles'?"));
  EXPECT_THAT(refused("cosine", {{"num_cycles", "two"}}), HasSubstr("expected float, got str \"two\""));
  EXPECT_THAT(refused("cosine_with_min_lr", none), HasSubstr("expected one of min_lr and min_lr_rate, got neither"));
  EXPECT_THAT(refused("cosine_with_min_lr", {{"min_lr", 0.1}, {"min_lr_rate", 0.1}}), HasSubstr("got both"));
  EXPECT_THAT(refused("polynomial", {{"lr_end", 0.5}}), HasSubstr("expected a value below the learning rate 0.5, got 0.5"));
  EXPECT_THAT(refused("warmup_stable_decay", none), HasSubstr("num_decay_steps] is required"));
  EXPECT_THAT(refused("warmup_stable_decay", {{"num_decay_steps", 2}, {"decay_type", "sqrt"}}),
              HasSubstr("decay_type] expected linear, cosine or 1-sqrt, got 'sqrt'"));
  EXPECT_THAT(refused("reduce_lr_on_plateau", {{"factor", 1.0}}), HasSubstr("factor] expected a value between 0 and 1, got 1"));
  EXPECT_THAT(refused("reduce_lr_on_plateau", {{"mode", "mim"}}), HasSubstr("mode] expected min or max, got 'mim'"));
  EXPECT_THAT(refused("reduce_lr_on_plateau", {{"min_lr", {1e-3, 1e-4}}}),
              HasSubstr("expected 1 values, one a parameter group, got 2"));
  EXPECT_THAT(refused("greedy", {{"window_size", 0}}), HasSubstr("window_size] expected 1 or more, got 0"));
  EXPECT_EQ(refused("cosine_with_min_lr", {{"min_lr", nullptr}, {"min_lr_rate", 0.1}}), "no UserError");
  EXPECT_EQ(refused("cosine", nullptr), "no UserError");
}

TEST(Schedules, WarmupStepsFromNumbersAndRatios) {
  EXPECT_EQ(resolve_warmup_steps(500, 100), 500);
  EXPECT_EQ(resolve_warmup_steps(1.0, 100), 1);
  EXPECT_EQ(resolve_warmup_steps(2.9, 100), 2);
  EXPECT_EQ(resolve_warmup_steps(0.03, 101), 4);  // rounded up
  EXPECT_EQ(resolve_warmup_steps(0.0, 100), 0);
  EXPECT_EQ(warmup_steps_from_ratio(0.03, 101), 3);  // rounded down
  EXPECT_EQ(warmup_steps_from_ratio(1.0, 100), 100);
  EXPECT_THAT(user_error([] { resolve_warmup_steps(-1, 10); }), HasSubstr("[training.warmup_steps]"));
  EXPECT_THAT(user_error([] { resolve_warmup_steps(NAN, 10); }), HasSubstr("got nan"));
  EXPECT_THAT(user_error([] { warmup_steps_from_ratio(1.5, 10); }),
              HasSubstr("[training.warmup_ratio] expected a value from 0 to 1, got 1.5"));
}

}  // namespace
}  // namespace oumi
