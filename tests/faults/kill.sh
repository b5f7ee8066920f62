#!/usr/bin/env bash
# kill -9 at random moments, over and over, each time going on from the last checkpoint: the final weights are those of a run
# that nobody touched, and no checkpoint that was whole is lost. The moments come from a seed: OUMI_KILL_SEED=n tries others.
source "$(dirname "$0")/../lib.sh"

seed=${OUMI_KILL_SEED:-1}
small_fashion data 100 64
cat >run.yaml <<'YAML'
model:
  model_name: CnnClassifier
  load_pretrained_weights: false
  model_kwargs: {image_width: 28, image_height: 28, in_channels: 1, output_dim: 10}
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train}]
training:
  output_dir: out
  max_steps: 60
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 2
YAML

# kill_series NAME KILLS OVERRIDES...
kill_series() {
  local name=$1 wanted=$2 kills=0 attempt=0 pid before after started elapsed delay
  shift 2
  CASE=$name
  started=$(date +%s%N)
  expect_exit 0 "$OUMI_CPP" train -c run.yaml "training.output_dir=$name" "$@"
  elapsed=$((($(date +%s%N) - started) / 1000000))
  rm -rf killed
  before=""
  while [ "$kills" -lt "$wanted" ] && [ "$attempt" -lt $((wanted * 4)) ]; do
    attempt=$((attempt + 1))
    delay=$(random_between "$seed $name $attempt" "$((elapsed * 25 / 100))e-3" "$((elapsed * 80 / 100))e-3")
    LAST_COMMAND="kill number $((kills + 1)) of '$name' after $delay s (seed $seed)"
    "$OUMI_CPP" train -c run.yaml training.output_dir=killed training.try_resume_from_last_checkpoint=true "$@" >.stdout 2>.stderr &
    pid=$!
    sleep "$delay"
    kill -KILL "$pid" 2>/dev/null || true
    CODE=0
    wait "$pid" 2>/dev/null || CODE=$?
    if [ "$CODE" -eq 0 ]; then  # it got there before the kill: compare and start again
      expect_same "$name/model.safetensors" killed/model.safetensors
      rm -rf killed
      before=""
      continue
    fi
    pass; [ "$CODE" -eq 137 ] || { fail "expected to be killed (137), got exit code $CODE"; return 0; }
    kills=$((kills + 1))
    after=$(good_checkpoints killed)
    pass
    if [ -n "$before" ]; then
      case " $* " in
        *save_total_limit*)  # older ones go, but the newest good step never falls
          [ -n "$after" ] && [ "$(tail -n 1 <<<"$after")" -ge "$(tail -n 1 <<<"$before")" ] || fail "good checkpoints before: $(echo $before), after: $(echo $after)" ;;
        *) none_lost "$before" "$after" ;;
      esac
    fi
    before=$after
  done
  pass; [ "$kills" -eq "$wanted" ] || fail "only $kills of $wanted kills hit a running process"
  expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=killed training.try_resume_from_last_checkpoint=true "$@"
  expect_same "$name/model.safetensors" killed/model.safetensors
  expect_no_leftovers killed
  metric "$name/metrics_rank0000.jsonl" loss >reference.txt
  metric killed/metrics_rank0000.jsonl loss >killed.txt
  expect_same reference.txt killed.txt
  metric killed/metrics_rank0000.jsonl step >last.txt
  sort last.txt | uniq -d >twice.txt
  # The closing summary shares the last step with its training line; no training line comes twice (compared above).
  pass; [ "$(grep -cvx "$(tail -n 1 last.txt)" twice.txt || true)" -eq 0 ] || fail "steps that the metrics file has twice: $(tr '\n' ' ' <twice.txt)"
}

every_fifth=8 every_step=5
if faults_full; then every_fifth=40 every_step=20; fi
kill_series every_fifth $every_fifth training.save_steps=5
# A save at every step: most of the time is spent writing, so kills hit half-written checkpoints and rotations.
kill_series every_step $every_step training.save_steps=1 training.save_total_limit=2 training.dataloader_num_workers=2 training.max_steps=24

# The same with the disk's part of a save in the background.
kill_series in_background $every_step training.async_save=true training.save_steps=1 training.save_total_limit=2 training.max_steps=24

report_and_exit
