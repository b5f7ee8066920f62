#!/usr/bin/env bash
# A run that stops and goes on ends with the same bytes as one that never stopped: from any step, within an epoch, within an
# update of several micro-batches, on a stream, with workers, after a signal, and beyond its first end.
source "$(dirname "$0")/../lib.sh"

small_fashion data 100 64
# Dropout and random transforms: a resumed run has to have every random generator back, not the weights alone.
cat >images.yaml <<'YAML'
model:
  model_name: CnnClassifier
  load_pretrained_weights: false
  model_kwargs: {image_width: 28, image_height: 28, in_channels: 1, output_dim: 10}
data:
  train:
    datasets:
      - dataset_name: idx
        dataset_path: data
        split: train
        dataset_kwargs: {transforms: [to_float, {name: random_crop, size: 28, padding: 2}, random_horizontal_flip]}
  validation:
    datasets: [{dataset_name: idx, dataset_path: data, split: test}]
training:
  output_dir: out
  max_steps: 20
  per_device_train_batch_size: 4
  learning_rate: 1.0e-3
  lr_scheduler_type: cosine
  warmup_steps: 4
  logging_steps: 3
  save_steps: 1
  enable_tensorboard: false
YAML
python3 - <<'PY'
import json, random
random.seed(1)
with open("sequences.jsonl", "w") as file:
    for _ in range(150):
        ids = [random.randrange(32) for _ in range(6)]
        file.write(json.dumps({"input_ids": ids, "labels": [(i * 3) % 10 for i in ids]}) + "\n")
PY
cat >sequences.yaml <<'YAML'
model:
  model_name: MlpEncoder
  load_pretrained_weights: false
  model_kwargs: {input_dim: 32, hidden_dim: 16, output_dim: 10}
data:
  train:
    stream: true
    datasets:
      - {dataset_name: jsonl, dataset_path: sequences.jsonl, shuffle: true, shuffle_buffer_size: 40, dataset_kwargs: {block_size: 1024}}
training:
  output_dir: out
  max_steps: 40
  per_device_train_batch_size: 8
  learning_rate: 1.0e-2
  logging_steps: 3
  save_steps: 1
  enable_tensorboard: false
YAML

same_state() {  # FOLDER FOLDER: every file that training goes on from
  local file
  for file in model.safetensors optimizer.safetensors rng_state.safetensors scheduler.json data_state.json; do expect_same "$1/$file" "$2/$file"; done
}

# resume_everywhere NAME CONFIG LAST "STEPS" OVERRIDES...: trains without a stop, then from each of STEPS, each in a new folder.
resume_everywhere() {
  local name=$1 config=$2 last=$3 steps=$4 step
  shift 4
  CASE=$name
  expect_exit 0 "$OUMI_CPP" train -c "$config" "training.output_dir=$name" "$@"
  [ "$CODE" -eq 0 ] || return 0
  for step in $steps; do
    CASE="$name from step $step"
    rm -rf resumed
    expect_exit 0 "$OUMI_CPP" train -c "$config" training.output_dir=resumed "training.resume_from_checkpoint=$name/checkpoint-$step" "$@"
    [ "$CODE" -eq 0 ] || continue
    expect_same "$name/model.safetensors" resumed/model.safetensors
    [ "$step" -eq "$last" ] || same_state "$name/checkpoint-$last" "resumed/checkpoint-$last"
  done
}

# From every step of two epochs in the full run.
if faults_full; then resume_everywhere every_step images.yaml 50 "$(seq -s ' ' 1 50)" training.max_steps=50; fi
# 25 batches an epoch, the last one full; 20 steps stay within the first.
resume_everywhere plain images.yaml 20 "1 13 20"
# Three micro-batches an update, 9 updates an epoch of which the last has one: 9 is an epoch's end, 11 lies inside the second.
accumulated="8 9 11"
if faults_full; then accumulated=$(seq -s ' ' 1 20); fi
resume_everywhere accumulated images.yaml 20 "$accumulated" training.gradient_accumulation_steps=3
# Threads that load ahead; a short last batch (100 = 14 * 7 + 2), 15 batches an epoch; averaged weights.
resume_everywhere workers images.yaml 24 "14 15 18" training.dataloader_num_workers=2 training.per_device_train_batch_size=7 \
  training.max_steps=24 training.ema_decay=0.9
