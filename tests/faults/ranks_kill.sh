#!/usr/bin/env bash
# kill -9 of one rank, or of all and the launcher, at random moments of training and saving: no checkpoint that was whole is
# lost, and the run, taken up again, ends with the weights of one that nobody touched. OUMI_KILL_SEED=n tries other moments.
source "$(dirname "$0")/../lib.sh"

seed=${OUMI_KILL_SEED:-1}
small_fashion data 96 64
cat >images.yaml <<'YAML'
model:
  model_name: CnnClassifier
  load_pretrained_weights: false
  model_kwargs: {image_width: 28, image_height: 28, in_channels: 1, output_dim: 10}
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train, dataset_kwargs: {transforms: [to_float]}}]
training:
  output_dir: out
  max_steps: 60
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 2
  save_steps: 2
  enable_tensorboard: false
YAML
small_chats chats.jsonl 96
mkdir gpt2
cat >gpt2/config.json <<'JSON'
{"model_type": "gpt2", "vocab_size": 1001, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0.1,
               "resid_pdrop": 0.1, "embd_pdrop": 0.1}
JSON
cat >text.yaml <<YAML
model:
  model_name: gpt2/config.json
  load_pretrained_weights: false
  tokenizer_name: $OUMI_SOURCE_DIR/tests/golden/textdata
  model_max_length: 64
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl, split: train}]
training:
  output_dir: out
  max_steps: 40
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 2
  save_steps: 2
  enable_tensorboard: false
YAML
export OUMI_CACHE="$WORK/cache"

# kill_ranks NAME KILLS CONFIG OVERRIDES...
kill_ranks() {
  local name=$1 wanted=$2 config=$3 kills=0 attempt=0 launcher victims before="" after started elapsed rank
  shift 3
  CASE=$name
  started=$(date +%s%N)
  expect_exit 0 "$OUMI_CPP" launch --nproc-per-node 2 train -c "$config" --training.output_dir "$name" "$@"
  elapsed=$((($(date +%s%N) - started) / 1000000))
  rm -rf killed
  while [ "$kills" -lt "$wanted" ] && [ "$attempt" -lt $((wanted * 4)) ]; do
    attempt=$((attempt + 1))
    LAST_COMMAND="kill number $((kills + 1)) of '$name' (seed $seed)"
    "$OUMI_CPP" launch --nproc-per-node 2 train -c "$config" --training.output_dir killed --training.try_resume_from_last_checkpoint true "$@" >.stdout 2>.stderr &
    launcher=$!
    sleep "$(random_between "$seed $name $attempt" "$((elapsed * 40 / 100))e-3" "$((elapsed * 95 / 100))e-3")"
    victims=$(ranks_of $launcher)
    rank=""
    if [ $((attempt % 2)) -eq 1 ]; then  # one rank: the launcher says so and stops the other
      rank=$(random_between "$seed $name rank $attempt" 0 1.999 | cut -d . -f 1)
      victims=$(sed -n "$((rank + 1))p" <<<"$victims")
    else
      victims="$launcher $victims"
    fi
    # shellcheck disable=SC2086
    kill -KILL $victims 2>/dev/null || true
    CODE=0
    wait "$launcher" 2>/dev/null || CODE=$?
    if [ "$CODE" -eq 0 ]; then  # it got there before the kill
      expect_same "$name/model.safetensors" killed/model.safetensors
      rm -rf killed
      before=""
      elapsed=$((elapsed * 4 / 5))  # the machine was busier when the run was timed
      continue
    fi
    kills=$((kills + 1))
    if [ -n "$rank" ]; then
      expect_equal "$CODE" 3 "exit code of the launcher"
      pass; grep -q "error: \[launch\] rank $rank on .* failed: killed by signal 9" .stderr || fail "the launcher does not name rank $rank"
    else
      expect_equal "$CODE" 137 "exit code of the launcher"
    fi
    after=$(good_checkpoints killed)
    [ -z "$before" ] || none_lost "$before" "$after"
    before=$after
  done
  pass; [ "$kills" -eq "$wanted" ] || fail "only $kills of $wanted kills hit a running process"
  expect_exit 0 "$OUMI_CPP" launch --nproc-per-node 2 train -c "$config" --training.output_dir killed --training.try_resume_from_last_checkpoint true "$@"
  expect_same "$name/model.safetensors" killed/model.safetensors
  expect_no_leftovers killed
  expect_equal "$(metric killed/metrics_rank0000.jsonl loss)" "$(metric "$name/metrics_rank0000.jsonl" loss)" losses
}

ddp=2 fsdp=1 tensor=1 background=1
if faults_full; then ddp=18 fsdp=12 tensor=10 background=12; fi
kill_ranks ddp $ddp images.yaml
kill_ranks fsdp $fsdp images.yaml --fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=500 --fsdp.state_dict_type=SHARDED_STATE_DICT
! has_text || kill_ranks tensor $tensor text.yaml --parallel.tensor_model_parallel_size=2 --parallel.sequence_parallel=true
kill_ranks background $background images.yaml --training.async_save=true --training.save_steps=1 --training.max_steps=30 --fsdp.enable_fsdp=true \
  --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=500 --fsdp.state_dict_type=SHARDED_STATE_DICT

report_and_exit
