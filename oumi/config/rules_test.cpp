#include "oumi/config/support.h"
#include "oumi/config/test_support.h"

namespace oumi {
namespace {

using testing::HasSubstr;

TEST(Rules, NameTheDottedKey) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"training: {gradient_accumulation_steps: 0}",
       "[training.gradient_accumulation_steps] expected at least 1, got 0 (c.yaml:3:"},
      {"training: {max_grad_norm: -1}", "[training.max_grad_norm] expected at least 0.0, got -1.0"},
      {"training: {max_grad_norm: .nan}", "[training.max_grad_norm] expected at least 0.0, got nan"},
      {"training: {num_train_epochs: 0}",
       "[training.max_steps] expected max_steps or num_train_epochs above 0, got -1 and 0.0"},
      {"training: {warmup_ratio: 0.1, warmup_steps: 10}",
       "[training.warmup_ratio] expected warmup_ratio or warmup_steps, got both"},
      {"training: {warmup_ratio: 1.5}", "[training.warmup_ratio] expected a number in [0.0, 1.0], got 1.5"},
      {"training: {reward_functions: [x]}", "[training.reward_functions] expected none unless"},
      {"training: {reward_function_kwargs: {x: 1}}", "[training.reward_function_kwargs] expected none unless"},
      {"training: {dataloader_num_workers: many}",
       "[training.dataloader_num_workers] expected an int of at least 0, or auto, got 'many'"},
      {"training: {mixed_precision_dtype: bf16}",
       "[model.torch_dtype_str] expected float32 with training.mixed_precision_dtype BF16, got 'auto'"},
      {"training: {compile: true}\nfsdp: {use_orig_params: false}",
       "[fsdp.use_orig_params] expected true with training.compile, got false"},
      {"training: {eval_strategy: stepz}", "[training.eval_strategy] expected one of no, steps, epoch, got 'stepz'"},
      {"training: {load_best_model_at_end: true}",
       "[training.eval_strategy] expected the save strategy, steps, with load_best_model_at_end, got no"},
      {"training: {load_best_model_at_end: true, eval_strategy: steps, eval_steps: 300}",
       "[training.save_steps] expected a multiple of eval_steps, 300.0"},
      {"training: {early_stopping_patience: 2}",
       "[training.eval_strategy] expected steps or epoch with early_stopping_patience"},
      {"training: {parameter_groups: [{pattern: '('}]}",
       "[training.parameter_groups[0].pattern] expected a regular expression, got '('"},
      {"training: {parameter_groups: [{freeze: true}]}", "[training.parameter_groups[0].pattern] is required and missing"},
      {"training: {learning_rate: .inf}", "[training.learning_rate] expected at least 0.0, got inf"},
      {"training: {logging_steps: 0}", "[training.logging_steps] expected above 0 with logging_strategy steps, got 0"},
      {"training: {ema_decay: 1}", "[training.ema_decay] expected a number in (0.0, 1.0), got 1.0"},
      {"training: {profiler: {schedule: {active: 0}}}", "[training.profiler.schedule.active] expected at least 1, got 0"},
      {"training: {grpo: {temperature: 2}}", "[training.grpo.temperature] expected a number in [0.0, 1.0], got 2.0"},
      {"training: {gkd: {teacher_model_name_or_path: ' '}}",
       "[training.gkd.teacher_model_name_or_path] expected a model or null"},
      {"training: {trainer_type: VERL_GRPO}",
       "[data.validation.datasets] expected at least one dataset with training.trainer_type VERL_GRPO"},
      {"fsdp: {enable_fsdp: true}\ndeepspeed: {enable_deepspeed: true}",
       "[deepspeed.enable_deepspeed] expected fsdp or deepspeed, got both"},
      {"deepspeed: {offload_param: {}}", "[deepspeed.zero_stage] expected ZERO_3 with offload_param, got ZERO_0"},
      {"deepspeed: {enable_deepspeed: true, train_batch_size: 8}\ntraining: {trainer_type: TRL_SFT}",
       "[deepspeed.train_batch_size] expected auto"},
      {"peft: {q_lora_bits: 5}", "[peft.q_lora_bits] expected 4 or 8, got 5"},
      {"parallel: {tensor_model_parallel_size: 0}", "[parallel.tensor_model_parallel_size] expected at least 1, got 0"},
  };
  for (const auto& [yaml, expected] : cases) EXPECT_THAT(load_error(yaml), HasSubstr(expected)) << yaml;
}

