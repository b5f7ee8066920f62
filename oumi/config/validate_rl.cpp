#include "oumi/config/rules.h"

namespace oumi {
namespace {

void check_teacher(const std::string& key, const std::optional<std::string>& teacher) {
  if (teacher && trim(*teacher).empty()) throw_rule(key, "a model or null", shown(*teacher));
}

void validate_rewards(const TrainingParams& t) {
  const bool grpo = t.trainer_type == TrainerType::kTrlGrpo || t.trainer_type == TrainerType::kVerlGrpo;
  std::vector<std::string> names;
  for (const std::string& name : t.reward_functions.value_or(std::vector<std::string>{})) {
    if (!name.empty()) names.push_back(name);
  }
  if (!names.empty() && !grpo) {
    throw_rule("training.reward_functions", "none unless training.trainer_type is TRL_GRPO or VERL_GRPO",
               join(names, ", ") + " with " + to_string(t.trainer_type));
  }
  if (names.size() > 1 && t.trainer_type == TrainerType::kVerlGrpo) {
    throw_rule("training.reward_functions", "one function with VERL_GRPO", join(names, ", "));
  }
  if (!t.reward_function_kwargs.empty() && !grpo) {
    throw_rule("training.reward_function_kwargs", "none unless training.trainer_type is TRL_GRPO or VERL_GRPO",
               to_string(t.trainer_type));
  }
  if (t.trainer_type == TrainerType::kTrlGrpo && t.include_performance_metrics) {
    throw_rule("training.include_performance_metrics", "false with training.trainer_type TRL_GRPO", "true");
  }
}

void validate_gold(const GoldParams& gold) {
  const std::string key = "training.gold.";
  check_teacher(key + "teacher_model_name_or_path", gold.teacher_model_name_or_path);
  check_interval(key + "temperature", gold.temperature, {.with_low = false});
  check_interval(key + "top_p", gold.top_p, {.with_low = false});
  check_at_least<std::int64_t>(key + "top_k", gold.top_k, 0);
  check_interval(key + "lmbda", gold.lmbda, {});
  check_interval(key + "beta", gold.beta, {});
  check_at_least<std::int64_t>(key + "max_completion_length", gold.max_completion_length, 1);
  check_word(key + "vllm_mode", gold.vllm_mode, {"server", "colocate"});
  if (!gold.use_uld_loss) return;
  check_at_least(key + "uld_crossentropy_weight", gold.uld_crossentropy_weight, 0.0);
  check_at_least(key + "uld_distillation_weight", gold.uld_distillation_weight, 0.0);
  constexpr double kTiny = 1e-300;
  check_interval(key + "uld_student_temperature", gold.uld_student_temperature, {kTiny, 1e300});
  check_interval(key + "uld_teacher_temperature", gold.uld_teacher_temperature, {kTiny, 1e300});
  if (!gold.uld_use_hybrid_loss) return;
  if (gold.uld_hybrid_matched_weight.has_value() != gold.uld_hybrid_unmatched_weight.has_value()) {
    throw_rule(key + "uld_hybrid_matched_weight", "both hybrid weights or neither", "one of them", "null for both adapts them");
  }
  if (gold.uld_hybrid_matched_weight) {
    check_at_least(key + "uld_hybrid_matched_weight", *gold.uld_hybrid_matched_weight, 0.0);
    check_at_least(key + "uld_hybrid_unmatched_weight", *gold.uld_hybrid_unmatched_weight, 0.0);
  }
}

}  // namespace

void validate_rl(const TrainingParams& training) {
  validate_rewards(training);
  const GrpoParams& grpo = training.grpo;
  if (grpo.max_prompt_length) check_at_least<std::int64_t>("training.grpo.max_prompt_length", *grpo.max_prompt_length, 1);
  if (grpo.max_completion_length)
    check_at_least<std::int64_t>("training.grpo.max_completion_length", *grpo.max_completion_length, 1);
  if (grpo.num_generations) check_at_least<std::int64_t>("training.grpo.num_generations", *grpo.num_generations, 1);
  check_interval("training.grpo.temperature", grpo.temperature, {});
  const GkdParams& gkd = training.gkd;
  check_teacher("training.gkd.teacher_model_name_or_path", gkd.teacher_model_name_or_path);
  check_interval("training.gkd.temperature", gkd.temperature, {.with_low = false});
  check_interval("training.gkd.lmbda", gkd.lmbda, {});
  check_interval("training.gkd.beta", gkd.beta, {});
  check_at_least<std::int64_t>("training.gkd.max_new_tokens", gkd.max_new_tokens, 1);
  validate_gold(training.gold);
}

}  // namespace oumi
