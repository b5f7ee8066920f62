#include <fstream>

#include "oumi/base/files.h"
#include "oumi/config/overrides.h"
#include "oumi/config/test_support.h"

namespace oumi {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Loading, UnknownKeyNamesTheNearestWithLineAndColumn) {
  EXPECT_EQ(load_error("training:\n  learning_rat: 1\n"),
            "[training.learning_rat] unknown key (c.yaml:4:3) | did you mean 'training.learning_rate'?");
  EXPECT_THAT(load_error("learning_rate: 1\n"),
              HasSubstr("[learning_rate] unknown key (c.yaml:3:1) | did you mean 'training.learning_rate'?"));
  EXPECT_THAT(load_error("training: {optimm: sgd}\n"), HasSubstr("did you mean 'training.optim'?"));
  EXPECT_THAT(load_error("", {"training.max_step=5"}),
              HasSubstr("[training.max_step] unknown key (command line) | did you mean 'training.max_steps'?"));
  EXPECT_THAT(load_error("", {"data.train.datasets[0].splt=x"}), HasSubstr("[data.train.datasets[0].splt] unknown key"));
  EXPECT_THAT(load_error("training: {profiler: {schedule: {wat: 1}}}"),
              HasSubstr("did you mean 'training.profiler.schedule.wait'?"));
}

TEST(Loading, TypeErrorsNameKeyPlaceExpectedAndGot) {
  EXPECT_EQ(load_error("training:\n  max_steps: 1.5\n"), "[training.max_steps] expected int, got float 1.5 (c.yaml:4:14) | ");
  EXPECT_THAT(load_error("training: {max_steps: 1e3}"),
              HasSubstr("got float 1000.0 (c.yaml:3:23) | write the whole number without a dot"));
  EXPECT_THAT(load_error("training: {use_peft: perhaps}"), HasSubstr("expected bool, got str 'perhaps'"));
  EXPECT_THAT(load_error("training: {trainer_type: TRL_STF}"),
              AllOf(HasSubstr("expected one of TRL_SFT, "), HasSubstr("did you mean 'TRL_SFT'?")));
  EXPECT_THAT(load_error("training: 5"), HasSubstr("[training] expected dict, got int 5 (c.yaml:3:11)"));
  EXPECT_THAT(load_error("peft:\n"), HasSubstr("[peft] expected dict, got null"));
  EXPECT_THAT(load_error("training: {parameter_groups: [{pattern: a, lr: 1}]}"),
              HasSubstr("[training.parameter_groups[0].lr] unknown key"));
  EXPECT_THAT(load_error("training: {class_weights: [1, x]}"),
              HasSubstr("[training.class_weights[1]] expected float, got str 'x'"));
  EXPECT_THAT(load_error("training: {seed: 99999999999999999999}"), HasSubstr("expected int, got an integer beyond 64 bits"));
  EXPECT_THAT(load_error("training: {trainer_kwargs: {a: {b: 99999999999999999999}}}"),
              HasSubstr("[training.trainer_kwargs.a.b] expected an integer of at most 64 bits"));
}

TEST(Loading, ReadsLaterFilesAndOverridesLast) {
  TemporaryDirectory folder;
  std::ofstream(folder.path() / "a.yaml")
      << kBase << "training: {seed: 1, max_steps: 5, trainer_kwargs: {a: 1, b: {c: 2}}}\nmodel_: 0\n";
  EXPECT_THAT(user_error([&] { load_config(folder.path() / "a.yaml"); }), HasSubstr("a.yaml:4:1"));
  std::ofstream(folder.path() / "a.yaml") << kBase << "training: {seed: 1, max_steps: 5, trainer_kwargs: {a: 1, b: {c: 2}}}\n";
  std::ofstream(folder.path() / "b.yaml") << "training: {seed: 2, trainer_kwargs: {b: {d: 3}}}\n";
  const TrainingConfig config =
      load_config({folder.path() / "a.yaml", folder.path() / "b.yaml"}, {"--training.max_steps", "7"});
  EXPECT_EQ(config.training.seed, 2);
  EXPECT_EQ(config.training.max_steps, 7);
  EXPECT_EQ(config.training.trainer_kwargs.dump(), R"({"a":1,"b":{"c":2,"d":3}})");
  EXPECT_THAT(user_error([&] { load_config(folder.path() / "absent.yaml"); }), HasSubstr("absent.yaml"));
  EXPECT_THAT(user_error([&] { load_config(folder.path()); }), testing::StartsWith("["));
}

TEST(Loading, RequiredFieldsAreNamed) {
  EXPECT_THAT(user_error([] { load_config_text(""); }), HasSubstr("[model.model_name] is required and missing"));
  EXPECT_THAT(user_error([] { load_config_text("model: {model_name: m}"); }),
              HasSubstr("[data.train.datasets] expected at least one dataset, got none"));
  EXPECT_THAT(user_error([] { load_config_text("model: {model_name: m}\ndata: {train: {datasets: [{split: x}]}}"); }),
              HasSubstr("[data.train.datasets[0].dataset_name] is required and missing"));
}

