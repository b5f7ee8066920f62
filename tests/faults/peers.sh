#!/usr/bin/env bash
# What ranks do to each other: one that stops for a while, dies, is slow, has other weights, other data or a NaN, does not come, comes
# twice; a second run in the folder; a full disk under one rank's part; another number of ranks after a stop.
source "$(dirname "$0")/../lib.sh"

small_fashion data 96 32
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
  ddp_timeout: 10
  enable_tensorboard: false
YAML
} >run.yaml
endless=(--training.max_steps 1000000)
train() { "$OUMI_CPP" launch --nproc-per-node "$1" train -c run.yaml --training.output_dir "${@:2}"; }
# start NAME RANKS OVERRIDES...: in the background, until it has logged a step; sets LAUNCHER.
start() {
  local name=$1 ranks=$2
  shift 2
  rm -rf "$name"
  LAST_COMMAND="launch $ranks ranks: $*"
  "$OUMI_CPP" launch --nproc-per-node "$ranks" train -c run.yaml --training.output_dir "$name" "$@" >.stdout 2>.stderr &
  LAUNCHER=$!
  wait_until grep -q '"step": 3,' "$name/metrics_rank0000.jsonl"
}
# ends CODE
ends() {
  CODE=0
  wait "$LAUNCHER" || CODE=$?
  expect_equal "$CODE" "$1" "exit code"
}
# one_rank RANK PORT NAME OVERRIDES...: as a cluster's starter does, without launch; in the background, output in NAME.RANK.
one_rank() {
  local rank=$1 port=$2 name=$3
  shift 3
  RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$OUMI_CPP" train -c run.yaml --training.output_dir "$name" "$@" >"$name.$rank" 2>&1 &
}
# two_ranks NAME OVERRIDES...: both, until they have logged a step; sets port, first and second.
two_ranks() {
  port=$(free_port)
  one_rank 0 "$port" "$@"
  first=$!
  one_rank 1 "$port" "$@"
  second=$!
  wait_until grep -q '"step": 3,' "$1/metrics_rank0000.jsonl"
}

CASE="a pause shorter than the timeout changes nothing"
expect_exit 0 train 2 plain --training.max_steps 300
start paused 2 --training.max_steps 300
victim=$(rank_of $LAUNCHER 1)
kill -STOP "$victim"
sleep 2
kill -CONT "$victim"
ends 0
expect_same plain/model.safetensors paused/model.safetensors

CASE="a rank dies: the other says so, without a launcher"
two_ranks dead "${endless[@]}"
kill -KILL $second
began=$SECONDS
wait $second 2>/dev/null || true
kill -TERM $first  # a stop is asked for, but the peer is dead: no save
code=0
wait $first || code=$?
expect_equal "$code" 3 "exit code"
pass; [ $((SECONDS - began)) -le 12 ] || fail "it took $((SECONDS - began)) s"
pass; grep -Eq 'error: \[rank 0\] .+ failed after step [0-9]+: expected all 2 ranks, got no sign of life from rank 1' dead.0 || fail "$(cat dead.0)"
expect_equal "$(good_checkpoints dead)" "" "checkpoints"
expect_no_leftovers dead

CASE="a straggler is named"
# Rank 1 alone enlarges each image and shrinks it again, several times.
resizes=$(for _ in 1 2 3 4; do echo "{name: resize, size: [640, 640]}, {name: resize, size: [28, 28]},"; done)
slow=("${endless[@]}" --training.per_device_train_batch_size 16 --training.dataloader_num_workers 0)
port=$(free_port)
one_rank 0 "$port" slow "${slow[@]}"
first=$!
one_rank 1 "$port" slow "${slow[@]}" "--data.train.datasets=[{dataset_name: idx, dataset_path: data, split: train, dataset_kwargs: {transforms: [$resizes]}}]"
second=$!
wait_until grep -Eq 'warning: rank 1 holds the others up: it takes [0-9.]+ s of its own for an update' slow.0 || cat slow.0 slow.1
pass; [ "$(grep -c '"step"' slow/metrics_rank0000.jsonl)" -le 20 ] || fail "$(grep -c '"step"' slow/metrics_rank0000.jsonl) updates went by"
pass; ! grep -q 'rank 0 holds' slow.0 || fail "another rank is blamed"
kill -TERM $first
for process in $first $second; do
  code=0
  wait $process || code=$?
  expect_equal "$code" 143 "exit code"
done

