#!/usr/bin/env bash
# Input and surroundings that are wrong: the right exit code, one clear error line that names what to change, nothing
# half-written.
source "$(dirname "$0")/../lib.sh"

small_fashion data 128 64
golden="$OUMI_SOURCE_DIR/tests/golden/data"
cat >run.yaml <<'YAML'
model:
  model_name: SimpleModel
  load_pretrained_weights: false
data:
  train:
    datasets: [{dataset_name: idx, dataset_path: data, split: train}]
training:
  output_dir: out
  max_steps: 4
  per_device_train_batch_size: 16
  save_steps: 2
YAML
cat >columns.yaml <<'YAML'
model:
  model_name: MlpEncoder
  load_pretrained_weights: false
  model_kwargs: {input_dim: 32, hidden_dim: 8, output_dim: 10}
data:
  train:
    datasets: [{dataset_name: jsonl, dataset_path: rows.jsonl}]
training:
  output_dir: out
  max_steps: 20
  per_device_train_batch_size: 4
YAML

# refused CODE TEXT CONFIG OVERRIDES...: train ends so, and leaves no weights and nothing temporary.
refused() {
  local code=$1 text=$2 config=$3
  shift 3
  rm -rf out
  expect_error "$code" "$text" "$OUMI_CPP" train -c "$config" "$@"
  expect_absent out/model.safetensors
  if [ -d out ]; then expect_no_leftovers out; fi
}
train_set='data.train.datasets[0]'

CASE="names and keys"
refused 2 "nowhere.yaml" nowhere.yaml
refused 2 "SimpleModle" run.yaml model.model_name=SimpleModle
expect_stderr "SimpleModel"
refused 2 "fashion_mnits" run.yaml "$train_set.dataset_name=fashion_mnits"
expect_stderr "fashion_mnist"
refused 2 "num_clases" run.yaml model.model_kwargs.num_clases=10
expect_stderr "num_classes"
refused 2 "class_name" run.yaml "$train_set.dataset_kwargs.class_name=[a]"
expect_stderr "class_names"
refused 2 "model.model_kwargs.num_classes" run.yaml model.model_kwargs.num_classes=ten
refused 2 "num_classes" run.yaml model.model_kwargs.num_classes=0
refused 2 "num_classes" run.yaml model.model_kwargs.num_classes=-1
refused 2 "num_worker" run.yaml data.train.dataloader_kwargs.num_worker=2
expect_stderr "num_workers"
refused 2 "optimizer" run.yaml training.optimizer=adamv
refused 2 "lr_scheduler_type" run.yaml training.lr_scheduler_type=cosin
expect_stderr "cosine"
refused 2 "lr_scheduler_kwargs" run.yaml training.lr_scheduler_type=cosine training.lr_scheduler_kwargs.num_cycle=2
refused 2 "pretrained" run.yaml model.load_pretrained_weights=true
refused 2 "eval_strategy" run.yaml training.eval_strategy=steps
refused 2 "per_device_train_batch_size" run.yaml training.per_device_train_batch_size=0
refused 2 "learning_rate" run.yaml training.learning_rate=-1
refused 2 "learning_rate" run.yaml training.learning_rate=nan
refused 2 "resume_from_checkpoint" run.yaml training.resume_from_checkpoint=nowhere

CASE="data that is not there"
refused 2 "nowhere" run.yaml "$train_set.dataset_path=nowhere"
expect_stderr "dataset_path"
mkdir -p nothing
refused 2 "nothing/train-" run.yaml "$train_set.dataset_path=nothing"
expect_stderr "no such file"
refused 2 "split" run.yaml "$train_set.split=tran"
expect_stderr "train"
refused 2 "split" run.yaml "$train_set.split='train[200:300]'"
refused 2 "no samples" run.yaml "$train_set.split='train[5:5]'"
refused 2 "split" run.yaml "$train_set.split='train[:'"
refused 2 "datasets" run.yaml data.train.datasets=[]

CASE="shapes"
cat >cnn.yaml <<'YAML'
model: {model_name: CnnClassifier, load_pretrained_weights: false, model_kwargs: {image_width: 32, image_height: 32, in_channels: 1}}
YAML
refused 2 "fc1" run.yaml -c cnn.yaml
expect_stderr "expected"
expect_stderr "samples"
refused 2 "conv1" run.yaml -c cnn.yaml model.model_kwargs.in_channels=3
refused 2 "image_width" run.yaml model.model_name=CnnClassifier
refused 2 "too small" run.yaml -c cnn.yaml model.model_kwargs.image_width=8
# One channel more, from the data's side.
refused 2 "conv1" run.yaml "$train_set.dataset_kwargs.transforms=[{name: resize, size: [14, 14]}]" model.model_name=CnnClassifier 'model.model_kwargs={image_width: 28, image_height: 28}'

