#!/usr/bin/env bash
# Adapters on a model that is spread over ranks: trained, merged, saved, resumed from and trained on as in one process.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/tensor_parallel_runs.sh"

CASE="LoRA"
lora=(--training.use_peft=true --peft.lora_r=4 --peft.lora_alpha=8 --peft.lora_dropout=0 --peft.lora_target_modules=[all-linear] --peft.lora_bias=all)
run_one llama_lora "$(ga 4)" "${lora[@]}"
launch 4 llama_lora_tp2_dp2 "$(ga 2)" "${lora[@]}" $tp
same llama_lora llama_lora_tp2_dp2 --file adapter_model.safetensors
run_one gpt2_lora "$(family gpt2)" "$(ga 2)" "${lora[@]}"
launch 2 gpt2_lora_tp2_sp "$(family gpt2)" "$(ga 2)" "${lora[@]}" $tp $sp
same gpt2_lora gpt2_lora_tp2_sp --file adapter_model.safetensors
pass; cmp gpt2_lora/adapter_config.json gpt2_lora_tp2_sp/adapter_config.json || fail "the adapters' configs differ"
merged=("${lora[@]}" --training.max_steps=12 --training.eval_strategy=no --peft.peft_save_mode=MERGED)
run_one merged "${merged[@]}"
launch 2 merged_tp2 "${merged[@]}" $tp
resumed merged merged_tp2
expect_file merged_tp2/adapter/adapter_model.safetensors
# Checkpoints: at the same layout, in one process; the saved adapter trained on.
tuning=("${saving[@]}" "${lora[@]}")
launch 2 tuned "${tuning[@]}" "$dropout" --peft.lora_dropout=0.1 $tp $sp --training.save_strategy=steps --training.save_steps=6
cp -r tuned tuned_again; rm -r tuned_again/{checkpoint-12,adapter_model.safetensors}
launch 2 tuned_again "${tuning[@]}" "$dropout" --peft.lora_dropout=0.1 $tp $sp --training.try_resume_from_last_checkpoint=true
pass; cmp tuned/adapter_model.safetensors tuned_again/adapter_model.safetensors || fail "a resumed run differs"
run_one tuned_whole "${tuning[@]}" --training.save_strategy=steps --training.save_steps=6
launch 2 tuned_to_whole "${tuning[@]}" $tp --training.save_strategy=steps --training.save_steps=6
rm -r {tuned_whole,tuned_to_whole}/checkpoint-12 tuned_to_whole/adapter_model.safetensors
cp -r tuned_whole tuned_to_tp2
run_one tuned_to_whole "${tuning[@]}" --training.try_resume_from_last_checkpoint=true
launch 2 tuned_to_tp2 "${tuning[@]}" $tp --training.try_resume_from_last_checkpoint=true
for run in tuned_to_whole tuned_to_tp2; do
  resumed tuned_whole $run --file adapter_model.safetensors
done
run_one adapter_on "${saving[@]}" --training.use_peft=true --model.adapter_model=tuned_whole
launch 2 adapter_on_tp2 "${saving[@]}" --training.use_peft=true --model.adapter_model=tuned_whole $tp
resumed adapter_on adapter_on_tp2 --file adapter_model.safetensors

report_and_exit
