#!/usr/bin/env bash
# oumi-cpp tokenize over the real binary: formats, masks, packing, the cache, and what bad data says.
source "$(dirname "$0")/../lib.sh"
needs_text

export OUMI_CACHE="$WORK/cache"
tokenizer="$OUMI_SOURCE_DIR/tests/golden/textdata"
cat >chats.jsonl <<'JSONL'
{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "naïve 😀"}]}
{"messages": [{"role": "user", "content": "日本語?"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}
{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "d"}, {"role": "assistant", "content": "e"}]}
JSONL
cat >run.yaml <<YAML
model: {model_name: MlpEncoder, load_pretrained_weights: false, tokenizer_name: $tokenizer, model_max_length: 64}
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl}]
training: {output_dir: out}
YAML

# check PYTHON: statements over `rows`, the objects of the last command's stdout; a failing assert fails the test.
check() {
  pass
  cp .stdout rows.jsonl
  python3 - "$1" <<'PY' >.python 2>&1 || { cat .python >&2; fail "assertion: $1"; }
import json, sys
rows = [json.loads(line) for line in open("rows.jsonl")]
learned = lambda row: [i for i, label in zip(row["input_ids"], row["labels"]) if label != -100]
exec(sys.argv[1])
PY
}

CASE=whole
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json
check 'assert len(rows) == 3 and all(set(r) == {"input_ids", "attention_mask", "labels", "text"} for r in rows)'
check 'assert rows[0]["text"] == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nnaïve 😀<|im_end|>\n"'
check 'assert all(r["labels"] == r["input_ids"] and r["attention_mask"] == [1] * len(r["input_ids"]) for r in rows)'
expect_stderr "3 samples encoded"
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json --limit 1
check 'assert len(rows) == 1'
expect_stderr "encoded samples are read from"
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --limit 2
expect_stdout "sample 1: "

CASE=completions
completions=(--data.train.collator_name text_completions_only_with_padding)
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${completions[@]}" --data.train.train_target ALL_ASSISTANT_TURNS
check 'all_turns = rows; assert [sum(l != -100 for l in r["labels"]) > 0 for r in rows] == [True] * 3; assert len(learned(rows[1])) < len(rows[1]["input_ids"]) / 2'
cp rows.jsonl all.jsonl
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${completions[@]}" --data.train.train_target FINAL_ASSISTANT_TURN
check 'assert len(learned(rows[1])) < len(learned(json.loads(open("all.jsonl").readlines()[1])))'
expect_error 2 "train_target" "$OUMI_CPP" tokenize -c run.yaml "${completions[@]}"

CASE=packing
pack=(--data.train.pack true --model.model_max_length 96)
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${pack[@]}"
check 'assert all(r["position_ids"].count(0) == len(set(r["segment_ids"])) for r in rows); assert sum(r["position_ids"].count(0) for r in rows) == 3'
check 'assert all(l == -100 for r in rows for l, p in zip(r["labels"], r["position_ids"]) if p == 0)'
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${pack[@]}" --training.trainer_kwargs '{packing_strategy: concatenated}'
check 'assert all(len(r["input_ids"]) == 96 and r["labels"] == r["input_ids"] and "segment_ids" not in r for r in rows)'
expect_error 2 "packing_strategy" "$OUMI_CPP" tokenize -c run.yaml "${pack[@]}" --training.trainer_kwargs '{packing_strategy: bdf}'

CASE=documents
printf 'one two\n\nthree\n' >a.txt
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json --data.train.datasets '[{dataset_name: text, dataset_path: a.txt, dataset_kwargs: {seq_length: 4}}]'
check 'assert all(len(r["input_ids"]) == 4 for r in rows)'
cp rows.jsonl map.jsonl
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json --data.train.stream true --data.train.datasets '[{dataset_name: text, dataset_path: a.txt, dataset_kwargs: {seq_length: 4}}]'
check 'assert open("map.jsonl").read() == open("rows.jsonl").read()'

CASE=megatron
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json --model.model_max_length 3 --data.train.datasets '[{dataset_name: text, dataset_path: a.txt}]'
check 'assert [len(r["input_ids"]) for r in rows] == [3, 3]'
documents=(--data.train.datasets '[{dataset_name: text, dataset_path: a.txt}]' --model.model_max_length 3)
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml "${documents[@]}" --megatron indexed/corpus --append-eod
expect_stdout "indexed/corpus.bin and indexed/corpus.idx: 2 documents"
for suffix in "" .bin .idx; do
  indexed=(--data.train.datasets "[{dataset_name: megatron_indexed, dataset_path: indexed/corpus$suffix}]")
  expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${indexed[@]}"
  check 'assert [r["text"] for r in rows] == ["one two<|endoftext|>", "three<|endoftext|>"]'
