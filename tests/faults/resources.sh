#!/usr/bin/env bash
# Resources that run out: the disk under logs, metrics, TensorBoard and the cache; and what a long
# run takes: memory, descriptors and threads stay as they are.
source "$(dirname "$0")/../lib.sh"

small_fashion data 256 32
{
  simple_model_config
  cat <<'YAML'
training:
  output_dir: out
  max_steps: 12
  per_device_train_batch_size: 8
  learning_rate: 1.0e-3
  logging_steps: 1
  save_steps: 4
YAML
} >run.yaml
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=plain

CASE="logs, metrics and TensorBoard on a full disk: training goes on"
space=(unshare --mount)
[ "$(id -u)" -eq 0 ] || space=(unshare --mount --map-root-user)
cat >full.sh <<'BASH'
# SIZE FOLDER...: a small file system of that size over each folder, full but for what opening a file takes.
size=$1
shift
while [ "$1" != -- ]; do
  mkdir -p "$1" && mount -t tmpfs -o size=$size tmpfs "$1" || exit 77
  shift
done
shift
exec "$@"
BASH
run "${space[@]}" bash full.sh 4k out/logs board -- bash -c '
head -c 4096 /dev/zero >out/logs/ballast
head -c 4096 /dev/zero >board/ballast
mkdir -p out; ln -s /dev/full out/metrics_rank0000.jsonl
exec "$OUMI_CPP" train -c run.yaml training.output_dir=out training.logging_dir=board training.try_resume_from_last_checkpoint=true'
if [ "$CODE" -eq 77 ]; then
  skip "full disk: mounting is not permitted here"
else
  expect_equal "$CODE" 0 "exit code"
  expect_stderr "metrics_rank0000.jsonl"
  expect_stderr "No space left"
  refute_stderr "error:"
  expect_same plain/model.safetensors out/model.safetensors
  expect_exit 0 "$OUMI_CPP" checkpoint verify out/checkpoint-12
fi

CASE="the cache on a full disk"
small_chats chats.jsonl 400
mkdir llama
cat >llama/config.json <<'JSON'
{"model_type": "llama", "vocab_size": 1001, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
               "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
JSON
cat >text.yaml <<YAML
model:
  model_name: llama/config.json
  load_pretrained_weights: false
  tokenizer_name: $OUMI_SOURCE_DIR/tests/golden/textdata
  model_max_length: 64
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl, split: train}]
training:
  output_dir: text
  max_steps: 4
  per_device_train_batch_size: 2
  enable_tensorboard: false
YAML
export OUMI_CACHE="$WORK/cache"
CODE=77
if has_text; then
  expect_exit 0 "$OUMI_CPP" train -c text.yaml
  run "${space[@]}" bash full.sh 4k tiny -- bash -c 'OUMI_CACHE="$PWD/tiny/cache" "$OUMI_CPP" train -c text.yaml --overwrite; code=$?; find tiny -name "*.tmp*" >left.txt; exit $code'
fi
if [ "$CODE" -eq 77 ]; then
  skip "full disk: mounting is not permitted here, or there are no tokenizers"
else
  expect_equal "$CODE" 3 "exit code"
  expect_stderr "tiny/cache/tokens/"
  expect_stderr "No space left"
  expect_stderr "hint: free some space, or set OUMI_CACHE to another folder"
  expect_equal "$(cat left.txt)" "" "temporary files in the cache"
fi
unset OUMI_CACHE

CASE="a long run takes no more than a short one"
# usage: resident memory in KB, open descriptors and threads of the run, when it has logged step $1.
usage() {
  wait_until grep -q "\"step\": $1," long/metrics_rank0000.jsonl
  echo "$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status") $(ls "/proc/$pid/fd" | wc -l) $(awk '/^Threads/ {print $2}' "/proc/$pid/status")"
}
steps=1200 saves=20
if faults_full; then steps=10000 saves=10; fi
ASAN_OPTIONS=$ASAN_FREES_AT_ONCE "$OUMI_CPP" train -c run.yaml training.output_dir=long training.max_steps=$((steps * 10)) training.save_steps=$saves training.save_total_limit=2 \
  training.logging_steps=100 training.dataloader_num_workers=2 training.per_device_train_batch_size=4 >.stdout 2>.stderr &
pid=$!
read -r memory_before descriptors_before threads_before <<<"$(usage $((steps / 3)))"
read -r memory_after descriptors_after threads_after <<<"$(usage $steps)"
kill -KILL $pid
wait $pid 2>/dev/null || true
# A save is under way or not: a few descriptors more or less.
pass; [ $((descriptors_after - descriptors_before)) -le 4 ] || fail "descriptors: $descriptors_before, then $descriptors_after"
expect_equal "$threads_after" "$threads_before" threads
grown=$(((memory_after - memory_before) * 1000 / (steps * 2 / 3)))
pass; [ $grown -le $((steps >= 10000 ? 1024 : 4096)) ] || fail "memory grows by $grown KB in 1000 steps: $memory_before KB, then $memory_after KB"
echo "memory grows by $grown KB in 1000 steps"

report_and_exit
