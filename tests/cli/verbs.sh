#!/usr/bin/env bash
# evaluate, predict, report, env, completion, checkpoint and new, on a model that was just trained.
source "$(dirname "$0")/../lib.sh"

small_fashion data 512 200
simple_model_config >run.yaml
cat >>run.yaml <<'YAML'
training:
  output_dir: out
  max_steps: 16
  per_device_train_batch_size: 32
  per_device_eval_batch_size: 64
  learning_rate: 2.0e-3
  logging_steps: 4
  save_steps: 16
  eval_strategy: steps
  eval_steps: 16
YAML

CASE="before training"
expect_error 2 "model.model_name" "$OUMI_CPP" evaluate -c run.yaml
expect_error 2 "model.model_name" "$OUMI_CPP" predict -c run.yaml
expect_absent out

expect_exit 0 "$OUMI_CPP" train -c run.yaml

CASE=evaluate
expect_exit 0 "$OUMI_CPP" evaluate -c run.yaml --json
tail -n 1 .stdout >evaluation.json
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "evaluate --json differs from the run's own evaluation"
import json
result = json.load(open("evaluation.json"))
during = [json.loads(line) for line in open("out/metrics_rank0000.jsonl") if "eval_loss" in line][-1]
assert abs(result["eval_loss"] - during["eval_loss"]) <= 1e-6 * during["eval_loss"], (result, during)
assert result["eval_accuracy"] == during["eval_accuracy"], (result, during)
PY
expect_exit 0 "$OUMI_CPP" evaluate -c run.yaml
expect_stdout "eval_accuracy: "
# A checkpoint's folder as the model; batch size does not matter.
expect_exit 0 "$OUMI_CPP" evaluate -c run.yaml --json --model.model_name out/checkpoint-16 training.per_device_eval_batch_size=7
tail -n 1 .stdout >seven.json
pass
python3 - 2>.stderr <<'PY' || fail "the evaluation depends on the batch size"
import json
a, b = json.load(open("evaluation.json")), json.load(open("seven.json"))
assert abs(a["eval_loss"] - b["eval_loss"]) < 1e-5 * a["eval_loss"] and a["eval_accuracy"] == b["eval_accuracy"], (a, b)
PY
expect_exit 0 "$OUMI_CPP" config show -c run.yaml  # evaluate changes no file of the run
expect_no_leftovers out

CASE=predict
expect_exit 0 "$OUMI_CPP" predict -c run.yaml
expect_file out/predictions.jsonl
expect_exit 0 "$OUMI_CPP" predict -c run.yaml -o somewhere/else.jsonl
expect_same out/predictions.jsonl somewhere/else.jsonl
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "predictions.jsonl is wrong"
import json, math
rows = [json.loads(line) for line in open("out/predictions.jsonl")]
labels = open("data/t10k-labels-idx1-ubyte", "rb").read()[8:]
assert [row["id"] for row in rows] == list(range(200)), "ids"
assert [row["label"] for row in rows] == list(labels), "labels"
for row in rows:
    assert len(row["logits"]) == 10 and row["prediction"] == max(range(10), key=lambda i: row["logits"][i]), row
    total = sum(math.exp(x - max(row["logits"])) for x in row["logits"])
    assert abs(row["probability"] - 1 / total) < 1e-5, row
accuracy = sum(row["prediction"] == row["label"] for row in rows) / len(rows)
assert accuracy == json.load(open("evaluation.json"))["eval_accuracy"], accuracy
PY
expect_exit 0 "$OUMI_CPP" predict -c run.yaml -o predictions.parquet
pass; [ "$(head -c 4 predictions.parquet)$(tail -c 4 predictions.parquet)" = PAR1PAR1 ] || fail "predictions.parquet is no Parquet file"
# Our own reader takes it: 200 rows.
cat >columns.yaml <<'YAML'
model: {model_name: MlpEncoder, load_pretrained_weights: false, model_kwargs: {input_dim: 10, hidden_dim: 4, output_dim: 10}}
data:
  train:
    datasets:
      - dataset_name: parquet
        dataset_path: predictions.parquet
        dataset_kwargs: {stack: {input_ids: [label], labels: [prediction]}, columns: [label, prediction]}
training: {output_dir: never, max_steps: 1}
YAML
expect_exit 0 "$OUMI_CPP" config check -c columns.yaml
expect_stdout "200 samples"
expect_error 2 "predictions.txt" "$OUMI_CPP" predict -c run.yaml -o predictions.txt
expect_absent predictions.txt
expect_no_leftovers .

CASE=report
expect_exit 0 "$OUMI_CPP" report out
expect_file out/report.html
pass; grep -qi '</html>' out/report.html || fail "report.html is cut"
pass; ! grep -Eqi '(src|href)="?https?://' out/report.html || fail "report.html loads from the network"
for text in SimpleModel eval_accuracy learning_rate; do pass; grep -q "$text" out/report.html || fail "report.html does not show $text"; done
expect_exit 0 "$OUMI_CPP" report out -o elsewhere.html
expect_file elsewhere.html
expect_error 2 "nowhere" "$OUMI_CPP" report nowhere
expect_absent nowhere
mkdir empty
expect_error 2 "empty" "$OUMI_CPP" report empty
expect_absent empty/report.html