TEST(Rules, OfData) {
  const auto error = [](const std::string& data) {
    return user_error([&] { load_config_text("model: {model_name: m}\ndata: " + data, "c.yaml"); });
  };
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a, mixture_proportion: 0.5}, {dataset_name: b}]}}"),
              HasSubstr("[data.train.datasets] expected mixture_proportion for every dataset or for none, got 1 of 2"));
  EXPECT_THAT(
      error("{train: {datasets: [{dataset_name: a, mixture_proportion: 0.5}, {dataset_name: b, mixture_proportion: 0.4}]}}"),
      HasSubstr("sum to 1, got 0.9"));
  EXPECT_EQ(error("{train: {datasets: [{dataset_name: a, mixture_proportion: 0.1}, {dataset_name: b, mixture_proportion: 0.2}, "
                  "{dataset_name: c, mixture_proportion: 0.7}]}}"),
            "no error");
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a, dataset_kwargs: {split: x}}]}}"),
              HasSubstr("[data.train.datasets[0].dataset_kwargs.split]"));
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a, sample_count: -1}]}}"),
              HasSubstr("[data.train.datasets[0].sample_count] expected at least 0"));
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a}], mixture_strategy: x}}"),
              HasSubstr("expected first_exhausted or all_exhausted, got 'x'"));
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a}], train_target: final_assistant_turn}}"),
              HasSubstr("[data.train.collator_name]"));
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a}]}, validation: {collator_name: x}}"),
              HasSubstr("[data.validation.collator_name] expected the same collator"));
  EXPECT_THAT(error("{train: {datasets: [{dataset_name: a, transform_num_workers: some}]}}"),
              HasSubstr("expected a positive int or auto, got 'some'"));
}

TEST(Support, SaysNothingOfDefaults) { EXPECT_TRUE(support_notes(load_with("")).empty()); }

TEST(Support, TellsWhatBecomesOfASetting) {
  const auto note = [](const std::string& yaml) {
    std::string text;
    for (const SupportNote& n : support_notes(load_with(yaml))) text += n.key + " " + support_word(n.kind) + "; ";
    return text;
  };
  EXPECT_EQ(note("training: {compile: true}"), "training.compile met natively; ");
  EXPECT_EQ(note("training: {enable_wandb: true}"), "training.enable_wandb mapped; ");
  EXPECT_EQ(note("parallel: {pipeline_model_parallel_size: 2}"), "parallel.pipeline_model_parallel_size refused; ");
  EXPECT_EQ(note("training: {push_to_hub: true}"), "training.push_to_hub refused; ");
  EXPECT_EQ(note("training: {push_to_hub: false}"), "training.push_to_hub mapped; ");
  EXPECT_EQ(note("training: {trainer_kwargs: {label_smoothing_factor: 0.1}}"),
            "training.trainer_kwargs.label_smoothing_factor refused; ");
}

TEST(Support, RefusesWithEveryKeyNamed) {
  EXPECT_THAT(
      user_error([] { require_supported(load_with("parallel: {context_parallel_size: 2, pipeline_model_parallel_size: 2}")); }),
      testing::AllOf(HasSubstr("[parallel.pipeline_model_parallel_size]"),
                     HasSubstr("parallel.context_parallel_size: context parallelism")));
  EXPECT_NO_THROW(require_supported(load_with("training: {compile: true, enable_wandb: true}")));
}

}  // namespace
}  // namespace oumi
