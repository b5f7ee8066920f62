#!/usr/bin/env bash
# infer and evaluate on a tiny language model: files in and out, a piped chat, multiple choice, the Hub, bad input.
source "$(dirname "$0")/../lib.sh"
needs_text

unset HF_TOKEN HF_HUB_OFFLINE HF_HUB_CACHE HF_ENDPOINT http_proxy HTTP_PROXY
export HF_HOME="$WORK/hf"
golden="$OUMI_SOURCE_DIR/tests/golden/generation"
mkdir model
cp "$golden"/qwen2/* "$golden"/tokenizer/* model/

cat >in.jsonl <<'JSONL'
{"prompt": "the cat sat", "id": 7}

{"messages": [{"role": "user", "content": "what is it?"}], "metadata": {"kept": true}}
{"conversation": {"messages": [{"role": "system", "content": "one"}, {"role": "user", "content": "two"}]}}
{"prompt": "naïve"}
JSONL

CASE=files
expect_exit 0 "$OUMI_CPP" infer --model model --input in.jsonl --output out/one.jsonl --max-new-tokens 6
expect_stdout "answered 4 rows"
expect_exit 0 "$OUMI_CPP" infer --model model --input in.jsonl --output out/four.jsonl --max-new-tokens 6 --batch-size 4
expect_same out/one.jsonl out/four.jsonl
expect_no_leftovers out
pass
python3 - >.stdout 2>.stderr <<'PY' || fail "the answers are wrong"
import json
rows = [json.loads(line) for line in open("out/one.jsonl")]
assert len(rows) == 4
assert rows[0]["id"] == 7 and rows[0]["response"], rows[0]
assert rows[1]["metadata"] == {"kept": True} and [m["role"] for m in rows[1]["messages"]] == ["user", "assistant"], rows[1]
assert [m["role"] for m in rows[2]["conversation"]["messages"]] == ["system", "user", "assistant"], rows[2]
assert rows[3]["prompt"] == "naïve"
PY
expect_exit 0 "$OUMI_CPP" infer --model model --input in.jsonl --output out/sampled.jsonl --max-new-tokens 12 --temperature 1.5 --seed 3
expect_exit 0 "$OUMI_CPP" infer --model model --input in.jsonl --output out/again.jsonl --max-new-tokens 12 --temperature 1.5 --seed 3 --batch-size 3
expect_same out/sampled.jsonl out/again.jsonl
expect_different out/sampled.jsonl out/one.jsonl
# Oumi's inference config; a stop text that occurs ends the answer before it.
cat >infer.yaml <<'YAML'
model: {model_name: model}
generation: {max_new_tokens: 6, batch_size: 2}
engine: NATIVE
input_path: in.jsonl
output_path: out/config.jsonl
YAML
expect_exit 0 "$OUMI_CPP" infer -c infer.yaml
expect_same out/config.jsonl out/one.jsonl
first=$(python3 -c 'import json; print(json.loads(open("out/one.jsonl").readline())["response"][2:4])')
expect_exit 0 "$OUMI_CPP" infer -c infer.yaml --output out/stop.jsonl --stop "$first"
pass; python3 - "$first" 2>.stderr <<'PY' || fail "the stop text did not end the answer"
import json, sys
whole, cut = (json.loads(open(f"out/{name}.jsonl").readline())["response"] for name in ("one", "stop"))
assert cut == whole[: whole.index(sys.argv[1])], (whole, cut)
PY

CASE=chat
printf 'the cat\n\n/clear\none two\n/exit\nnot read\n' >turns
LAST_COMMAND=chat; CODE=0
"$OUMI_CPP" infer --model model --max-new-tokens 4 <turns >.stdout 2>.stderr || CODE=$?
expect_equal "$CODE" 0 "exit code"
expect_equal "$(wc -l <.stdout)" 2 "answers"

CASE=evaluate
cat >questions.jsonl <<'JSONL'
{"query": "the cat sat on", "choices": ["the mat", "a red car", "it"], "gold": "the mat"}
{"context": "the dog", "choices": ["is", "ran to the mat on the red mat"], "gold": 1}
JSONL
cat >eval.yaml <<'YAML'
model: {model_name: model}
data: {train: {datasets: [{dataset_name: text_sft, dataset_path: in.jsonl}]}}
training: {output_dir: nothing}
YAML
expect_exit 0 "$OUMI_CPP" evaluate -c eval.yaml --multiple-choice questions.jsonl --json
pass; tail -n 1 .stdout | python3 -c 'import json, sys; r = json.load(sys.stdin); assert r["acc"] == 0.0 and r["acc_norm"] == 1.0 and r["questions"] == 2, r' 2>.stderr || fail "wrong figures"

CASE="tokenised rows"
# Neither training nor evaluating them asks for a tokenizer; text does, before and after a model is saved.
mkdir bare && cp "$golden"/qwen2/* bare/
for i in 1 2 3 4; do echo "{\"input_ids\": [1, $i, 2, 3, $i]}"; done >rows.jsonl
cat >rows.yaml <<'YAML'
model: {model_name: bare}
data:
  train: {datasets: [{dataset_name: pretokenized, dataset_path: rows.jsonl}]}
  validation: {datasets: [{dataset_name: pretokenized, dataset_path: rows.jsonl}]}
training: {output_dir: rows, max_steps: 2, per_device_train_batch_size: 2, save_strategy: "no", eval_strategy: "no"}
YAML
expect_exit 0 "$OUMI_CPP" evaluate -c rows.yaml --json
before=$(tail -n 1 .stdout | grep -o '"eval_loss":[0-9.]*')
expect_exit 0 "$OUMI_CPP" train -c rows.yaml
expect_exit 0 "$OUMI_CPP" evaluate -c rows.yaml --json
expect_different <(echo "$before") <(tail -n 1 .stdout | grep -o '"eval_loss":[0-9.]*')
expect_exit 0 "$OUMI_CPP" train -c rows.yaml training.output_dir=adapter training.use_peft=true
expect_exit 0 "$OUMI_CPP" evaluate -c rows.yaml training.output_dir=adapter --json
expect_error 2 "no tokenizer" "$OUMI_CPP" evaluate -c rows.yaml --multiple-choice questions.jsonl
expect_error 2 "needs a tokenizer" "$OUMI_CPP" evaluate -c rows.yaml data.validation.datasets='[{dataset_name: text_sft, dataset_path: in.jsonl}]'

CASE="bad input"
bad() {  # bad ROW TEXT
  printf '%s\n%s\n' '{"prompt": "the"}' "$1" >bad.jsonl
  expect_error 2 "$2" "$OUMI_CPP" infer --model model --input bad.jsonl --output out/bad.jsonl
  expect_stderr "bad.jsonl:2"
  expect_absent out/bad.jsonl
}
bad '{"prompt": ' "bad.jsonl:2"
bad '{"messages": []}' "an empty one"
bad '{"messages": [{"role": "usr", "content": "x"}]}' "unknown role 'usr'"
bad '{"messages": [{"role": "user"}]}' "expected content of type str, got null"
bad '{"question": "x"}' "expected 'messages', 'conversation' or 'prompt'"
python3 -c 'import json; print(json.dumps({"prompt": "the cat " * 60}))' >long.jsonl
expect_error 2 "context overflow" "$OUMI_CPP" infer --model model --input long.jsonl --output out/bad.jsonl
expect_absent out/bad.jsonl
expect_error 2 "input_path" "$OUMI_CPP" infer --model model --output out/x.jsonl
expect_error 2 "is required and missing" "$OUMI_CPP" infer
expect_error 2 "there is no folder" "$OUMI_CPP" infer --model ./missing
expect_error 2 "[generation.top_p]" "$OUMI_CPP" infer --model model --top-p 2
expect_error 2 "questions.jsonl" "$OUMI_CPP" evaluate -c eval.yaml --multiple-choice missing/questions.jsonl
HF_ENDPOINT=http://127.0.0.1:9 expect_error 3 "cannot be downloaded" "$OUMI_CPP" infer --model org/model

CASE=hub
mkdir -p hub/org && cp -r model hub/org/model
python3 "$OUMI_SOURCE_DIR/tests/hub/server.py" hub >ports &
server=$!
wait_until test -s ports
export HF_ENDPOINT="http://127.0.0.1:$(cut -d' ' -f1 ports)"
expect_exit 0 "$OUMI_CPP" infer --model org/model --input in.jsonl --output out/hub.jsonl --max-new-tokens 6
expect_same out/hub.jsonl out/one.jsonl
expect_file hf/hub/models--org--model/refs/main
expect_error 2 "neither a local folder nor a model" "$OUMI_CPP" infer --model org/nobody
expect_error 2 "model.model_revision" "$OUMI_CPP" infer --model org/model --model.model_revision nothing
kill "$server"
HF_HUB_OFFLINE=1 expect_exit 0 "$OUMI_CPP" infer --model org/model --input in.jsonl --output out/offline.jsonl --max-new-tokens 6
expect_same out/offline.jsonl out/one.jsonl

report_and_exit