done
expect_error 2 "indexed/corpus.bin] is there already" "$OUMI_CPP" tokenize -c run.yaml "${documents[@]}" --megatron indexed/corpus.idx
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml "${documents[@]}" --megatron indexed/corpus.idx --overwrite --limit 1
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --json "${indexed[@]}"
check 'assert [r["text"] for r in rows] == ["one two"]'
# A run on them, without a tokenizer.
python3 - <<'PY'
import struct
with open("rows.bin", "wb") as data, open("rows.idx", "wb") as index:
    lengths = [5, 0, 12, 7]
    data.write(struct.pack("<24H", *(i % 10 for i in range(24))))
    index.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 4, 4) + struct.pack("<4i", *lengths) + struct.pack("<4q", 0, 10, 10, 34) + struct.pack("<4q", 0, 1, 3, 4))
PY
indexed=(--data.train.datasets '[{dataset_name: megatron_indexed, dataset_path: rows, dataset_kwargs: {seq_length: 6}}]')
gpt2=(model.model_name=gpt2 model.tokenizer_name=null 'model.model_kwargs={vocab_size: 10, n_positions: 8, n_embd: 8, n_layer: 1, n_head: 1}' training.max_steps=2 training.per_device_train_batch_size=2)
expect_exit 0 "$OUMI_CPP" train -c run.yaml "${indexed[@]}" "${gpt2[@]}"
expect_stderr "4 samples, 24 tokens"
rm -rf out
printf '\377\377' | dd of=rows.bin bs=1 seek=8 conv=notrunc status=none
expect_error 2 "sample 0 (counted from 0), input_ids[4]: expected a token id in [0, 10), the model's vocabulary, got 65535" "$OUMI_CPP" train -c run.yaml "${indexed[@]}" "${gpt2[@]}"
truncate -s -2 rows.bin
expect_error 2 "rows.bin] expected 48 bytes as rows.idx says, got 46" "$OUMI_CPP" train -c run.yaml "${indexed[@]}" "${gpt2[@]}" --overwrite
truncate -s -1 rows.idx
expect_error 2 "rows.idx] expected the tables of 4 sequences" "$OUMI_CPP" train -c run.yaml "${indexed[@]}" "${gpt2[@]}" --overwrite
expect_error 2 "--append-eod: expected a tokenizer" "$OUMI_CPP" tokenize -c run.yaml "${gpt2[@]}" --data.train.datasets '[{dataset_name: megatron_indexed, dataset_path: indexed/corpus}]' --megatron again --append-eod
expect_error 2 "expected documents, got 'pretraining'" "$OUMI_CPP" tokenize -c run.yaml --data.train.datasets '[{dataset_name: pretraining, dataset_path: a.txt}]' --megatron again
expect_error 2 "--megatron: expected no --json" "$OUMI_CPP" tokenize -c run.yaml "${documents[@]}" --megatron again --json
expect_error 2 "are for --megatron" "$OUMI_CPP" tokenize -c run.yaml "${documents[@]}" --append-eod
expect_absent again.bin again.idx
rm -rf out

CASE=preferences
expect_exit 0 "$OUMI_CPP" tokenize -c run.yaml --limit 1 --data.train.datasets '[{dataset_name: debug_dpo}]'
expect_stdout "  rejected: <|im_start|>assistant"
expect_error 2 "holds preferences" "$OUMI_CPP" train -c run.yaml --data.train.datasets '[{dataset_name: debug_dpo}]'

CASE="bad data"
bad() {
  local text=$1
  shift
  expect_error 2 "$text" "$OUMI_CPP" tokenize -c run.yaml --data.train.datasets "[{$*}]"
}
{ head -n 2 chats.jsonl; echo '{"messages": [{"role": "user"'; } >cut.jsonl
bad "cut.jsonl, line 3]" dataset_name: text_sft, dataset_path: cut.jsonl
printf '{"messages": [{"role": "user", "content": "\xff"}]}\n' >bytes.jsonl
bad "bytes.jsonl, line 1]" dataset_name: text_sft, dataset_path: bytes.jsonl
: >empty.jsonl
bad "empty.jsonl]" dataset_name: text_sft, dataset_path: empty.jsonl
python3 -c 'print("{\"messages\": [{\"role\": \"robot\", \"content\": \"" + "x" * 5000000 + "\"}]}")' >huge.jsonl
bad "huge.jsonl, line 1]" dataset_name: text_sft, dataset_path: huge.jsonl
bad "dataset_path" dataset_name: yahma/alpaca-cleaned
bad "expected a column 'instruction'" dataset_name: yahma/alpaca-cleaned, dataset_path: chats.jsonl
expect_no_leftovers cache

report_and_exit
