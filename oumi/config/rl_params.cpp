#include "oumi/config/rl_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const GrpoParams*) {
  using P = GrpoParams;
  static constexpr Field kFields[] = {
      field<&P::model_init_kwargs>("model_init_kwargs", "", "Arguments of the reference model."),
      field<&P::max_prompt_length>("max_prompt_length", "tokens", "Longest prompt; longer ones lose their beginning."),
      field<&P::max_completion_length>("max_completion_length", "tokens", "Longest completion that is sampled."),
      field<&P::num_generations>("num_generations", "completions", "Completions sampled for each prompt."),
      field<&P::temperature>("temperature", "", "Sampling temperature, 0 to 1."),
      field<&P::remove_unused_columns>("remove_unused_columns", "", "Drop columns that the reward functions don't read."),
      field<&P::repetition_penalty>("repetition_penalty", "", "Above 1 makes repeated tokens less likely."),
      field<&P::use_vllm>("use_vllm", "", "Sample with vLLM."),
      field<&P::vllm_mode>("vllm_mode", "", "server or colocate."),
      field<&P::vllm_gpu_memory_utilization>("vllm_gpu_memory_utilization", "", "Share of GPU memory for vLLM, 0 to 1."),
      field<&P::epsilon>("epsilon", "", "Clip range of the probability ratio."),
      field<&P::log_completions>("log_completions", "", "Log some prompts with their completions."),
      field<&P::rollout_function>("rollout_function", "", "Registered function that samples completions."),
  };
  return kFields;
}

FieldList fields_of(const GkdParams*) {
  using P = GkdParams;
  static constexpr Field kFields[] = {
      field<&P::teacher_model_name_or_path>("teacher_model_name_or_path", "", "Teacher that is distilled."),
      field<&P::teacher_model_init_kwargs>("teacher_model_init_kwargs", "", "Arguments of the teacher."),
      field<&P::temperature>("temperature", "", "Temperature of both distributions, above 0 to 1."),
      field<&P::lmbda>("lmbda", "", "Share of samples that the student generates itself, 0 to 1."),
      field<&P::beta>("beta", "", "Divergence between forward KL (0) and reverse KL (1)."),
      field<&P::max_new_tokens>("max_new_tokens", "tokens", "Longest completion that is sampled."),
      field<&P::disable_dropout>("disable_dropout", "", "Train without dropout."),
      field<&P::seq_kd>("seq_kd", "", "Train on the teacher's own completions."),
  };
  return kFields;
}

FieldList fields_of(const GoldParams*) {
  using P = GoldParams;
  static constexpr Field kFields[] = {
      field<&P::teacher_model_name_or_path>("teacher_model_name_or_path", "", "Teacher that is distilled."),
      field<&P::teacher_model_init_kwargs>("teacher_model_init_kwargs", "", "Arguments of the teacher."),
      field<&P::teacher_tokenizer_name_or_path>("teacher_tokenizer_name_or_path", "",
                                                "The teacher's tokenizer, where it differs."),
      field<&P::temperature>("temperature", "", "Sampling temperature, above 0 to 1."),
      field<&P::top_p>("top_p", "", "Nucleus sampling: probability mass that is kept."),
      field<&P::top_k>("top_k", "tokens", "Tokens kept when sampling; 0 keeps all."),
      field<&P::lmbda>("lmbda", "", "Share of samples that the student generates itself, 0 to 1."),
      field<&P::beta>("beta", "", "Divergence between forward KL (0) and reverse KL (1)."),
      field<&P::max_completion_length>("max_completion_length", "tokens", "Longest completion that is sampled."),
      field<&P::disable_dropout>("disable_dropout", "", "Train without dropout."),
      field<&P::seq_kd>("seq_kd", "", "Train on the teacher's own completions."),
      field<&P::use_uld_loss>("use_uld_loss", "", "Loss across tokenizers (universal logit distillation)."),
      field<&P::use_extended_uld>("use_extended_uld", "", "Align tokens by their text and merge split ones."),
      field<&P::uld_use_hybrid_loss>("uld_use_hybrid_loss", "", "Direct loss for matched tokens, ULD for the rest."),
      field<&P::uld_hybrid_matched_weight>("uld_hybrid_matched_weight", "", "Weight of matched tokens; unset adapts."),
      field<&P::uld_hybrid_unmatched_weight>("uld_hybrid_unmatched_weight", "", "Weight of unmatched tokens; unset adapts."),
      field<&P::uld_crossentropy_weight>("uld_crossentropy_weight", "", "Weight of the cross entropy beside ULD."),
      field<&P::uld_distillation_weight>("uld_distillation_weight", "", "Weight of the distillation term."),
      field<&P::uld_student_temperature>("uld_student_temperature", "", "Temperature of the student's distribution."),
      field<&P::uld_teacher_temperature>("uld_teacher_temperature", "", "Temperature of the teacher's distribution."),
      field<&P::uld_skip_student_eos>("uld_skip_student_eos", "", "Leave the student's end token out of the loss."),
      field<&P::uld_skip_teacher_eos>("uld_skip_teacher_eos", "", "Leave the teacher's end token out of the loss."),
      field<&P::use_transformers_paged>("use_transformers_paged", "", "Sample with Transformers' paged cache."),
      field<&P::use_vllm>("use_vllm", "", "Sample with vLLM."),
      field<&P::vllm_mode>("vllm_mode", "", "server or colocate."),
      field<&P::vllm_server_host>("vllm_server_host", "", "Host of the vLLM server."),
      field<&P::vllm_server_port>("vllm_server_port", "", "Port of the vLLM server."),
      field<&P::vllm_server_timeout>("vllm_server_timeout", "seconds", "How long to wait for the vLLM server."),
      field<&P::vllm_gpu_memory_utilization>("vllm_gpu_memory_utilization", "", "Share of GPU memory for vLLM, 0 to 1."),
      field<&P::vllm_tensor_parallel_size>("vllm_tensor_parallel_size", "ranks", "Tensor-parallel size of vLLM."),
      field<&P::vllm_guided_decoding_regex>("vllm_guided_decoding_regex", "", "Pattern that sampled text must match."),
      field<&P::vllm_sync_frequency>("vllm_sync_frequency", "steps", "How often vLLM gets the new weights."),
      field<&P::vllm_enable_sleep_mode>("vllm_enable_sleep_mode", "", "Free vLLM's memory between samplings."),
  };
  return kFields;
}

}  // namespace oumi
