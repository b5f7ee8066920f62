// Saving and resuming: bit-exact in our own form, and across to PyTorch's.
#include "oumi/optim/optimizer_state.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include "oumi/optim/test_support.h"
#include "oumi/optim/torch_state.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// As a checkpoint would hold it: copies, and scalars through text.
OptimizerState written_and_read(const OptimizerState& state) {
  OptimizerState copy;
  for (const auto& [name, tensor] : state.tensors) copy.tensors.set(name, tensor.clone().contiguous());
  copy.scalars = Json::parse(state.scalars.dump());
  return copy;
}

void copy_values(const TrainingRun& from, TrainingRun& to) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < from.parameters.size(); ++i) to.parameters[i].copy_(from.parameters[i]);
}

void expect_equal(const TrainingRun& a, const TrainingRun& b, const std::string& what) {
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    EXPECT_TRUE(a.parameters[i].equal(b.parameters[i])) << what << " p" << i;
  }
}

TEST(OptimizerState, ResumeIsBitExact) {
  for (const Json& info : golden_steps().at("cases")) {
    for (const Layout layout : {Layout::kContiguous, Layout::kTransposed}) {
      TrainingRun first(golden_steps(), info, layout);
      const auto optimizer = first.make();
      first.train(*optimizer, 0, 8);
      TrainingRun second(golden_steps(), info, layout);
      copy_values(first, second);
      const auto names = parameter_names(first.groups);
      const OptimizerState saved = written_and_read(optimizer_state(*optimizer, names));
      const auto resumed = second.make();
      load_optimizer_state(*resumed, names, saved);
      EXPECT_EQ(optimizer_state(*resumed, names).scalars, saved.scalars);
      first.train(*optimizer, 8, 20);
      second.train(*resumed, 8, 20);
      expect_equal(first, second, info.at("label"));
    }
  }
}

// The same with LibTorch's own classes.
template <class Optimizer, class Options>
void check_libtorch(const Options& options, const std::string& what) {
  const std::vector<std::string> names = {"w", "b"};
  const auto parameters = [] {
    return std::vector<Tensor>{at::ones({3, 2}).requires_grad_(true), at::ones({2}).requires_grad_(true)};
  };
  const auto train = [](Optimizer& optimizer, const std::vector<Tensor>& values, int begin, int end) {
    for (int step = begin; step < end; ++step) {
      for (const Tensor& value : values) value.mutable_grad() = (at::ones(value.sizes()) * step).sin();
      optimizer.step();
    }
  };
  const auto first = parameters();
  Optimizer optimizer(first, options);
  train(optimizer, first, 0, 5);
  auto second = parameters();
  for (std::size_t i = 0; i < 2; ++i) second[i].detach().copy_(first[i]);
  Options other = options;
  other.lr(0.77);
  Optimizer resumed(second, other);
  load_optimizer_state(resumed, names, written_and_read(optimizer_state(optimizer, names)));
  EXPECT_EQ(resumed.param_groups()[0].options().get_lr(), optimizer.param_groups()[0].options().get_lr()) << what;
  train(optimizer, first, 5, 9);
  train(resumed, second, 5, 9);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(first[i].equal(second[i])) << what;
}

TEST(OptimizerState, LibTorchsOptimizersResumeBitExactly) {
  using namespace torch::optim;  // NOLINT
  check_libtorch<AdamW>(AdamWOptions(0.1).weight_decay(0.1).amsgrad(true), "AdamW");
  check_libtorch<Adam>(AdamOptions(0.1).betas({0.8, 0.9}), "Adam");
  check_libtorch<SGD>(SGDOptions(0.1).momentum(0.9), "SGD");
  check_libtorch<SGD>(SGDOptions(0.1), "SGD without momentum");
  check_libtorch<Adagrad>(AdagradOptions(0.1).lr_decay(0.1), "Adagrad");
  check_libtorch<RMSprop>(RMSpropOptions(0.1).momentum(0.5).centered(true), "RMSprop");
}

TEST(OptimizerState, UnknownOptimizersAreRefused) {
  torch::optim::LBFGS optimizer({at::ones({1}).requires_grad_(true)});
  EXPECT_THAT(user_error([&] { optimizer_state(optimizer, {"p"}); }),
              HasSubstr("saving and loading the state of LBFGS is not supported"));
}

