#!/usr/bin/env bash
# The shipped text recipes by the commands at their heads: tokenizer, check, a short training, evaluation, answers.
source "$(dirname "$0")/../lib.sh"
needs_text

export XDG_CACHE_HOME="$WORK/cache"
cp -r "$OUMI_SOURCE_DIR/configs" configs

# last_loss DIR: of the training log.
last_loss() { python3 -c 'import json, sys; print([r["loss"] for r in map(json.loads, open(sys.argv[1])) if "loss" in r][-1])' "$1/metrics_rank0000.jsonl"; }
expect_below() {
  pass
  python3 -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$1" "$2" || fail "$3: expected less than $2, got $1"
}

CASE="the generated conversations"
cp configs/data/arithmetic_train.jsonl before.jsonl
expect_exit 0 python3 configs/data/make_arithmetic.py
expect_same configs/data/arithmetic_train.jsonl before.jsonl

CASE="llama_tiny_sft"
recipe=configs/llama_tiny_sft.yaml
expect_exit 2 "$OUMI_CPP" train -c $recipe
expect_stderr "tokenizer"
rm -rf output
expect_exit 0 "$OUMI_CPP" tokenizer train --files configs/data/arithmetic_train.jsonl --vocab-size 512 --chat-template chat_ml --out tokenizer
expect_exit 0 "$OUMI_CPP" config check -c $recipe
expect_stdout "ok"
expect_exit 0 "$OUMI_CPP" train -c $recipe training.num_train_epochs=2 training.logging_steps=10
expect_below "$(last_loss output/llama_tiny_sft)" 2.5 "loss after two epochs"
expect_exit 0 "$OUMI_CPP" evaluate -c $recipe --json
expect_stdout "eval_perplexity"
echo '{"messages": [{"role": "user", "content": "What comes after 41?"}]}' >questions.jsonl
expect_exit 0 "$OUMI_CPP" infer -c $recipe --temperature 0 --input questions.jsonl --output answers.jsonl
pass
[ "$(wc -l <answers.jsonl)" -eq 1 ] || fail "expected one answer"

CASE="a changed bit of the saved weights"
expect_exit 0 "$OUMI_CPP" checkpoint verify output/llama_tiny_sft
flip_bit output/llama_tiny_sft/model.safetensors -1000
expect_error 2 "is damaged: expected hash" "$OUMI_CPP" infer -c $recipe --input questions.jsonl --output again.jsonl
expect_stderr "output/llama_tiny_sft/model.safetensors] tensor 'model."
expect_error 2 "is damaged: expected hash" "$OUMI_CPP" evaluate -c $recipe
expect_error 2 "is damaged: expected hash" "$OUMI_CPP" train -c $recipe training.output_dir=further \
  model.model_name=output/llama_tiny_sft model.load_pretrained_weights=true

CASE="gpt2_small_text"
recipe=configs/gpt2_small_text.yaml
rm -rf tokenizer
cat "$OUMI_SOURCE_DIR"/docs/*.md "$OUMI_SOURCE_DIR"/*.md >corpus.txt
expect_exit 0 "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 2048 --out tokenizer
expect_exit 0 "$OUMI_CPP" train -c $recipe training.max_steps=12 training.logging_steps=4 training.eval_strategy=no
expect_below "$(last_loss output/gpt2_small_text)" 7.5 "loss after 12 steps"
echo '{"prompt": "The loader"}' >prompts.jsonl
expect_exit 0 "$OUMI_CPP" infer -c $recipe --input prompts.jsonl --output answers.jsonl --max-new-tokens 8

report_and_exit