CASE=env
expect_exit 0 "$OUMI_CPP" env
expect_stdout "LibTorch"
expect_exit 0 "$OUMI_CPP" env --json
pass; python3 -c 'import json,sys; d=json.load(open(".stdout")); assert d["cpu"] and d["memory"]["total_bytes"] > 0 and d["libraries"]["LibTorch"]' 2>.stderr || fail "env --json"
expect_error 2 "" "$OUMI_CPP" env --bogus

CASE=completion
for shell in bash zsh fish; do
  expect_exit 0 "$OUMI_CPP" completion "$shell"
  expect_stdout "training.max_steps"
done
"$OUMI_CPP" completion bash >completion.bash
expect_exit 0 bash -n completion.bash
expect_error 2 "tcsh" "$OUMI_CPP" completion tcsh
# Typed in a shell: oumi-cpp tra<TAB>.
cat >typed.sh <<'BASH'
source completion.bash
COMP_WORDS=(oumi-cpp tra) COMP_CWORD=1 COMP_LINE="oumi-cpp tra" COMP_POINT=12
function_name=$(complete -p oumi-cpp | sed 's/.*-F \([^ ]*\).*/\1/')
"$function_name" oumi-cpp tra oumi-cpp
printf '%s\n' "${COMPREPLY[@]}"
BASH
expect_exit 0 bash typed.sh
expect_stdout "train"

CASE=checkpoint
expect_exit 0 "$OUMI_CPP" checkpoint verify out/checkpoint-16
cp -r out/checkpoint-16 damaged
flip_bit damaged/optimizer.safetensors -3
expect_exit 2 "$OUMI_CPP" checkpoint verify damaged
pass; cat .stdout .stderr | grep -q optimizer.safetensors || fail "expected the damaged file to be named"
cp -r out/checkpoint-16 missing
rm missing/scheduler.json
expect_exit 2 "$OUMI_CPP" checkpoint verify missing
pass; cat .stdout .stderr | grep -q scheduler.json || fail "expected the missing file to be named"
cp -r out/checkpoint-16 cut
truncate -s -1 cut/model.safetensors
expect_exit 2 "$OUMI_CPP" checkpoint verify cut
expect_error 2 "nowhere" "$OUMI_CPP" checkpoint verify nowhere

CASE="model folders"
mkdir final && cp out/model.safetensors out/config.json final/
expect_exit 0 "$OUMI_CPP" checkpoint verify final
expect_stdout "(by its own hashes)"
expect_exit 0 "$OUMI_CPP" checkpoint verify out --json  # the final model and the checkpoints
expect_stdout '"folder":"out"'
expect_stdout '"step":16'
flip_bit final/model.safetensors -3
expect_exit 2 "$OUMI_CPP" checkpoint verify final
expect_stdout "BAD  model.safetensors: tensor 'fc1.weight' is damaged: expected hash"
expect_error 2 "tensor 'fc1.weight' is damaged" "$OUMI_CPP" evaluate -c run.yaml model.model_name=final
# A file of the cache is named by its hash.
snapshot=hub/models--a--b/snapshots/0000000000000000000000000000000000000000
mkdir -p $snapshot hub/models--a--b/blobs
for file in config.json model.safetensors; do
  blob=$(sha256sum "out/$file" | cut -d ' ' -f 1)
  cp "out/$file" "hub/models--a--b/blobs/$blob"
  ln -s "../../blobs/$blob" "$snapshot/$file"
done
expect_exit 0 "$OUMI_CPP" checkpoint verify $snapshot
expect_stdout "(by the cache's SHA-256)"
flip_bit "hub/models--a--b/blobs/$(sha256sum out/config.json | cut -d ' ' -f 1)" 5
expect_exit 2 "$OUMI_CPP" checkpoint verify $snapshot
expect_stdout "BAD  config.json: expected hash"
expect_stdout "OK   model.safetensors"
expect_error 2 "" "$OUMI_CPP" checkpoint verify

CASE=new
expect_exit 0 "$OUMI_CPP" new MyNet
expect_file MyNet/CMakeLists.txt MyNet/config.yaml MyNet/main.cpp MyNet/plugin.cpp MyNet/my_net.h
pass; ! grep -rqi 'custom_\?model' MyNet || fail "the template's name is left: $(grep -rli 'custom_\?model' MyNet)"
expect_error 2 "MyNet" "$OUMI_CPP" new MyNet
expect_error 2 "new" "$OUMI_CPP" new 1net
expect_error 2 "new" "$OUMI_CPP" new ../evil
expect_error 2 "new" "$OUMI_CPP" new ''
expect_absent ../evil
expect_exit 0 "$OUMI_CPP" config show -c MyNet/config.yaml

report_and_exit