TEST(OptimizerState, NamesAreOrderedAndUntouchedParametersAbsent) {
  TrainingRun run(golden_steps(), case_named("adamw_fused"));
  const auto optimizer = run.make();
  run.train(*optimizer, 0, 2);
  const OptimizerState state = optimizer_state(*optimizer, parameter_names(run.groups));
  EXPECT_EQ(state.tensors.names()[0], "p0.exp_avg");
  EXPECT_EQ(state.tensors.names()[1], "p0.exp_avg_sq");
  EXPECT_EQ(state.tensors.names()[2], "p2.exp_avg");
  EXPECT_FALSE(state.scalars.at("state").contains("p6")) << "p6 never had a gradient";
  EXPECT_EQ(state.scalars.at("state").at("p0").at("step"), 2);
  EXPECT_EQ(state.scalars.at("state").at("p2").at("step"), 1) << "p2 was skipped once";
  EXPECT_EQ(state.scalars.at("optimizer"), "adamw");
}

TEST(OptimizerState, LoadingIsStrictAndChangesNothingWhenRefused) {
  TrainingRun run(golden_steps(), case_named("adamw_fused"));
  const auto optimizer = run.make();
  run.train(*optimizer, 0, 3);
  const auto names = parameter_names(run.groups);
  const OptimizerState good = written_and_read(optimizer_state(*optimizer, names));
  const auto refused = [&](const std::function<void(OptimizerState&)>& damage) {
    OptimizerState bad = written_and_read(good);
    damage(bad);
    const std::string message = user_error([&] { load_optimizer_state(*optimizer, names, bad); });
    const OptimizerState now = optimizer_state(*optimizer, names);
    EXPECT_EQ(now.scalars, good.scalars) << message;
    for (const auto& [name, tensor] : now.tensors) EXPECT_TRUE(tensor.equal(good.tensors.at(name))) << message << name;
    return message;
  };
  EXPECT_THAT(refused([](auto& s) { s.tensors.erase("p2.exp_avg"); }),
              HasSubstr("[optimizer state: p2.exp_avg] expected a tensor, got none"));
  EXPECT_THAT(refused([](auto& s) { s.tensors.set("p2.foo", at::ones({1})); }),
              HasSubstr("[optimizer state: p2.foo] expected no such tensor, got one"));
  EXPECT_THAT(refused([](auto& s) { s.tensors.set("p3.exp_avg", at::ones({4, 3})); }),
              HasSubstr("[optimizer state: p3.exp_avg] shape: expected [3, 4], got [4, 3]"));
  EXPECT_THAT(refused([](auto& s) { s.tensors.set("p3.exp_avg", at::ones({3, 4}, at::kDouble)); }),
              HasSubstr("dtype: expected Float, got Double"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["state"]["p3"]["tensors"] = {"exp_avg"}; }),
              HasSubstr("[optimizer state: p3.exp_avg_sq]"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["state"]["p3"]["step"] = -1; }),
              HasSubstr("[optimizer state: p3] expected a step count"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["state"]["q"] = {{"step", 1}, {"tensors", Json::array()}}; }),
              HasSubstr("[optimizer state: q]"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["optimizer"] = "sgd"; }),
              HasSubstr("expected that of 'adamw', got that of \"sgd\""));
  EXPECT_THAT(refused([](auto& s) { s.scalars["groups"].erase(1); }), HasSubstr("expected 2 parameter groups, got 1"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["groups"][0]["params"][0] = "q"; }),
              HasSubstr("parameter 'p0' of the model is missing"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["groups"][1]["lr"] = "x"; }),
              HasSubstr("expected numbers for lr and weight_decay"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["hyperparameters"].erase("eps"); }),
              HasSubstr("setting 'eps': expected float, got none"));
  EXPECT_THAT(refused([](auto& s) { s.scalars["hyperparameters"]["amsgrad"] = true; }),
              HasSubstr("max_exp_avg_sq] expected a tensor, got none"));
  EXPECT_THAT(refused([](auto& s) { s.scalars.erase("state"); }), HasSubstr("field 'state': expected a value, got none"));
  EXPECT_THAT(refused([](auto& s) { s.scalars = Json(); }), HasSubstr("field 'optimizer'"));
}

// --- PyTorch's layout ---

