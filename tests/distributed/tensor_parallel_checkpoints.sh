#!/usr/bin/env bash
# Checkpoints of tensor-parallel runs: bit-exact at the same layout, and taken up at others with the losses and weights of a run in
# one process; sharded within a copy's ranks too.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/tensor_parallel_runs.sh"

CASE="checkpoints"
launch 2 undisturbed "${saving[@]}" "$dropout" $tp $sp
launch 2 stopped "${saving[@]}" "$dropout" $tp $sp --training.save_strategy=steps --training.save_steps=6
rm -r stopped/checkpoint-12
launch 2 stopped "${saving[@]}" "$dropout" $tp $sp --training.try_resume_from_last_checkpoint=true
pass; cmp undisturbed/model.safetensors stopped/model.safetensors || fail "a resumed run differs"
# At other sizes, without dropout.
run_one whole "${saving[@]}" --training.save_strategy=steps --training.save_steps=6
launch 2 spread "${saving[@]}" $tp --training.save_strategy=steps --training.save_steps=6
rm -r {whole,spread}/checkpoint-12
cp -r whole to_spread; cp -r spread to_whole
launch 2 to_spread "${saving[@]}" $tp --training.try_resume_from_last_checkpoint=true
run_one to_whole "${saving[@]}" --training.try_resume_from_last_checkpoint=true
for run in spread to_spread to_whole; do
  resumed whole $run
done

# Sharded within a copy's ranks: the same layout, then others.
for kind in "fsdp2 $(fsdp GPT2Block) --fsdp.state_dict_type=SHARDED_STATE_DICT" "zero1 $zero1"; do
  set -- $kind; name=$1; shift
  launch 4 $name "${saving[@]}" "$dropout" $tp $sp "$@" --training.save_strategy=steps --training.save_steps=6
  cp -r $name again_$name; rm -r again_$name/{checkpoint-12,model.safetensors}
  launch 4 again_$name "${saving[@]}" "$dropout" $tp $sp "$@" --training.try_resume_from_last_checkpoint=true
  expect_stderr "resuming from"
  pass; cmp $name/model.safetensors again_$name/model.safetensors || fail "a resumed run differs"
done
expect_file fsdp2/checkpoint-6/optimizer-tp-00002-of-00002-dp-00001-of-00002.json fsdp2/checkpoint-6/model-rank-tp-00001-of-00002-dp-00002-of-00002.safetensors
half=(--training.per_device_train_batch_size=1)
launch 4 parts "${saving[@]}" "${half[@]}" $tp $(fsdp GPT2Block) --fsdp.state_dict_type=SHARDED_STATE_DICT --training.save_strategy=steps --training.save_steps=6
rm -r parts/checkpoint-12 parts/model.safetensors
for run in parts_to_{whole,fsdp,tp_zero1}; do cp -r parts $run; done
run_one parts_to_whole "${saving[@]}" --training.try_resume_from_last_checkpoint=true
launch 2 parts_to_fsdp "${saving[@]}" "${half[@]}" $(fsdp GPT2Block) --training.try_resume_from_last_checkpoint=true
launch 4 parts_to_tp_zero1 "${saving[@]}" "${half[@]}" $tp $zero1 --training.try_resume_from_last_checkpoint=true
cp -r to_whole spread_to_parts; rm spread_to_parts/model.safetensors
launch 4 spread_to_parts "${saving[@]}" "${half[@]}" $tp $(fsdp GPT2Block) --training.try_resume_from_last_checkpoint=true
for run in parts_to_{whole,fsdp,tp_zero1} spread_to_parts; do
  resumed whole $run
done

CASE="activation checkpointing"
launch 2 recomputed "${saving[@]}" "$dropout" $tp $sp --training.enable_gradient_checkpointing=true
pass; cmp undisturbed/model.safetensors recomputed/model.safetensors || fail "recomputed activations differ"

report_and_exit
