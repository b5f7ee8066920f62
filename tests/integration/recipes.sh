#!/usr/bin/env bash
# Whole runs over every kind of data and model, and the settings that cross folders: formats, mixtures, streams, metrics,
# freezing, parameter groups, class weights, mixed precision, early stopping.
source "$(dirname "$0")/../lib.sh"

small_fashion data 256 96
golden="$OUMI_SOURCE_DIR/tests/golden/data"
python3 - <<'PY'
import csv, io, json, random, struct, zipfile
random.seed(3)

def npy(dtype, shape, payload):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload

# A class is readable from the sample, so that accuracies mean something.
samples = [(c, [random.gauss(0, 0.3) + (2 if int(p // 28 / 2.8) == c else 0) for p in range(28 * 28)]) for c in (random.randrange(10) for _ in range(160))]
with zipfile.ZipFile("samples.npz", "w") as archive:
    archive.writestr("images.npy", npy("<f4", (160, 1, 28, 28), b"".join(struct.pack("<784f", *pixels) for _, pixels in samples)))
    archive.writestr("labels.npy", npy("<i8", (160,), struct.pack("<160q", *(c for c, _ in samples))))
with open("rows.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["a", "b", "c", "kind"])
    for _ in range(160):
        ids = [random.randrange(10) for _ in range(3)]
        writer.writerow(ids + [ids[0]])
for name, count in (("one", 100), ("two", 60)):
    with open(f"{name}.jsonl", "w") as file:
        for _ in range(count):
            ids = [random.randrange(10) for _ in range(4)]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
PY
cat >common.yaml <<'YAML'
model: {load_pretrained_weights: false}
training:
  output_dir: out
  max_steps: 60
  per_device_train_batch_size: 16
  learning_rate: 5.0e-3
  logging_steps: 10
  save_strategy: 'no'
  enable_tensorboard: false
YAML
# trains NAME OVERRIDES...: a run that ends well and whose loss falls by a third.
trains() {
  CASE=$1
  shift
  rm -rf out
  expect_exit 0 "$OUMI_CPP" train -c common.yaml "$@"
  [ "$CODE" -eq 0 ] || return 0
  expect_file out/model.safetensors
  pass
  python3 - 2>>.stderr <<'PY' || fail "the loss does not fall by a third"
import json
losses = [record["loss"] for record in map(json.loads, open("out/metrics_rank0000.jsonl")) if "loss" in record]
assert losses[-1] < losses[0] * 2 / 3, losses
PY
}
set='data.train.datasets'
mlp=(model.model_name=MlpEncoder 'model.model_kwargs={input_dim: 10, hidden_dim: 16, output_dim: 10}')

trains npz model.model_name=SimpleModel "$set=[{dataset_name: npz_file, dataset_path: samples.npz}]"
trains idx model.model_name=SimpleModel "$set=[{dataset_name: idx, dataset_path: data}]"
trains csv "${mlp[@]}" "$set=[{dataset_name: csv, dataset_path: rows.csv, dataset_kwargs: {stack: {input_ids: [a]}, columns: [a, kind], label_column: kind}}]"
trains jsonl "${mlp[@]}" "$set=[{dataset_name: jsonl, dataset_path: one.jsonl}]"
trains pretokenized "${mlp[@]}" "$set=[{dataset_name: pretokenized, dataset_path: two.jsonl}]"
trains mixture "${mlp[@]}" "$set=[{dataset_name: jsonl, dataset_path: one.jsonl, mixture_proportion: 0.7, sample_count: 50}, {dataset_name: jsonl, dataset_path: two.jsonl, mixture_proportion: 0.3, shuffle: true}]" \
  data.train.mixture_strategy=all_exhausted
trains concatenation "${mlp[@]}" "$set=[{dataset_name: jsonl, dataset_path: one.jsonl}, {dataset_name: jsonl, dataset_path: two.jsonl}]"
trains streamed_mixture "${mlp[@]}" data.train.stream=true "$set=[{dataset_name: jsonl, dataset_path: one.jsonl, mixture_proportion: 0.5}, {dataset_name: jsonl, dataset_path: two.jsonl, mixture_proportion: 0.5}]"
trains bf16 model.model_name=SimpleModel "$set=[{dataset_name: npz_file, dataset_path: samples.npz}]" training.mixed_precision_dtype=bf16 model.torch_dtype_str=float32
pass
python3 -c '
import json, struct
data = open("out/model.safetensors", "rb").read()
header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
assert all(entry["dtype"] == "F32" for name, entry in header.items() if name != "__metadata__"), header' 2>.stderr || fail "weights of a mixed-precision run: expected float32"
trains group_by_length "${mlp[@]}" "$set=[{dataset_name: jsonl, dataset_path: one.jsonl}]" training.train_sampling_strategy=group_by_length
trains class_weights model.model_name=SimpleModel "$set=[{dataset_name: npz_file, dataset_path: samples.npz}]" 'training.class_weights=[1, 1, 1, 1, 1, 1, 1, 1, 1, 2]'

CASE="frozen layers"
trains frozen model.model_name=SimpleModel "$set=[{dataset_name: npz_file, dataset_path: samples.npz}]" 'model.freeze_layers=[conv1]' training.save_strategy=steps training.save_steps=30
pass
python3 - 2>.stderr <<'PY' || fail "frozen weights changed, or others did not"
import json, struct
def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    return {name: data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]]
            for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}
early, late = read("out/checkpoint-30/model.safetensors"), read("out/model.safetensors")
same = {name for name in late if early[name] == late[name]}
assert same == {"conv1.weight", "conv1.bias"}, same
PY

CASE="early stopping"
rm -rf out
expect_exit 0 "$OUMI_CPP" train -c common.yaml model.model_name=SimpleModel "$set=[{dataset_name: npz_file, dataset_path: samples.npz}]" \
  'data.validation.datasets=[{dataset_name: npz_file, dataset_path: samples.npz}]' training.max_steps=5000 training.eval_strategy=steps training.eval_steps=10 \
  training.early_stopping_patience=2 training.metric_for_best_model=accuracy
pass; [ "$(metric out/metrics_rank0000.jsonl step | tail -n 1)" -lt 1000 ] || fail "did not stop early"
pass; metric out/metrics_rank0000.jsonl eval_accuracy | awk '$1 > best { best = $1 } END { exit best < 0.95 }' || fail "expected an accuracy of 0.95 on separable data"

CASE="several configs"
printf 'training: {max_steps: 2}\n' >two.yaml
printf 'model: {model_name: SimpleModel}\ndata: {train: {datasets: [{dataset_name: npz_file, dataset_path: samples.npz}]}}\n' >model.yaml
rm -rf out
expect_exit 0 "$OUMI_CPP" train -c common.yaml -c model.yaml -c two.yaml training.logging_steps=1
expect_equal "$(metric out/metrics_rank0000.jsonl loss | wc -l)" 2 "steps"

CASE=examples
listing="$OUMI_BUILD_DIR/examples/01_training_loop"
if [ -x "$listing" ]; then
  expect_exit 0 "$listing" "$OUMI_SOURCE_DIR/configs/simple_model_fashion_mnist.yaml" training.max_steps=300
  pass
  awk '/^step 300 loss/ { found = 1; if ($4 >= 0.9) exit 1 } END { exit !found }' .stdout || fail "expected a loss below 0.9 at step 300"
  expect_error 2 "nowhere.yaml" "$listing" nowhere.yaml
  expect_exit 0 "$OUMI_BUILD_DIR/examples/03_hf_trainer" 60
  expect_stdout "eval_accuracy: "
  expect_file results/model.safetensors
  pass; compgen -G 'logs/events.out.tfevents.*' >/dev/null || fail "logging_dir has no event file"
else
  skip "examples are not built"
fi

report_and_exit
