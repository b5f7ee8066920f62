#!/usr/bin/env bash
# Models of one's own whose weights are shards from the first value to the last: they start with one process's weights, go through
# checkpoints and folders, and are never whole on a rank; one whose constructor can't be followed is made whole, to the same end.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/runs.sh"

small_fashion data 256 72
cat >config.yaml <<'YAML'
model:
  model_name: DeepModel
  load_pretrained_weights: false
  model_kwargs: {width: 160, layers: 3}
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
  eval_steps: 50
  save_strategy: "no"
  enable_tensorboard: false
  dataloader_num_workers: 0
YAML
export OUMI_EXTRA_DEPS_FILE="$WORK/plugins.txt"
echo "$OUMI_BUILD_DIR/tests/libdeep_model.so" >plugins.txt

fsdp=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=DeepBlock)
made_whole="DeepModel is made whole on every rank: its constructor reads or writes a weight's memory by itself"

CASE="as one process"
run_one one "$(ga 2)"
launch 2 full2 "${fsdp[@]}"
refute_stderr "made whole"
same one full2
launch 4 hybrid4 "${fsdp[@]}" --fsdp.sharding_strategy=HYBRID_SHARD --fsdp.shard_group_size=2 --training.per_device_train_batch_size=2
same one hybrid4

CASE="made whole"
launch 2 whole2 "${fsdp[@]}" --model.model_kwargs.by_hand=true
expect_stderr "$made_whole"
expect_same full2/model.safetensors whole2/model.safetensors
expect_same whole2/telemetry/sample_predictions.json full2/telemetry/sample_predictions.json
expect_equal "$(metric full2/metrics_rank0000.jsonl loss)" "$(metric whole2/metrics_rank0000.jsonl loss)" losses

CASE="all ranks start from rank 0's"
for what in other look; do
  launch 2 $what "${fsdp[@]}" --model.model_kwargs.on_rank_1=$what
  expect_same full2/model.safetensors $what/model.safetensors
done

CASE="checkpoints"
saving=(--training.save_strategy=steps --training.save_steps=20)
for kind in FULL_STATE_DICT SHARDED_STATE_DICT; do
  launch 2 resumed_$kind "${saving[@]}" "${fsdp[@]}" --fsdp.state_dict_type=$kind
  rm -r resumed_$kind/checkpoint-{40,50} resumed_$kind/model.safetensors
  launch 2 resumed_$kind "${saving[@]}" "${fsdp[@]}" --fsdp.state_dict_type=$kind --training.try_resume_from_last_checkpoint=true
  expect_stderr "resuming from"
  expect_same full2/model.safetensors resumed_$kind/model.safetensors
done
launch 2 best "${saving[@]}" "${fsdp[@]}" --training.eval_steps=20 --training.load_best_model_at_end=true --training.max_steps=40
expect_stderr "loading the best model"
best=$(python3 -c 'import json; print(json.load(open("best/trainer_state.json"))["best_model_checkpoint"])')
expect_same "$best/model.safetensors" best/model.safetensors

CASE="weights from files"
folder=(--model.model_name=full2 --model.load_pretrained_weights=true --training.max_steps=20)
run_one files_one "$(ga 2)" "${folder[@]}"
launch 2 files2 "${folder[@]}" "${fsdp[@]}"
python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 20 files_one files2 || fail "the runs differ"

CASE="memory falls as 1/N"
# peak OUTPUT N LAYERS [OPTION...]: most weights are frozen, so that they are all that there is; saved like any others.
peak() {
  peak_memory "$1.out" launch --nproc-per-node "$2" train -c config.yaml --training.output_dir "$1" "${fsdp[@]}" --model.model_kwargs.width=1536 \
    --model.model_kwargs.layers="$3" --model.freeze_layers="[$(seq -s, -f block%.0f 0 $(($3 - 1)))]" --training.max_steps=1 --training.eval_strategy=no "${@:4}"
  expect_file "$1/model.safetensors"
}
declare -A used
for case in 1 2 4 whole2; do
  options=()
  [ $case != whole2 ] || options=(--model.model_kwargs.by_hand=true)
  peak little$case "${case#whole}" 1 "${options[@]}"
  base=$PEAK
  peak big$case "${case#whole}" 17 "${options[@]}"
  used[$case]=$(((PEAK - base) / 1024))
  rm -r big$case little$case
done
# 16 blocks of 18 MiB
echo "memory beyond a model's of one block, MiB on each rank: ${used[1]} with 1, ${used[2]} with 2, ${used[4]} with 4, ${used[whole2]} with 2 when it is made whole"
pass; [ "${used[1]}" -ge 280 ] || fail "one rank: expected at least 280 MiB"
pass; [ "${used[2]}" -le 190 ] || fail "two ranks: expected at most 190 MiB"
pass; [ "${used[4]}" -le 115 ] || fail "four ranks: expected at most 115 MiB"
pass; [ "${used[whole2]}" -ge 250 ] || fail "two ranks with a model that is made whole: expected at least 250 MiB, or nothing was saved"

report_and_exit
