#!/usr/bin/env bash
# What `oumi-cpp train` leaves behind, when it refuses to start, and that a run can be repeated byte for byte.
source "$(dirname "$0")/../lib.sh"

small_fashion data 512 200
simple_model_config >run.yaml
cat >>run.yaml <<'YAML'
training:
  output_dir: out
  max_steps: 12
  per_device_train_batch_size: 32
  per_device_eval_batch_size: 64
  learning_rate: 1.0e-3
  logging_steps: 3
  save_steps: 6
  eval_strategy: steps
  eval_steps: 6
  warmup_steps: 2
YAML

CASE="files of a run"
expect_exit 0 "$OUMI_CPP" train -c run.yaml
for step in 6 12; do
  for file in model.safetensors config.json optimizer.safetensors optimizer.json scheduler.json rng_state.safetensors trainer_state.json manifest.json; do
    expect_file "out/checkpoint-$step/$file"
  done
  expect_exit 0 "$OUMI_CPP" checkpoint verify "out/checkpoint-$step"
done
expect_file out/model.safetensors out/config.json out/trainer_state.json out/metrics_rank0000.jsonl out/logs/rank_0000.log
expect_file out/telemetry/training_config.yaml out/telemetry/environment.json
pass; compgen -G 'out/tensorboard/events.out.tfevents.*' >/dev/null || fail "no event file: $(ls -R out/tensorboard 2>&1)"
expect_no_leftovers out
expect_equal "$(ls -d out/checkpoint-* | wc -l)" 2 "number of checkpoints"
# The final model is the last step's.
expect_same out/model.safetensors out/checkpoint-12/model.safetensors

CASE="contents"
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "a file's contents are wrong"
import json, math, struct

def same(got, expected, what):
    assert got == expected, f"{what}: expected {expected!r}, got {got!r}"

lines = [json.loads(line) for line in open("out/metrics_rank0000.jsonl")]
training = [line for line in lines if "loss" in line]
same([line["step"] for line in training], [3, 6, 9, 12], "steps of training lines")
for line in training:
    for key in ("epoch", "loss", "grad_norm", "learning_rate", "samples_per_second"):
        assert isinstance(line[key], (int, float)) and math.isfinite(line[key]), f"{key} in {line}"
    assert 0 < line["loss"] < 4 and line["grad_norm"] > 0 and line["samples_per_second"] > 0, line
    assert abs(line["epoch"] - line["step"] / 16) < 1e-9, line
# The rate that the step used: linear warm-up over 2 steps, then linear to 0 at step 12. Step s uses the schedule at s - 1.
for line in training:
    expected = 1e-3 * (12 - (line["step"] - 1)) / 10
    assert math.isclose(line["learning_rate"], expected, rel_tol=1e-12), f"learning rate of step {line['step']}: expected {expected}, got {line['learning_rate']}"
# JSONL numbers are unrounded.
assert any(len(repr(line["loss"])) > 10 for line in training), "losses look rounded"
evaluations = [line for line in lines if "eval_loss" in line]
same([line["step"] for line in evaluations], [6, 12], "steps of evaluation lines")
for line in evaluations:
    assert 0 <= line["eval_accuracy"] <= 1, line
    assert (line["eval_accuracy"] * 200) % 1 < 1e-6 or (line["eval_accuracy"] * 200) % 1 > 1 - 1e-6, f"accuracy of 200 samples: {line}"

def safetensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size])

header = safetensors("out/model.safetensors")
shapes = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
same(shapes, {"conv1.weight": ("F32", [20, 1, 5, 5]), "conv1.bias": ("F32", [20]), "conv2.weight": ("F32", [20, 20, 5, 5]),
              "conv2.bias": ("F32", [20]), "fc1.weight": ("F32", [10, 320]), "fc1.bias": ("F32", [10])}, "state dict")
config = json.load(open("out/config.json"))
same(config["model_type"].lower().replace("_", ""), "simplemodel", "model_type")
assert "init_kwargs" in config and "oumi_version" in config, config
state = json.load(open("out/trainer_state.json"))
same((state["global_step"], state["max_steps"], state["num_train_epochs"]), (12, 12, 1), "counters of trainer_state.json")
same(len([entry for entry in state["log_history"] if "loss" in entry]), 4, "training entries of log_history")
for folder in ("out/checkpoint-6", "out/checkpoint-12"):
    same(json.load(open(f"{folder}/trainer_state.json"))["global_step"], int(folder.split("-")[1]), f"step of {folder}")
