#!/usr/bin/env bash
# Tensor parallelism inside, shards around it, copies of those around them: eight processes train as one does, and their checkpoints can be
# taken up by others.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/tensor_parallel_runs.sh"

hybrid() { echo "$(fsdp "$1") --fsdp.sharding_strategy=$2 --fsdp.shard_group_size=2"; }

CASE="two copies of two shards of two parts"
run_one llama4 "$(ga 4)" $smooth
launch 8 llama4_hybrid $smooth $tp $sp $(hybrid LlamaDecoderLayer HYBRID_SHARD)
same llama4 llama4_hybrid
pass; cmp llama4/config.json llama4_hybrid/config.json || fail "the saved configs differ"

CASE="checkpoints"
half=(--training.per_device_train_batch_size=1 "$(ga 2)")  # with four ranks of data, as one process with ga 4
run_one whole "${saving[@]}" "$(ga 4)"
launch 8 parts "${saving[@]}" "${half[@]}" $tp $(hybrid GPT2Block HYBRID_SHARD_ZERO2) --fsdp.state_dict_type=SHARDED_STATE_DICT --training.save_strategy=steps \
  --training.save_steps=6
resumed whole parts
expect_file parts/checkpoint-6/model-rank-tp-00002-of-00002-dp-00002-of-00002.safetensors parts/checkpoint-6/rng_state_7.safetensors
rm -r parts/checkpoint-12
cp -r parts parts_again
rm parts_again/model.safetensors
launch 8 parts_again "${saving[@]}" "${half[@]}" $tp $(hybrid GPT2Block HYBRID_SHARD_ZERO2) --fsdp.state_dict_type=SHARDED_STATE_DICT \
  --training.try_resume_from_last_checkpoint=true
expect_stderr "resuming from"
expect_same parts/model.safetensors parts_again/model.safetensors
cp -r parts alone
run_one alone "${saving[@]}" "$(ga 4)" --training.try_resume_from_last_checkpoint=true
resumed whole alone

report_and_exit
