#!/usr/bin/env bash
# SIGTERM whenever it comes: while starting, in evaluation, in a save, twice, to one rank of several. The exit code is 143, what is on
# the disk is whole, and the run, taken up again, ends with the weights of an undisturbed one.
source "$(dirname "$0")/../lib.sh"

seed=${OUMI_KILL_SEED:-1}
small_fashion data 100 400
{
  simple_model_config
  cat <<'YAML'
training:
  output_dir: out
  max_steps: 40
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  logging_steps: 1
  save_strategy: "no"
  enable_tensorboard: false
YAML
} >run.yaml

# terminate NAME REFERENCE TIMES FROM TO SIGNALS OVERRIDES...: TIMES runs, each stopped by SIGNALS signals 20 ms apart at a random moment between FROM
# and TO, percent of the time that an undisturbed run takes. A run that was done before the signal came doesn't count.
terminate() {
  local name=$1 reference=$2 times=$3 from=$4 to=$5 signals=$6 attempt pid i stopped=0 newest begin duration
  shift 6
  begin=$(date +%s%N)
  expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=timed --overwrite "$@"
  duration=$(($(date +%s%N) - begin))
  for ((attempt = 1; stopped < times && attempt <= times + 10; ++attempt)); do
    CASE="$name, $attempt"
    rm -rf stopped
    "$OUMI_CPP" train -c run.yaml training.output_dir=stopped "$@" >.stdout 2>.stderr &
    pid=$!
    LAST_COMMAND="SIGTERM to: train $*"
    sleep "$(random_between "$seed $CASE" "$((from * duration / 100))e-9" "$((to * duration / 100))e-9")"
    for ((i = 0; i < signals; ++i)); do
      kill -TERM "$pid" 2>/dev/null || true
      sleep 0.02
    done
    CODE=0
    wait "$pid" || CODE=$?
    pass; case $CODE in 0 | 143) ;; *) fail "expected exit code 143, got $CODE" ;; esac
    pass; ! grep -q '^error:' .stderr || fail "a stop on request is no error"
    if [ "$CODE" -eq 0 ]; then  # the machine was busier when the run was timed
      duration=$((duration * 4 / 5))
      continue
    fi
    if grep -q '^finished at step' .stderr; then  # it was on its way out: everything is written
      expect_same "$reference/model.safetensors" stopped/model.safetensors
      expect_no_leftovers stopped
      continue
    fi
    stopped=$((stopped + 1))
    # Before the run had its folder there is nothing to save; after that there is a checkpoint.
    if [ -s stopped/metrics_rank0000.jsonl ]; then
      newest=$(good_checkpoints stopped | tail -n 1)
      pass; [ -n "$newest" ] || fail "no whole checkpoint"
      expect_equal "$(ls -d stopped/checkpoint-* | wc -l)" "$(good_checkpoints stopped | wc -l)" "whole checkpoints"
      expect_no_leftovers stopped
    fi
    expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=stopped training.try_resume_from_last_checkpoint=true "$@"
    expect_same "$reference/model.safetensors" stopped/model.safetensors
    expect_no_leftovers stopped
  done
  CASE=$name
  pass; [ "$stopped" -eq "$times" ] || fail "only $stopped of $times signals hit a running process"
}
few() { if faults_full; then echo "$2"; else echo "$1"; fi; }

CASE="undisturbed"
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=plain
terminate "while starting" plain "$(few 3 20)" 5 85 1
# Nearly all of the time is evaluation: 400 batches after each update.
evaluating=(training.eval_strategy=steps training.eval_steps=1 training.per_device_eval_batch_size=1 training.max_steps=40)
terminate "in evaluation" plain "$(few 2 10)" 40 90 1 "${evaluating[@]}"
saving=(training.save_strategy=steps training.save_steps=1)
terminate "in saving" plain "$(few 2 20)" 50 90 1 "${saving[@]}"
terminate "twice" plain "$(few 1 5)" 50 85 2 "${saving[@]}"

CASE="one rank of four"
# Long enough that no machine is done before the signal comes.
launch() { "$OUMI_CPP" launch --nproc-per-node 4 train -c run.yaml --training.output_dir "$@"; }
expect_exit 0 launch ranks --training.max_steps 3000
for ((attempt = 1; attempt <= $(few 1 5); ++attempt)); do
  rm -rf agreed
  # exec: the job is the launcher itself.
  (exec "$OUMI_CPP" launch --nproc-per-node 4 train -c run.yaml --training.output_dir agreed --training.max_steps 3000) >.stdout 2>.stderr &
  launcher=$!
  wait_until grep -q '"step": 5,' agreed/metrics_rank0000.jsonl
  kill -TERM "$(rank_of $launcher $((attempt % 4)))"
  CODE=0
  wait $launcher || CODE=$?
  expect_equal "$CODE" 143 "exit code"
  expect_equal "$(ls -d agreed/checkpoint-* | wc -l)" 1 "checkpoints"
  step=$(good_checkpoints agreed)
  pass; [ -n "$step" ] || fail "no whole checkpoint"
  for rank in 0 1 2 3; do
    pass; grep -q "saved agreed/checkpoint-$step" "agreed/logs/rank_000$rank.log" || fail "rank $rank did not save step $step"
  done
  expect_file "agreed/checkpoint-$step/rng_state_3.safetensors"
  expect_exit 0 launch agreed --training.max_steps 3000 --training.try_resume_from_last_checkpoint true
  expect_same ranks/model.safetensors agreed/model.safetensors
done

CASE="launch, while starting"
"$OUMI_CPP" launch --nproc-per-node 2 train -c run.yaml --training.output_dir early >.stdout 2>.stderr &
launcher=$!
sleep 0.1
kill -TERM $launcher
CODE=0
wait $launcher || CODE=$?
expect_equal "$CODE" 143 "exit code"
refute_stderr "error:"

report_and_exit
