#!/usr/bin/env bash
# One bit or one byte less in any file of the newest checkpoint: it is detected, the file is named with both hashes or sizes, the
# checkpoint before it is used, and the run ends with the weights of an undisturbed one. One process, and ranks that each have files of their own:
# FSDP's, ZeRO-1's, and those of a model that is spread by tensor parallelism, alone and sharded within its copies.
source "$(dirname "$0")/../lib.sh"

small_fashion data 64 32
{
  simple_model_config
  cat <<'YAML'
training:
  output_dir: whole
  max_steps: 4
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 1
  save_steps: 2
  ema_decay: 0.9
  enable_tensorboard: false
YAML
} >run.yaml

# damage_each WHOLE FILES COMMAND...: damages each of the FILES (a pattern) of WHOLE/checkpoint-4 in turn and resumes in a copy with COMMAND.
damage_each() {
  local whole=$1 files=$2 file number=0 kind
  shift 2
  for file in $(cd "$whole/checkpoint-4" && find . -type f -name "$files" | sed 's|^\./||' | sort); do
    for kind in flip cut; do
      number=$((number + 1))
      # Half of the cases in the quick run; each file has its turn, and both kinds do.
      if ! faults_full && [ $((number / 2 % 2)) -eq $((number % 2)) ]; then continue; fi
      CASE="$whole, $kind in $file"
      rm -rf damaged
      mkdir damaged
      cp -r "$whole/checkpoint-2" "$whole/checkpoint-4" damaged/
      if [ $kind = flip ]; then
        flip_bit "damaged/checkpoint-4/$file" "$(random_between "$CASE" 0 "$(($(stat -c %s "$whole/checkpoint-4/$file") - 1))" | cut -d . -f 1)"
      else
        truncate -s -1 "damaged/checkpoint-4/$file"
      fi
      expect_exit 0 "$@" --training.output_dir damaged --training.try_resume_from_last_checkpoint true
      pass; grep 'skipping damaged/checkpoint-4: ' .stderr | grep -qF "$file" || fail "$file is not named"
      if [ $kind = flip ] && [ "$file" != manifest.json ]; then
        pass; grep 'skipping damaged/checkpoint-4: ' .stderr | grep -Eq 'expected xxh3_128 [0-9a-f]{32}, got [0-9a-f]{32}' || fail "the hashes are not given"
      fi
      expect_stderr "resuming from damaged/checkpoint-2 at step 2"
      expect_same "$whole/model.safetensors" damaged/model.safetensors
      # The damaged one is replaced by a whole one of the same step.
      [ "$(good_checkpoints damaged | tail -n 1)" = 4 ] || fail "checkpoint-4 was not written again"
    done
  done
  pass; [ "$number" -ge 16 ] || { [ "$files" != "*" ] && [ "$number" -ge 2 ]; } || fail "only $number cases"
}

expect_exit 0 "$OUMI_CPP" train -c run.yaml
damage_each whole "*" "$OUMI_CPP" train -c run.yaml

sed '/ema_decay/d' run.yaml >ranks.yaml
small_chats chats.jsonl 32
mkdir gpt2
echo '{"model_type": "gpt2", "vocab_size": 1001, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 128}' >gpt2/config.json
export OUMI_CACHE="$WORK/cache"
{
  cat <<YAML
model: {model_name: gpt2/config.json, load_pretrained_weights: false, tokenizer_name: $OUMI_SOURCE_DIR/tests/golden/textdata, model_max_length: 64}
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl, split: train}]
YAML
  sed -n '/^training:/,$p' ranks.yaml
} >text.yaml

# damage_ranks WHOLE FILES RANKS CONFIG OVERRIDES...: FILES in the quick run, all in the full one.
damage_ranks() {
  local whole=$1 files=$2 command=("$OUMI_CPP" launch --nproc-per-node "$3" train -c "$4" "${@:5}")
  CASE=$whole
  if faults_full; then files="*"; fi
  expect_exit 0 "${command[@]}" --training.output_dir "$whole"
  damage_each "$whole" "$files" "${command[@]}"
}
fsdp=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=500 --fsdp.state_dict_type=SHARDED_STATE_DICT)
tensor=(--parallel.tensor_model_parallel_size=2 --parallel.sequence_parallel=true)
damage_ranks shards "model-rank-00002-of-00002.safetensors" 2 ranks.yaml "${fsdp[@]}"
! has_text || damage_ranks tensor "optimizer-tp-00002-of-00002.safetensors" 2 text.yaml "${tensor[@]}"
if faults_full; then
  damage_ranks zero1 "*" 2 ranks.yaml --deepspeed.enable_deepspeed=true --deepspeed.zero_stage=ZERO_1
  ! has_text || damage_ranks tensor_shards "*" 4 text.yaml "${tensor[@]}" "${fsdp[@]}"
fi

CASE="every checkpoint is damaged"
for step in 2 4; do truncate -s -1 "whole/checkpoint-$step/model.safetensors"; done
rm -rf damaged && mkdir damaged && cp -r whole/checkpoint-* damaged/
expect_exit 0 "$OUMI_CPP" train -c run.yaml --training.output_dir damaged --training.try_resume_from_last_checkpoint true
expect_stderr "starting from the beginning"
expect_file damaged/model.safetensors

report_and_exit