# Evaluation between steps draws from no generator that training uses.
CASE="evaluation leaves training alone"
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=evaluated training.eval_strategy=steps training.eval_steps=2
expect_same plain/model.safetensors evaluated/model.safetensors
# 19 batches an epoch of the stream; 30 lies in the second.
resume_everywhere stream sequences.yaml 40 "5 19 30"
resume_everywhere stream_workers sequences.yaml 40 "7 21" training.dataloader_num_workers=2 training.gradient_accumulation_steps=2

CASE="another optimizer"
for optimizer in sgd adafactor lion; do
  resume_everywhere "$optimizer" sequences.yaml 12 7 training.max_steps=12 "training.optimizer=$optimizer" training.sgd_momentum=0.9 training.learning_rate=0.001
done

CASE="a finished run, extended"
# A schedule that does not depend on the run's length: the long run and the extended one must agree.
constant=(training.lr_scheduler_type=constant_with_warmup training.save_steps=10)
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=long training.max_steps=30 "${constant[@]}"
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=short training.max_steps=15 "${constant[@]}"
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=short training.max_steps=30 training.try_resume_from_last_checkpoint=true "${constant[@]}"
expect_same long/model.safetensors short/model.safetensors
expect_equal "$(metric short/metrics_rank0000.jsonl loss | tail -n 3)" "$(metric long/metrics_rank0000.jsonl loss | tail -n 3)" "losses after the extension"
# In epochs too, through an epoch's end.
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=epochs training.max_steps=-1 training.num_train_epochs=2 "${constant[@]}" training.save_strategy=epoch
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=epoch training.max_steps=-1 training.num_train_epochs=1 "${constant[@]}" training.save_strategy=epoch
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=epoch training.max_steps=-1 training.num_train_epochs=2 training.try_resume_from_last_checkpoint=true \
  "${constant[@]}" training.save_strategy=epoch
expect_same epochs/model.safetensors epoch/model.safetensors

CASE="nothing left to do"
cp long/model.safetensors kept.safetensors
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=long training.max_steps=30 training.try_resume_from_last_checkpoint=true "${constant[@]}"
expect_same long/model.safetensors kept.safetensors

CASE="try_resume without a checkpoint starts from the beginning"
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=fresh training.try_resume_from_last_checkpoint=true
expect_same plain/model.safetensors fresh/model.safetensors