CASE="a bit flips in one rank's memory"
start flipped 3 "${endless[@]}" --training.learning_rate 0 --training.weight_decay 0 --training.save_strategy steps --training.save_steps 200
wait_until test -d flipped/checkpoint-200
# With a learning rate of 0 the weights stay what the checkpoint holds: they are found in the memory of the rank by their bytes.
if python3 - "$(rank_of $LAUNCHER 1)" flipped/checkpoint-200/model.safetensors <<'PY'; then
import json, struct, sys
pid = sys.argv[1]
data = open(sys.argv[2], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
begin = json.loads(data[8:8 + size])["fc1.weight"]["data_offsets"][0] + 8 + size
wanted = data[begin:begin + 64]
hits = 0
try:
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in open(f"/proc/{pid}/maps"):
            span, rights, _, _, inode = line.split()[:5]
            if not rights.startswith("rw") or inode != "0": continue
            low, high = (int(x, 16) for x in span.split("-"))
            memory.seek(low)
            try: block = memory.read(high - low)
            except OSError: continue
            at = block.find(wanted)
            while at >= 0:
                memory.seek(low + at)
                memory.write(bytes([wanted[0] ^ 1]))
                hits += 1
                at = block.find(wanted, at + 1)
except PermissionError:
    sys.exit(1)
sys.exit(0 if hits else 2)
PY
  ends 3
  pass; grep -Eq 'error: \[rank 1\] after step [0-9]+: expected the same weights on all ranks, got other values of 1 parameters \(fc1.weight\)' .stderr || fail "the rank is not named"
  expect_no_leftovers flipped
  expect_equal "$(ls -d flipped/checkpoint-* | wc -l)" "$(good_checkpoints flipped | wc -l)" "whole checkpoints"
else
  skip "a bit in memory: writing to another process is not permitted here"
  kill -TERM $LAUNCHER
  ends 143
fi

CASE="a NaN in one rank's samples"
python3 - <<'PY'
import os, struct
os.makedirs("nan", exist_ok=True)
with open("data/train-images-idx3-ubyte", "rb") as file: pixels = file.read()[16:]
values = [p / 255 for p in pixels]
values[50 * 784 + 5] = float("nan")
with open("nan/train-images-idx3-ubyte", "wb") as file:
    file.write(struct.pack(">BBBBIII", 0, 0, 0x0D, 3, len(values) // 784, 28, 28) + struct.pack(f">{len(values)}f", *values))
for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
    with open(f"data/{name}", "rb") as source, open(f"nan/{name}", "wb") as file: file.write(source.read())
PY
nan=('--data.train.datasets=[{dataset_name: idx, dataset_path: nan, split: train, dataset_kwargs: {scale: false}}]' --training.max_steps 12
  '--data.train.dataloader_kwargs={shuffle: false}')
# In order, batches of 4 in turn: sample 50 is in batch 12, the seventh of rank 0.
expect_exit 2 train 2 stop "${nan[@]}"
expect_stderr "step 7: expected a finite loss and gradient norm, got loss nan"
expect_stderr "in the batch of samples 48, 49, 50, 51 of rank 0"
expect_absent stop/model.safetensors
expect_exit 0 train 2 skip "${nan[@]}" --training.nan_policy SKIP
expect_stderr "the update is left out"
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "weights after a skipped update"
import math, struct
data = open("skip/model.safetensors", "rb").read()
size = struct.unpack("<Q", data[:8])[0]
assert all(math.isfinite(x) for x in struct.unpack(f"<{(len(data) - 8 - size) // 4}f", data[8 + size:]))
PY

CASE="a bad label in one rank's samples"
cp -r data labels
printf '\x0b' | dd of=labels/train-labels-idx1-ubyte bs=1 seek=$((8 + 54)) conv=notrunc status=none
for workers in 0 2; do
  expect_exit 2 train 2 bad '--data.train.datasets=[{dataset_name: idx, dataset_path: labels, split: train}]' '--data.train.dataloader_kwargs={shuffle: false}' --training.dataloader_num_workers $workers
  expect_stderr "sample 54: expected a label of 0 to 9"
  expect_stderr "error: [launch] rank 1 "
  rm -rf bad
done

CASE="two runs in one folder"
start busy 2 "${endless[@]}"
expect_exit 2 train 2 busy --overwrite
grep -q "busy" .stderr || fail "the folder is not named"
pass; kill -0 $LAUNCHER || fail "the first run died"
kill -TERM $LAUNCHER
ends 143

CASE="ranks with different settings"
port=$(free_port)
one_rank 0 "$port" plan --training.eval_strategy steps --training.eval_steps 5
first=$!
one_rank 1 "$port" plan --training.eval_strategy steps --training.eval_steps 7
code=0
wait $! || code=$?
expect_equal "$code" 2 "exit code"
pass; grep -q "error: \[the run's plan\] expected the same on all ranks: rank 0 has eval_steps 5, rank 1 has eval_steps 7" plan.1 || fail "$(cat plan.1)"
code=0
wait $first || code=$?
expect_equal "$code" 2 "exit code"

CASE="ranks with different models"
for kind in ddp fsdp; do
  port=$(free_port)
  layout=()
  [ $kind = ddp ] || layout=(--fsdp.enable_fsdp=true)
  one_rank 0 "$port" models_$kind "${layout[@]}"
  first=$!
  one_rank 1 "$port" models_$kind "${layout[@]}" --model.model_kwargs='{num_classes: 12}'
  code=0
  wait $! || code=$?
  expect_equal "$code" 2 "exit code"
  pass; grep -q "error: \[the model's parameters\] expected the same on all ranks: rank 0 has fc1.weight Float \[10, 320\], rank 1 has fc1.weight Float \[12, 320\]" models_$kind.1 || fail "$(cat models_$kind.1)"
  code=0
  wait $first || code=$?
  expect_equal "$code" 2 "exit code"
done

CASE="rendezvous"
port=$(free_port)
export OUMI_JOIN_TIMEOUT=2
one_rank 0 "$port" alone
code=0
wait $! || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q "expected 2 ranks at 127.0.0.1:$port within 2 s, got no rank 1" alone.0 || fail "$(cat alone.0)"
one_rank 1 "$port" nobody
code=0
wait $! || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q "error: \[rank 1\] cannot reach rank 0 at 127.0.0.1:$port" nobody.1 || fail "$(cat nobody.1)"
python3 - "$port" <<'PY' &
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", int(sys.argv[1]))); s.listen(); open("taken", "w").close(); time.sleep(60)
PY
holder=$!
wait_until test -e taken
one_rank 0 "$port" taken_port
code=0
wait $! || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q "cannot listen at 127.0.0.1:$port" taken_port.0 || fail "$(cat taken_port.0)"
kill $holder
wait $holder 2>/dev/null || true
apart=(unshare --net)
[ "$(id -u)" -eq 0 ] || apart=(unshare --net --map-root-user)
if "${apart[@]}" true 2>/dev/null; then
  code=0
  RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
    "${apart[@]}" "$OUMI_CPP" train -c run.yaml --training.output_dir no_network >no_network.1 2>&1 || code=$?
  expect_equal "$code" 3 "exit code"
  pass; grep -q "hint: no network interface leads there" no_network.1 || fail "$(cat no_network.1)"
  expect_equal "$(wc -l <no_network.1)" 2 "lines: the error and its hint"
else
  echo "skipped here (unshare --net does not work): a network without interfaces" >&2
fi
export OUMI_JOIN_TIMEOUT=20
two_ranks double "${endless[@]}"
one_rank 1 "$port" third "${endless[@]}"
code=0
wait $! || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q "two processes have this rank" third.1 || fail "$(cat third.1)"
pass; kill -0 $first $second || fail "the run was disturbed"
kill -TERM $first
for process in $first $second; do
  code=0
  wait $process || code=$?
  expect_equal "$code" 143 "exit code"
done
export OUMI_JOIN_TIMEOUT=2
code=0
RANK=1 WORLD_SIZE=2 MASTER_ADDR=no-such-host.invalid MASTER_PORT=$port timeout 60 "$OUMI_CPP" train -c run.yaml --training.output_dir dns >dns.1 2>&1 || code=$?
expect_equal "$code" 3 "exit code"
pass; grep -q "no-such-host.invalid" dns.1 || fail "$(cat dns.1)"
unset OUMI_JOIN_TIMEOUT

CASE="the disk is full under a rank's part"
sharded=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=500 --fsdp.state_dict_type=SHARDED_STATE_DICT)
space=(unshare --mount)
[ "$(id -u)" -eq 0 ] || space=(unshare --mount --map-root-user)
cat >full.sh <<'BASH'
mkdir -p full && mount -t tmpfs -o size=700k tmpfs full || exit 77
code=0
"$@" || code=$?
find full -name '*.tmp*' >left.txt
"$OUMI_CPP" checkpoint verify full/out >verified.txt 2>&1 || echo "not whole" >>verified.txt
exit "$code"
BASH
run "${space[@]}" bash full.sh "$OUMI_CPP" launch --nproc-per-node 2 train -c run.yaml --training.output_dir full/out "${sharded[@]}" --training.save_strategy steps --training.save_steps 2
if [ "$CODE" -eq 77 ]; then
  skip "full disk: mounting is not permitted here"
else
  expect_equal "$CODE" 3 "exit code"
  expect_stderr "No space left"
  expect_equal "$(cat left.txt)" "" "temporary files on the full disk"
  pass; ! grep -q "BAD\|not whole" verified.txt || fail "$(cat verified.txt)"
fi

CASE="another number of ranks after a stop: the same samples, the same losses"
expect_exit 0 train 2 moved --training.max_steps 9 --training.save_strategy steps --training.save_steps 9 --training.lr_scheduler_type constant
expect_exit 0 train 2 two --training.max_steps 24 --training.lr_scheduler_type constant
expect_exit 0 "$OUMI_CPP" train -c run.yaml --training.output_dir moved --training.max_steps 24 --training.per_device_train_batch_size 8 \
  --training.lr_scheduler_type constant --training.try_resume_from_last_checkpoint true
pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 24 two moved; [ "$CODE" -eq 0 ] || fail "the runs differ"

report_and_exit