json.load(open("out/telemetry/environment.json"))
PY
pass; ! grep -q "$WORK" out/model.safetensors || fail "model.safetensors holds a path"
# What ran is written down whole: showing it is a fixed point.
expect_exit 0 "$OUMI_CPP" config show -c out/telemetry/training_config.yaml
expect_same .stdout out/telemetry/training_config.yaml

CASE="repeat"
expect_exit 0 "$OUMI_CPP" train -c out/telemetry/training_config.yaml --training.output_dir again
expect_same out/model.safetensors again/model.safetensors
expect_same out/checkpoint-6/optimizer.safetensors again/checkpoint-6/optimizer.safetensors
metric out/metrics_rank0000.jsonl loss >first.txt
metric again/metrics_rank0000.jsonl loss >second.txt
expect_same first.txt second.txt
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=other training.seed=7
expect_different out/model.safetensors other/model.safetensors
# Workers change nothing.
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=workers training.dataloader_num_workers=2
expect_same out/model.safetensors workers/model.safetensors
rm -rf other workers

CASE="non-empty folder"
cp out/model.safetensors kept.safetensors
expect_error 2 "training.output_dir" "$OUMI_CPP" train -c run.yaml
expect_stderr "--overwrite"
expect_same out/model.safetensors kept.safetensors
mkdir foreign && echo "my notes" >foreign/notes.txt
expect_error 2 "notes.txt" "$OUMI_CPP" train -c run.yaml training.output_dir=foreign
expect_absent foreign/model.safetensors foreign/logs
mkdir out/mine && echo "my notes" >out/mine/notes.txt && echo "other notes" >out/notes.txt && echo x >out/checkpoint-notes.txt && mkdir out/checkpoint-best && echo y >out/checkpoint-best/weights
expect_exit 0 "$OUMI_CPP" train -c run.yaml --overwrite training.max_steps=6
expect_equal "$(cat out/mine/notes.txt out/notes.txt)" "$(printf 'my notes\nother notes')" "foreign files after --overwrite"
expect_file out/checkpoint-notes.txt out/checkpoint-best/weights
expect_absent out/checkpoint-12
expect_equal "$(metric out/metrics_rank0000.jsonl loss | wc -l)" 2 "training lines after --overwrite"
# A plain file where the folder should be.
echo text >file
expect_error 3 "file" "$OUMI_CPP" train -c run.yaml training.output_dir=file
expect_equal "$(cat file)" text "the file in the way"

CASE="two runs in one folder"
rm -rf busy
"$OUMI_CPP" train -c run.yaml training.output_dir=busy training.max_steps=100000 training.save_steps=100000 training.eval_steps=100000 >first.log 2>&1 &
first=$!
wait_until test -s busy/metrics_rank0000.jsonl || cat first.log >&2
expect_error 2 "busy" "$OUMI_CPP" train -c run.yaml training.output_dir=busy
expect_stderr "$first"  # who holds it
expect_error 2 "busy" "$OUMI_CPP" train -c run.yaml training.output_dir=busy --overwrite
expect_error 2 "busy" "$OUMI_CPP" train -c run.yaml training.output_dir=busy training.try_resume_from_last_checkpoint=true
pass; kill -0 "$first" 2>/dev/null || fail "the first run died: $(cat first.log)"
lines=$(wc -l <busy/metrics_rank0000.jsonl)
sleep 0.3
pass; [ "$(wc -l <busy/metrics_rank0000.jsonl)" -gt "$lines" ] || fail "the first run no longer writes"
kill -KILL "$first"; wait "$first" 2>/dev/null || true
# A lock of a killed process is gone with it.
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=busy --overwrite