CASE="labels out of range"
cp -r data labels
printf '\x0b' | dd of=labels/train-labels-idx1-ubyte bs=1 seek=$((8 + 37)) conv=notrunc status=none
refused 2 "sample 37: expected a label of 0 to 9, or -100 to leave it out, got 11" run.yaml "$train_set.dataset_path=labels" \
  training.num_train_epochs=1 training.max_steps=-1
refused 2 "expected a label of 0 to 2, or -100 to leave it out, got" run.yaml model.model_kwargs.num_classes=3

CASE="damaged IDX"
damage() { rm -rf damaged; cp -r data damaged; }
damage; truncate -s -100 damaged/train-images-idx3-ubyte
refused 2 "train-images-idx3-ubyte" run.yaml "$train_set.dataset_path=damaged"
expect_stderr "truncated"
damage; truncate -s 0 damaged/train-images-idx3-ubyte
refused 2 "train-images-idx3-ubyte" run.yaml "$train_set.dataset_path=damaged"
damage; truncate -s 10 damaged/train-images-idx3-ubyte
refused 2 "truncated" run.yaml "$train_set.dataset_path=damaged"
damage; truncate -s -1 damaged/train-labels-idx1-ubyte
refused 2 "train-labels-idx1-ubyte" run.yaml "$train_set.dataset_path=damaged"
damage; printf 'x' >>damaged/train-labels-idx1-ubyte
refused 2 "train-labels-idx1-ubyte" run.yaml "$train_set.dataset_path=damaged"
damage; printf '\x00\x00\x08\x01\x00\x00\x00\x03\x01\x02\x03' >damaged/train-labels-idx1-ubyte  # 3 labels, 128 images
refused 2 "128" run.yaml "$train_set.dataset_path=damaged"
damage; printf '\x00\x00\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' >damaged/train-images-idx3-ubyte
refused 2 "train-images-idx3-ubyte" run.yaml "$train_set.dataset_path=damaged"
damage; printf '\x00\x00\x08\x03\x00\x00\x00\x00\x00\x00\x00\x1c\x00\x00\x00\x1c' >damaged/train-images-idx3-ubyte
refused 2 "train-images-idx3-ubyte" run.yaml "$train_set.dataset_path=damaged"
damage; echo "<html>not found</html>" >damaged/train-images-idx3-ubyte
refused 2 "not an IDX file" run.yaml "$train_set.dataset_path=damaged"
damage; gzip damaged/train-images-idx3-ubyte; truncate -s -50 damaged/train-images-idx3-ubyte.gz
refused 2 "truncated" run.yaml "$train_set.dataset_path=damaged"