TEST(Loading, HuggingFaceNamesBecomeOurs) {
  const TrainingConfig config = load_with(
      "training: {optim: sgd, bf16: true, fp16: false, gradient_checkpointing: true, torch_compile: true, "
      "evaluation_strategy: epoch, group_by_length: true, report_to: [tensorboard, comet_ml], use_liger_kernel: true, "
      "past_index: -1}\n",
      {"model.torch_dtype_str=float32"});
  EXPECT_EQ(config.training.optimizer, "sgd");
  EXPECT_EQ(config.training.mixed_precision_dtype, MixedPrecisionDtype::kBf16);
  EXPECT_TRUE(config.training.enable_gradient_checkpointing && config.training.compile && config.model.enable_liger_kernel);
  EXPECT_EQ(config.training.eval_strategy, "epoch");
  EXPECT_EQ(config.training.train_sampling_strategy, "group_by_length");
  EXPECT_TRUE(config.training.enable_tensorboard);
  EXPECT_EQ(config.training.unused_hf_arguments.dump(), R"({"report_to":["comet_ml"],"past_index":-1})");
  EXPECT_EQ(load_with("training: {optimizer: sgd}", {"training.optim=lion"}).training.optimizer, "lion");
  EXPECT_FALSE(load_with("", {"training.report_to=none"}).training.enable_tensorboard);
  EXPECT_THAT(load_error("training: {optim: sgd, optimizer: lion}"),
              HasSubstr("[training.optim] expected the same value as training.optimizer, got str 'sgd'"));
}

TEST(Loading, CountsMayBeSharesOfTheRun) {
  const TrainingConfig config =
      load_with("training: {save_steps: 0.1, logging_steps: 0.05, num_train_epochs: 0.5, warmup_steps: 0.03}");
  EXPECT_EQ(config.training.save_steps, 0.1);
  EXPECT_EQ(config.training.num_train_epochs, 0.5);
  EXPECT_THAT(to_yaml(load_with("training: {num_train_epochs: 3.0}")), HasSubstr("\n  num_train_epochs: 3\n"));
  EXPECT_THAT(
      load_error("training: {save_steps: 1.5}"),
      HasSubstr(
          "[training.save_steps] expected a whole number of at least 0, or a share of the run below 1, got 1.5 (c.yaml:3:"));
}

TEST(Overrides, TakeThreeSpellings) {
  const std::vector<std::string> expected = {"a.b=1", "a.c=x=y", "d=-1", "e="};
  EXPECT_EQ(parse_overrides({"--a.b", "1", "--local-rank", "0", "--a.c=x=y", "--local-rank=3", "d=-1", "--e", ""}), expected);
  EXPECT_EQ(parse_overrides({"--d", "-1"}), std::vector<std::string>{"d=-1"});
  EXPECT_EQ(parse_overrides(expected), expected);
  EXPECT_THAT(user_error([] { parse_overrides({"--a.b"}); }), HasSubstr("expected a value after --a.b, got nothing"));
  EXPECT_THAT(user_error([] { parse_overrides({"--a.b", "--c=1"}); }), HasSubstr("expected a value after --a.b, got --c=1"));
  for (const char* stray : {"word", "", "--", "=5", "-x=1", "--=1"}) {
    EXPECT_THAT(user_error([&] { parse_overrides({stray}); }),
                HasSubstr("expected --key value, --key=value or key=value, got '"))
        << stray;
  }
}

TEST(Overrides, IndexListsAndSayWhenOutOfRange) {
  EXPECT_EQ(load_with("", {"data.train.datasets[0].split=a"}).data.train.datasets[0].split, "a");
  EXPECT_EQ(load_with("", {"data.train.datasets.0.split=a"}).data.train.datasets[0].split, "a");
  EXPECT_THAT(load_error("", {"data.train.datasets[1].split=a"}),
              HasSubstr("[data.train.datasets] list index out of range: expected less than 1, got 1"));
  EXPECT_THAT(load_error("", {"data.train.datasets[99999999999999999999].split=a"}), HasSubstr("list index out of range"));
  EXPECT_THAT(load_error("", {"data.train.datasets[-1].split=a"}), HasSubstr("got '-1'"));
  EXPECT_THAT(load_error("", {"data.train.datasets[0.split=a"}), HasSubstr("expected brackets with an index"));
  EXPECT_THAT(load_error("", {"training..seed=1"}), HasSubstr("got an empty part"));
  EXPECT_THAT(load_error("", {"training.run_name={"}), HasSubstr("[training.run_name] expected a YAML value, got '{'"));
  EXPECT_EQ(load_with("training: {run_name: x}", {"training.run_name="}).training.run_name, std::nullopt);
  EXPECT_EQ(
      load_with("", {"deepspeed.offload_optimizer.device=nvme", "deepspeed.zero_stage=2"}).deepspeed.offload_optimizer->device,
      DeepSpeedOffloadDevice::kNvme);
}

}  // namespace
}  // namespace oumi