CASE="save limits, best model"
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=limit training.save_steps=2 training.eval_steps=2 training.save_total_limit=2
expect_equal "$(ls -d limit/checkpoint-* | sort -V | tr '\n' ' ')" "limit/checkpoint-10 limit/checkpoint-12 " "checkpoints kept"
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=best training.save_steps=2 training.eval_steps=2 training.save_total_limit=1 \
  training.load_best_model_at_end=true training.metric_for_best_model=loss training.learning_rate=0.05 training.lr_scheduler_type=constant
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "the best model is not the one that was loaded"
import json, os
state = json.load(open("best/trainer_state.json"))
losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
best = min(losses, key=losses.get)
assert state["best_metric"] == losses[best], (state["best_metric"], losses)
assert state["best_model_checkpoint"].endswith(f"checkpoint-{best}"), (state["best_model_checkpoint"], losses)
assert open("best/model.safetensors", "rb").read() == open(f"best/checkpoint-{best}/model.safetensors", "rb").read()
PY
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=none "training.save_strategy='no'" training.enable_tensorboard=false
expect_absent none/tensorboard
pass; ! compgen -G 'none/checkpoint-*' >/dev/null || fail "save_strategy no left checkpoints"
expect_file none/model.safetensors

# YAML reads a bare no as false; for the strategies it can only mean the word.
expect_exit 0 "$OUMI_CPP" train -c run.yaml training.output_dir=bare training.save_strategy=no training.eval_strategy=no

CASE="not a terminal"
# The progress bar draws nothing over and over where nobody looks.
pass; ! grep -q $'\r' .stderr || fail "carriage returns in output that is no terminal"
pass; ! grep -q $'\x1b' .stdout .stderr || fail "escape sequences in output that is no terminal"
pass; [ "$(wc -l <.stderr)" -lt 100 ] || fail "$(wc -l <.stderr) lines on stderr"


CASE="profiles of operators"
profiled() { rm -rf out; expect_exit 0 "$OUMI_CPP" train -c run.yaml training.profiler.enable_cpu_profiling=true "$@"; }
profiled training.profiler.schedule.enable_schedule=true training.profiler.schedule.active=2 training.profiler.schedule.repeat=2 \
  training.profiler.record_shapes=true training.profiler.profile_memory=true training.profiler.with_flops=true
for cycle in "" _cycle2; do
  for key in cpu_time_total self_cpu_time_total cpu_memory_usage self_cpu_memory_usage; do
    expect_file "out/profiler/prof_000_local_00${cycle}_$key.txt" "out/profiler/prof_000_local_00${cycle}_${key}_by_shape.txt"
  done
done
expect_no_leftovers out
expect_stderr "profiled steps 3 to 4"
refute_stderr "ERROR"
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "the profile is wrong"
import gzip, json, re

trace = json.load(gzip.open("out/profiler/prof_000_local_00_pt_trace.json.gz"))
names = [event.get("name") for event in trace["traceEvents"]]
for name in ("ProfilerStep#3", "ProfilerStep#4", "aten::linear"):
    assert name in names, f"{name} is not in the trace"
assert "ProfilerStep#5" not in names and "ProfilerStep#2" not in names
lines = open("out/profiler/prof_000_local_00_self_cpu_time_total.txt").read().splitlines()
head = [part.strip() for part in re.split("  +", lines[1])]
assert head[:5] == ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total"] and "Total MFLOPs" in head, head
steps = [line for line in lines if line.startswith("ProfilerStep#")]
assert len(steps) == 2 and all(line.split()[-2] == "1" for line in steps), steps
shares = [float(line.split()[1].rstrip("%")) for line in lines[3:] if re.match(r"\S+ +[\d.]+%", line)]
assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.5 and len(shares) > 10, shares
PY
profiled training.profiler.save_dir=elsewhere training.profiler.row_limit=3 training.max_steps=2
expect_file elsewhere/prof_000_local_00_pt_trace.json.gz elsewhere/prof_000_local_00_cpu_time_total.txt
expect_stderr "profiled steps 1 to 2"
pass; grep -q "more rows are left out" elsewhere/prof_000_local_00_cpu_time_total.txt || fail "expected 3 rows"
rm -rf elsewhere; mkdir -p elsewhere/prof_000_local_00_cpu_time_total.txt
profiled training.profiler.save_dir=elsewhere training.max_steps=2
expect_stderr "the profile of steps 1 to 2 cannot be written"
expect_file out/model.safetensors
rm -rf out; expect_exit 0 "$OUMI_CPP" train -c run.yaml training.profiler.enable_cuda_profiling=true training.max_steps=2
expect_stderr "there is no CUDA device to profile"
expect_absent out/profiler

report_and_exit