# stop_and_resume NAME SIGNAL CODE CONFIG REFERENCE OVERRIDES...: the signal as soon as it has logged, then to the end.
stop_and_resume() {
  local name=$1 signal=$2 code=$3 config=$4 reference=$5 pid newest lines
  shift 5
  CASE="$name"
  rm -rf stopped
  LAST_COMMAND="SIG$signal to: train -c $config $*"
  # A shell's background jobs ignore SIGINT unless told otherwise.
  env --default-signal=INT "$OUMI_CPP" train -c "$config" training.output_dir=stopped "$@" >.stdout 2>.stderr &
  pid=$!
  wait_until test -s stopped/metrics_rank0000.jsonl || return 0
  kill "-$signal" "$pid"
  CODE=0
  wait "$pid" || CODE=$?
  pass; [ "$CODE" -eq "$code" ] || { fail "expected exit code $code, got $CODE"; return 0; }
  pass; ! grep -q '^error:' .stderr || fail "a stop on request is no error"
  expect_no_leftovers stopped
  newest=$(ls -d stopped/checkpoint-* 2>/dev/null | sort -V | tail -n 1)
  pass; [ -n "$newest" ] || { fail "no checkpoint was saved"; return 0; }
  expect_exit 0 "$OUMI_CPP" checkpoint verify "$newest"
  expect_absent stopped/model.safetensors
  expect_exit 0 "$OUMI_CPP" train -c "$config" training.output_dir=stopped training.try_resume_from_last_checkpoint=true "$@"
  expect_same "$reference/model.safetensors" stopped/model.safetensors
  metric stopped/metrics_rank0000.jsonl loss >stopped.txt
  metric "$reference/metrics_rank0000.jsonl" loss >reference.txt
  expect_same reference.txt stopped.txt  # no step twice, none missing
}
longer=(training.max_steps=120 training.save_steps=1000)
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=reference "${longer[@]}"
stop_and_resume "SIGTERM" TERM 143 images.yaml reference "${longer[@]}"
stop_and_resume "SIGINT" INT 130 images.yaml reference "${longer[@]}"
stop_and_resume "SIGTERM with workers" TERM 143 images.yaml reference "${longer[@]}" training.dataloader_num_workers=2
accumulating=(training.max_steps=60 training.save_steps=1000 training.gradient_accumulation_steps=3)
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=reference3 "${accumulating[@]}"
stop_and_resume "SIGTERM between micro-batches" TERM 143 images.yaml reference3 "${accumulating[@]}"
streaming=(training.max_steps=2000 training.save_steps=100000)
expect_exit 0 "$OUMI_CPP" train -c sequences.yaml training.output_dir=references "${streaming[@]}"
stop_and_resume "SIGTERM on a stream" TERM 143 sequences.yaml references "${streaming[@]}"

CASE="stopped before its first checkpoint"
once=(training.save_strategy=no training.eval_strategy=steps training.eval_on_start=true)
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=over "${once[@]}"
metric over/metrics_rank0000.jsonl step >once.txt
rm over/model.safetensors
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=over "${once[@]}" training.try_resume_from_last_checkpoint=true
metric over/metrics_rank0000.jsonl step >twice.txt
expect_same once.txt twice.txt  # what the first try logged is logged again, not twice
expect_same plain/model.safetensors over/model.safetensors

CASE="refusals"
expect_error 2 "nowhere" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=nowhere
expect_error 2 "fingerprint" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=plain/checkpoint-13 'data.train.datasets[0].split=train[:100]'
expect_error 2 "fc2" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=plain/checkpoint-13 model.model_kwargs.output_dim=11
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=weights training.save_only_model=true training.save_steps=20
expect_error 2 "optimizer" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=weights/checkpoint-20 training.max_steps=22

CASE="a damaged checkpoint is passed over and named"
rm -rf damaged && mkdir damaged && cp -r plain/checkpoint-18 plain/checkpoint-19 plain/checkpoint-20 damaged
flip_bit damaged/checkpoint-20/optimizer.safetensors -100
truncate -s -1 damaged/checkpoint-19/model.safetensors
expect_exit 0 "$OUMI_CPP" train -c images.yaml training.output_dir=damaged training.try_resume_from_last_checkpoint=true
expect_stderr "checkpoint-20"
expect_stderr "checkpoint-19"
expect_stderr "optimizer.safetensors"
expect_same plain/model.safetensors damaged/model.safetensors
same_state plain/checkpoint-20 damaged/checkpoint-20
expect_exit 0 "$OUMI_CPP" checkpoint verify damaged/checkpoint-20  # replaced by a whole one
expect_error 2 "damaged" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=damaged/checkpoint-19.broken
cp -r plain/checkpoint-18 broken-18 && flip_bit broken-18/model.safetensors -1
expect_error 2 "model.safetensors" "$OUMI_CPP" train -c images.yaml training.output_dir=refused training.resume_from_checkpoint=broken-18
expect_absent refused/model.safetensors

report_and_exit