c10::IValue python_value(const Json& value) {
  if (value.is_object() && value.contains("dtype") && value.contains("shape")) {
    return tensor_of(value.at("data"), value.at("shape").get<std::vector<std::int64_t>>(), dtype_named(value.at("dtype")));
  }
  if (value.is_object()) {
    c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
    for (const auto& [key, element] : value.items()) dict.insert(key, python_value(element));
    return dict;
  }
  if (value.is_array()) {
    c10::impl::GenericList list(c10::AnyType::get());
    for (const Json& element : value) list.push_back(python_value(element));
    return list;
  }
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  return value.get<std::string>();
}

// optimizer.state_dict() of Python, its indices ints again.
c10::IValue python_state(const Json& saved) {
  c10::impl::GenericDict state(c10::IntType::get(), c10::AnyType::get());
  for (const auto& [key, element] : saved.at("state").items())
    state.insert(static_cast<std::int64_t>(std::stoll(key)), python_value(element));
  c10::impl::GenericDict result(c10::StringType::get(), c10::AnyType::get());
  result.insert("state", state);
  result.insert("param_groups", python_value(saved.at("param_groups")));
  return result;
}

TEST(TorchState, PyTorchsStateContinuesHere) {
  for (const char* label : {"adamw_fused", "sgd_momentum", "adagrad", "rmsprop_centered", "adafactor"}) {
    const Json& info = case_named(label);
    TrainingRun run(golden_steps(), info);
    const auto optimizer = run.make();
    run.set_values(info.at("parameters_after_10"));
    load_torch_optimizer_state(*optimizer, parameter_names(run.groups), python_state(info.at("state_after_10")));
    EXPECT_EQ(optimizer->param_groups()[0].options().get_lr(),
              info.at("state_after_10").at("param_groups")[0].at("lr").get<double>());
    run.train(*optimizer, 10, 20);
    for (std::size_t i = 0; i < run.parameters.size(); ++i) {
      expect_close(run.parameters[i], info.at("after").at("20")[i], 2e-6, cat(label, " p", i));
    }
  }
}

// Ours has every key of Python's state, with values of the same type and shape.
void expect_like_python(const c10::IValue& ours, const c10::IValue& theirs, const std::string& path) {
  if (theirs.isTensor()) {
    ASSERT_TRUE(ours.isTensor()) << path;
    EXPECT_EQ(ours.toTensor().sizes(), theirs.toTensor().sizes()) << path;
    EXPECT_EQ(ours.toTensor().scalar_type(), theirs.toTensor().scalar_type()) << path;
    EXPECT_TRUE(ours.toTensor().allclose(theirs.toTensor(), 1e-5, 1e-7)) << path;
  } else if (theirs.isGenericDict()) {
    ASSERT_TRUE(ours.isGenericDict()) << path;
    for (const auto& entry : theirs.toGenericDict()) {
      const std::string key = entry.key().isString() ? entry.key().toStringRef() : std::to_string(entry.key().toInt());
      if (key == "RMS" || key == "fused") continue;  // recomputed at each step; a choice of kernel
      const auto dict = ours.toGenericDict();
      const auto found = dict.find(entry.key());
      ASSERT_TRUE(found != dict.end()) << path << "." << key;
      expect_like_python(found->value(), entry.value(), cat(path, ".", key));
    }
  } else if (theirs.isList() && !ours.isTuple()) {
    ASSERT_EQ(ours.toListRef().size(), theirs.toListRef().size()) << path;
    for (std::size_t i = 0; i < theirs.toListRef().size(); ++i) {
      expect_like_python(ours.toListRef()[i], theirs.toListRef()[i], cat(path, "[", i, "]"));
    }
  } else if (theirs.isInt() && ours.isDouble()) {
    EXPECT_EQ(ours.toDouble(), static_cast<double>(theirs.toInt())) << path;
  } else if (theirs.isDouble()) {
    ASSERT_TRUE(ours.isDouble()) << path;
    EXPECT_EQ(ours.toDouble(), theirs.toDouble()) << path;
  } else if (theirs.isInt()) {
    ASSERT_TRUE(ours.isInt()) << path;
    EXPECT_EQ(ours.toInt(), theirs.toInt()) << path;
  }
}

