#!/usr/bin/env bash
# Memory and file descriptors that run out: exit code 3, what was short, and no half checkpoint. Not in a build with sanitizers, which
# need both for themselves.
source "$(dirname "$0")/../lib.sh"

small_fashion data 256 32
{
  simple_model_config
  echo 'training: {output_dir: out, max_steps: 12, per_device_train_batch_size: 8, logging_steps: 1, save_steps: 4}'
} >run.yaml

CASE="memory"
# limited MEGABYTES COMMAND...: address space beyond what the program itself maps.
limited() {
  local bytes=$(($1 << 20))
  shift
  prlimit --as="$bytes" "$@"
}
cat >large.yaml <<'YAML'
model:
  model_name: CnnClassifier
  load_pretrained_weights: false
  model_kwargs: {image_width: 28, image_height: 28, in_channels: 1, output_dim: 10}
YAML
# The least address space with which the run works: around it, one or other allocation fails.
small=0 large=4500
works() { run limited "$1" "$OUMI_CPP" train -c run.yaml -c large.yaml --overwrite training.output_dir=memory training.per_device_train_batch_size=200 training.max_steps=2 training.save_steps=1; [ "$CODE" -eq 0 ]; }
while [ $((large - small)) -gt 16 ]; do
  middle=$(((small + large) / 2))
  if works $middle; then large=$middle; else small=$middle; fi
done
named=0
for below in 8 20 60 120; do
  CASE="memory, $below MB less than it takes"
  rm -rf memory
  if works $((large - below)); then continue; fi
  # What is short may also be the loading of libraries or a thread's stack: no message of ours then, but never a half checkpoint.
  if grep -q '^error: \[' .stderr; then
    pass; [ "$CODE" -eq 3 ] || fail "expected exit code 3, got $CODE"
    ! grep -Eq 'out of memory: you tried to allocate [0-9]+ bytes' .stderr || named=$((named + 1))
  fi
  [ ! -d memory ] || expect_no_leftovers memory
  expect_equal "$(ls -d memory/checkpoint-* 2>/dev/null | wc -l)" "$(good_checkpoints memory | wc -l)" "whole checkpoints"
done
CASE=memory
pass; [ $named -gt 0 ] || fail "no message has the bytes that were asked for"

CASE="too few file descriptors"
short=0
for descriptors in 4 5 6 7 8 9 10 11; do
  rm -rf few
  run prlimit --nofile=$descriptors "$OUMI_CPP" train -c run.yaml training.output_dir=few
  # 127: too few for the libraries.
  if [ "$CODE" -ne 0 ] && [ "$CODE" -ne 127 ]; then
    short=$((short + 1))
    expect_equal "$CODE" 3 "exit code with $descriptors descriptors"
    expect_stderr "error: ["
    expect_stderr "Too many open files"
  fi
  [ ! -d few ] || expect_no_leftovers few
  expect_equal "$(ls -d few/checkpoint-* 2>/dev/null | wc -l)" "$(good_checkpoints few | wc -l)" "whole checkpoints"
done
pass; [ $short -gt 0 ] || fail "no run was short of descriptors"

report_and_exit
