#!/usr/bin/env bash
# Several ranks train as one process does: DDP, ZeRO-1 and FSDP, with and without accumulation, on 2 and 4 processes.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/runs.sh"

small_fashion data 256 72
cat >config.yaml <<'YAML'
model:
  model_name: SimpleModel
  load_pretrained_weights: false
  model_kwargs: {num_classes: 10}
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train, dataset_kwargs: {transforms: [to_float]}}]
  validation:
    datasets: [{dataset_name: idx, dataset_path: data, split: test, dataset_kwargs: {transforms: [to_float]}}]
training:
  output_dir: out
  max_steps: 50
  per_device_train_batch_size: 4
  per_device_eval_batch_size: 10
  optimizer: sgd
  sgd_momentum: 0.9
  learning_rate: 1.0e-2
  weight_decay: 0.01
  logging_steps: 1
  eval_strategy: steps
  eval_steps: 25
  save_strategy: "no"
  enable_tensorboard: false
YAML

# The evaluation over ranks counts every sample once: 72 samples in batches of 10.
same_eval() {
  local key
  for key in eval_accuracy eval_f1; do
    expect_equal "$(metric "$2/metrics_rank0000.jsonl" $key)" "$(metric "$1/metrics_rank0000.jsonl" $key)" "$2 $key"
  done
}

fsdp() { echo --fsdp.enable_fsdp=true --fsdp.sharding_strategy="$1" --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=Conv2d,Linear; }

# One process that takes the same samples in each update.
for updates in 2 4; do
  run_one "one$updates" "$(ga $updates)"
done

CASE="DDP"
launch 2 ddp2
same one2 ddp2
same_eval one2 ddp2
launch 2 ddp2_ga2 "$(ga 2)"
same one4 ddp2_ga2
launch 4 ddp4
same one4 ddp4
same_eval one4 ddp4

CASE="ZeRO-1"
launch 2 zero2_ga2 "$(ga 2)" --deepspeed.enable_deepspeed=true --deepspeed.zero_stage=ZERO_1
same one4 zero2_ga2
same_eval one4 zero2_ga2

CASE="FSDP"
# shellcheck disable=SC2046
launch 2 full2_ga2 "$(ga 2)" $(fsdp FULL_SHARD)
same one4 full2_ga2
same_eval one4 full2_ga2
# shellcheck disable=SC2046
launch 2 gradop2 $(fsdp SHARD_GRAD_OP)
same one2 gradop2
# shellcheck disable=SC2046
launch 2 recomputed2 $(fsdp FULL_SHARD) --training.enable_gradient_checkpointing=true \
  '--training.gradient_checkpointing_kwargs={layer_classes: [Conv2d, Linear]}'
same one2 recomputed2

CASE="hybrid sharding: two copies of two shards"
# shellcheck disable=SC2046
launch 4 hybrid4 $(fsdp HYBRID_SHARD) --fsdp.shard_group_size=2 --training.save_strategy=steps --training.save_steps=20
same one4 hybrid4
same_eval one4 hybrid4
expect_file hybrid4/checkpoint-20/optimizer-00002-of-00002.safetensors hybrid4/checkpoint-20/rng_state_3.safetensors
# shellcheck disable=SC2046
launch 4 hybrid4_zero2_ga2 "$(ga 2)" --training.per_device_train_batch_size=2 $(fsdp HYBRID_SHARD_ZERO2) --fsdp.shard_group_size=2
same one4 hybrid4_zero2_ga2
# From there on with other ranks: one machine's two as the shards of one copy, and one process.
resume=(--training.save_strategy=steps --training.save_steps=20 --training.try_resume_from_last_checkpoint=true)
for layout in shards alone; do
  mkdir $layout
  cp -r hybrid4/checkpoint-20 hybrid4/metrics_rank0000.jsonl $layout
done
# shellcheck disable=SC2046
launch 2 shards "$(ga 2)" $(fsdp HYBRID_SHARD) "${resume[@]}"
same one4 shards
expect_exit 0 "$OUMI_CPP" train -c config.yaml --training.output_dir alone "$(ga 4)" "${resume[@]}"
same one4 alone

CASE="NO_SHARD is DDP"
# shellcheck disable=SC2046
launch 2 no_shard2 $(fsdp NO_SHARD) --training.max_steps=10 --training.eval_strategy=no
launch 2 ddp2_short --training.max_steps=10 --training.eval_strategy=no
expect_same ddp2_short/model.safetensors no_shard2/model.safetensors

CASE="ZeRO-3"
launch 2 zero3 --deepspeed.enable_deepspeed=true --deepspeed.zero_stage=ZERO_3
same one2 zero3

report_and_exit