TEST(TorchState, OursLooksLikePyTorchs) {
  for (const char* label : {"adamw_fused", "sgd_momentum", "adagrad", "rmsprop_centered", "adafactor"}) {
    const Json& info = case_named(label);
    TrainingRun run(golden_steps(), info);
    const auto optimizer = run.make();
    run.train(*optimizer, 0, 10);
    const c10::IValue ours = to_torch_optimizer_state(*optimizer);
    Json theirs = info.at("state_after_10");
    expect_like_python(ours, python_state(theirs), label);
    if (::testing::Test::HasFatalFailure()) return;
    // And back into a fresh one.
    TrainingRun second(golden_steps(), info);
    copy_values(run, second);
    const auto resumed = second.make();
    load_torch_optimizer_state(*resumed, parameter_names(second.groups), ours);
    run.train(*optimizer, 10, 13);
    second.train(*resumed, 10, 13);
    expect_equal(run, second, label);
  }
}

TEST(TorchState, DamagedFilesAreRefused) {
  const Json& info = case_named("adamw_fused");
  TrainingRun run(golden_steps(), info);
  const auto optimizer = run.make();
  const auto refused = [&](const std::function<void(Json&)>& damage) {
    Json saved = info.at("state_after_10");
    damage(saved);
    return user_error([&] { load_torch_optimizer_state(*optimizer, parameter_names(run.groups), python_state(saved)); });
  };
  EXPECT_EQ(refused([](Json&) {}), "no UserError");
  EXPECT_THAT(refused([](Json& s) { s["state"]["0"].erase("exp_avg"); }),
              HasSubstr("[optimizer state: p0.exp_avg] expected a tensor, got none"));
  EXPECT_THAT(refused([](Json& s) { s["state"]["0"].erase("step"); }),
              HasSubstr("[optimizer.pt: p0] 'step': expected a value, got none"));
  EXPECT_THAT(refused([](Json& s) { s["state"]["99"] = s["state"]["0"]; }), HasSubstr("state of parameter 99"));
  EXPECT_THAT(refused([](Json& s) { s["param_groups"].erase(0); }), HasSubstr("expected 2 parameter groups, got 1"));
  EXPECT_THAT(refused([](Json& s) { s["param_groups"][0]["params"].erase(0); }),
              HasSubstr("expected the 4 parameters that the model has in this group, got 3"));
  EXPECT_THAT(refused([](Json& s) { s["param_groups"][0]["params"][1] = 0; }),
              HasSubstr("parameter 0: expected it once, got it twice"));
  EXPECT_THAT(refused([](Json& s) { s["param_groups"][0]["lr"] = "x"; }), HasSubstr("'lr': expected float, got String"));
  EXPECT_THAT(refused([](Json& s) { s["param_groups"][1]["eps"] = 1.0; }),
              HasSubstr("parameter group 1] expected the settings of group 0"));
  EXPECT_THAT(user_error([&] { load_torch_optimizer_state(*optimizer, parameter_names(run.groups), c10::IValue(3)); }),
              HasSubstr("expected a dict, got Int"));
}

TEST(TorchState, SchedulersRoundTrip) {
  for (const char* type : {"cosine", "constant", "reduce_lr_on_plateau", "greedy"}) {
    TrainingRun run(golden_steps(), case_named("adam"));
    const auto optimizer = run.make();
    LrScheduler scheduler(*optimizer, {.type = type, .warmup_steps = 2, .total_steps = 20});
    for (int i = 0; i < 5; ++i) scheduler.step();
    scheduler.step_metric(0.5);
    const c10::IValue saved = to_torch_scheduler_state(scheduler);
    const auto second = run.make();
    LrScheduler resumed(*second, scheduler.options());
    load_torch_scheduler_state(resumed, saved);
    EXPECT_EQ(resumed.state_dict(), scheduler.state_dict()) << type;
  }
}

TEST(TorchState, LambdaSchedulerHasPyTorchsFields) {
  TrainingRun run(golden_steps(), case_named("adam"));
  const auto optimizer = run.make();
  const LrScheduler scheduler(*optimizer, {.type = "cosine", .warmup_steps = 2, .total_steps = 20});
  std::vector<std::string> keys;
  for (const auto& entry : to_torch_scheduler_state(scheduler).toGenericDict()) keys.push_back(entry.key().toStringRef());
  EXPECT_THAT(keys, ElementsAre("base_lrs", "last_epoch", "_step_count", "_is_initial", "_get_lr_called_within_step",
                                "_last_lr", "lr_lambdas"));
}

}  // namespace
}  // namespace oumi