CASE="damaged tables and archives"
for kind in parquet:table.parquet jsonl:table.jsonl arrow:table.arrow npz_file:mixed.npz; do
  name=${kind%%:*} file=${kind##*:} extension=${kind##*.}
  CASE="truncated $file"
  for keep in 0 7 60%; do
    bytes=${keep%\%}
    [ "$keep" = "$bytes" ] || bytes=$(($(stat -c %s "$golden/$file") * bytes / 100))
    head -c "$bytes" "$golden/$file" >"cut.$extension"
    # Whole lines of a cut JSONL file are good rows; the point here is that nothing but exit code 2 comes of it.
    refused 2 "" columns.yaml "$train_set.dataset_name=$name" "$train_set.dataset_path=cut.$extension"
  done
  # The same bytes each time; the line's end among the first of them must not break the message's line.
  for seed in 1 2 3; do
    python3 -c "
import random, sys
sys.stdout.buffer.write(b'P\\n\\r\\xff\\x1b[2J' + random.Random($seed).randbytes(300))" >"noise.$extension"
    refused 2 "noise.$extension" columns.yaml "$train_set.dataset_name=$name" "$train_set.dataset_path=noise.$extension"
  done
done

CASE="rows"
rows() { python3 -c "
import json
rows = [{'input_ids': [i % 32, (i * 7) % 32], 'labels': [i % 10, (i + 1) % 10]} for i in range(40)]
$1
open('rows.jsonl', 'w').write(''.join((row if isinstance(row, str) else json.dumps(row)) + '\n' for row in rows))"; }
rows "rows[17]['input_ids'] = [3, 32]"
refused 2 "32" columns.yaml training.num_train_epochs=1 training.max_steps=-1
expect_stderr "17"
rows "rows[17]['labels'] = [3, 10]"
refused 2 "10" columns.yaml training.num_train_epochs=1 training.max_steps=-1
expect_stderr "17"
rows "rows[17]['input_ids'] = 'text'"
refused 2 "rows.jsonl" columns.yaml
rows "del rows[17]['labels']"
refused 2 "labels" columns.yaml
rows "rows[17] = '{\"input_ids\": [1, 2'"
refused 2 "rows.jsonl" columns.yaml
rows "rows = []"
refused 2 "rows.jsonl" columns.yaml
rows "rows = [{'ids': [1], 'labels': [1]}] * 4"
refused 2 "input_ids" columns.yaml
rows "rows = [{'input_ids': [1, 2]}] * 40"
refused 2 "loss" columns.yaml
# The same from worker threads and from a stream: they surface just as clearly.
rows "rows[17]['labels'] = [3, 10]"
refused 2 "10" columns.yaml training.num_train_epochs=1 training.max_steps=-1 training.dataloader_num_workers=2
refused 2 "10" columns.yaml data.train.stream=true
rows "rows[37] = '{\"input_ids\": [1, 2'"
refused 2 "rows.jsonl" columns.yaml data.train.stream=true "$train_set.dataset_kwargs.block_size=256"

CASE="not a number"
python3 - <<'PY'
import struct
with open("data/train-images-idx3-ubyte", "rb") as file:
    pixels = file.read()[16:16 + 128 * 784]
values = [p / 255 for p in pixels]
values[50 * 784 + 5] = float("nan")
import os
os.makedirs("nan", exist_ok=True)
with open("nan/train-images-idx3-ubyte", "wb") as file:
    file.write(struct.pack(">BBBBIII", 0, 0, 0x0D, 3, 128, 28, 28) + struct.pack(f">{len(values)}f", *values))
with open("data/train-labels-idx1-ubyte", "rb") as source, open("nan/train-labels-idx1-ubyte", "wb") as file:
    file.write(source.read())
PY
nan=("$train_set.dataset_path=nan" "$train_set.dataset_kwargs.scale=false" training.max_steps=-1 training.num_train_epochs=1 training.logging_steps=1)
refused 2 "finite" run.yaml "${nan[@]}"
expect_stderr "nan_policy"
pass; grep '^error: ' .stderr | grep -Eq 'samples? .*\b50\b' || fail "sample 50 is not named"
rm -rf out
expect_exit 0 "$OUMI_CPP" train -c run.yaml "${nan[@]}" training.nan_policy=SKIP
expect_stderr "50"
expect_file out/model.safetensors
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "weights or metrics after a skipped update"
import json, math, struct
data = open("out/model.safetensors", "rb").read()
size = struct.unpack("<Q", data[:8])[0]
assert all(math.isfinite(x) for x in struct.unpack(f"<{(len(data) - 8 - size) // 4}f", data[8 + size:]))
lines = [json.loads(line) for line in open("out/metrics_rank0000.jsonl")]  # every line is JSON, whatever the loss was
losses = [line["loss"] for line in lines if "loss" in line]
assert len(losses) == 8, losses
assert sum(not isinstance(loss, (int, float)) or not math.isfinite(loss) for loss in losses) == 1, losses
PY
expect_exit 0 "$OUMI_CPP" checkpoint verify out/checkpoint-8
refused 2 "finite" run.yaml training.learning_rate=1e30 training.max_steps=50 training.max_grad_norm=0

CASE="damaged weights"
rm -rf out && expect_exit 0 "$OUMI_CPP" train -c run.yaml
cp -r out saved
evaluation=(model.model_name=bad 'data.validation.datasets=[{dataset_name: idx, dataset_path: data, split: test}]')
expect_exit 0 "$OUMI_CPP" evaluate -c run.yaml model.model_name=saved "${evaluation[1]}"
bad() { rm -rf bad; mkdir bad; cp saved/model.safetensors saved/config.json bad; }
rejected() { expect_error 2 "$1" "$OUMI_CPP" evaluate -c run.yaml "${evaluation[@]}"; }
bad; truncate -s -4 bad/model.safetensors; rejected "model.safetensors"
bad; truncate -s 0 bad/model.safetensors; rejected "model.safetensors"
bad; truncate -s 5 bad/model.safetensors; rejected "model.safetensors"
bad; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=bad/model.safetensors conv=notrunc status=none; rejected "model.safetensors"
bad; printf 'garbage!' | dd of=bad/model.safetensors seek=8 bs=1 conv=notrunc status=none; rejected "model.safetensors"
bad; rm bad/model.safetensors; rejected "bad"
bad; rm bad/config.json; rejected "bad"
bad; echo '{' >bad/config.json; rejected "config.json"
bad; echo '{"model_type": "NoSuchModel", "init_kwargs": {}}' >bad/config.json; rejected "NoSuchModel"
bad; sed -i 's/"init_kwargs": *{[^}]*}/"init_kwargs": {"num_classes": 7}/' bad/config.json; rejected "fc1"

CASE="damaged checkpoint files under a resume"
for file in trainer_state.json scheduler.json optimizer.safetensors rng_state.safetensors model.safetensors data_state.json manifest.json; do
  CASE="no $file"
  rm -rf holed && cp -r saved/checkpoint-2 holed && rm "holed/$file"
  [ "$file" != manifest.json ] || truncate -s -2 holed/trainer_state.json
  refused 2 "holed" run.yaml training.resume_from_checkpoint=holed
done

CASE="read-only folder"
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null && setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$OUMI_CPP" -a -r "$OUMI_SOURCE_DIR/CMakeLists.txt" 2>/dev/null; then
  chmod 755 "$WORK"
  mkdir -p locked && chmod 555 locked
  expect_error 3 "locked" setpriv --reuid 65534 --regid 65534 --clear-groups "$OUMI_CPP" train -c run.yaml training.output_dir=locked
  expect_error 3 "locked" setpriv --reuid 65534 --regid 65534 --clear-groups "$OUMI_CPP" train -c run.yaml training.output_dir=locked/deeper
  expect_equal "$(ls -A locked)" "" "files in the locked folder"
  chmod 000 data/train-images-idx3-ubyte
  mkdir -p open && chmod 777 open
  expect_error 2 "train-images-idx3-ubyte" setpriv --reuid 65534 --regid 65534 --clear-groups "$OUMI_CPP" train -c run.yaml training.output_dir=open/run
  chmod 644 data/train-images-idx3-ubyte
elif [ "$(id -u)" -ne 0 ]; then
  mkdir -p locked && chmod 555 locked
  expect_error 3 "locked" "$OUMI_CPP" train -c run.yaml training.output_dir=locked
  expect_equal "$(ls -A locked)" "" "files in the locked folder"
  chmod 755 locked
else
  skip "read-only folder: root writes everywhere and no other user can run the binary here"
fi

CASE="full disk"
# Room for some checkpoints (each some 200 KB) and not for all.
cat >full.sh <<'BASH'
set -e
mkdir -p full
mount -t tmpfs -o size=600k tmpfs full
exec "$@"
BASH
full=(unshare --mount)
[ "$(id -u)" -eq 0 ] || full=(unshare --mount --map-root-user)
if "${full[@]}" bash full.sh true 2>/dev/null; then
  cat >after.sh <<'BASH'
# Looks at the disk after the run, inside the name space that has it.
mkdir -p full
mount -t tmpfs -o size=600k tmpfs full
code=0
"$@" || code=$?
find full -name '*.tmp*' >left.txt
for folder in full/out/checkpoint-*; do
  case $folder in *.tmp*) continue ;; esac
  "$OUMI_CPP" checkpoint verify "$folder" >/dev/null 2>&1 && echo good || echo "bad $folder"
done >verified.txt
exit "$code"
BASH
  expect_error 3 "full/out" "${full[@]}" bash after.sh "$OUMI_CPP" train -c run.yaml training.output_dir=full/out training.max_steps=60 training.save_steps=1
  expect_stderr "No space left"
  expect_equal "$(cat left.txt)" "" "temporary files on the full disk"
  pass; grep -q good verified.txt && ! grep -q bad verified.txt || fail "checkpoints on the full disk: $(sort verified.txt | uniq -c)"
    expect_error 3 "full" "${full[@]}" bash -c 'mkdir -p full && mount -t tmpfs -o size=16k tmpfs full && exec "$@"' _ "$OUMI_CPP" train -c run.yaml training.output_dir=full/out
  expect_error 3 "full" "${full[@]}" bash -c 'mkdir -p full && mount -t tmpfs -o size=4k tmpfs full && exec "$@"' _ "$OUMI_CPP" predict -c run.yaml model.model_name=saved "${evaluation[1]}" -o full/predictions.jsonl
  expect_error 3 "full" "${full[@]}" bash -c 'mkdir -p full && mount -t tmpfs -o size=4k tmpfs full && exec "$@"' _ "$OUMI_CPP" predict -c run.yaml model.model_name=saved "${evaluation[1]}" -o full/predictions.parquet
else
  skip "full disk: mounting is not permitted here"
fi

CASE="output that nobody takes"
if [ -w /dev/full ]; then
  # A closed or full terminal must not end in a crash.
  pass; CODE=0; "$OUMI_CPP" config show -c run.yaml >/dev/full 2>.stderr || CODE=$?
  case $CODE in 0 | 3) ;; *) fail "config show > /dev/full: expected 0 or 3, got $CODE" ;; esac
  rm -rf out
  pass; CODE=0; "$OUMI_CPP" train -c run.yaml >/dev/full 2>/dev/full || CODE=$?
  [ "$CODE" -eq 0 ] || fail "train > /dev/full: expected 0, got $CODE"
  expect_file out/model.safetensors
fi

report_and_exit
