#!/usr/bin/env bash
# A model spread over ranks trains as one process does: tensor and sequence parallelism, with data parallelism around them, from
# initial weights to saved ones; checkpoints at the same layout and at others; what is refused.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/runs.sh"

export OUMI_CACHE="$WORK/cache"
tokenizer="$OUMI_SOURCE_DIR/tests/golden/textdata"
small_chats chats.jsonl 96
python3 - <<'PY'
import json, os
base = {"vocab_size": 1001, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.1}
families = {
    "llama": dict(base, attention_bias=True, mlp_bias=True),
    "gemma2": dict(base, sliding_window=9, query_pre_attn_scalar=8),
    "qwen3": dict(base, tie_word_embeddings=False),
    "gpt2": {"vocab_size": 1001, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
             "initializer_range": 0.1},
    "qwen3_moe": dict(base, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
}
for family, config in families.items():
    os.makedirs(f"families/{family}")
    with open(f"families/{family}/config.json", "w") as file:
        json.dump(dict(config, model_type=family), file)
PY
cat >config.yaml <<YAML
model:
  model_name: families/llama/config.json
  load_pretrained_weights: false
  tokenizer_name: $tokenizer
  model_max_length: 64
data:
  train:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl, split: train}]
  validation:
    datasets: [{dataset_name: text_sft_jsonl, dataset_path: chats.jsonl}]
training:
  output_dir: out
  max_steps: 50
  per_device_train_batch_size: 2
  per_device_eval_batch_size: 7
  optimizer: sgd
  sgd_momentum: 0.9
  learning_rate: 2.0e-2
  weight_decay: 0.01
  max_grad_norm: 0.5
  logging_steps: 1
  eval_strategy: steps
  eval_steps: 50
  save_strategy: "no"
  enable_tensorboard: false
  dataloader_num_workers: 0
YAML

family() { echo "--model.model_name=families/$1/config.json"; }
tp=--parallel.tensor_model_parallel_size=2
sp=--parallel.sequence_parallel=true
smooth=--training.label_smoothing_factor=0.1

CASE="llama"
run_one llama4 "$(ga 4)" $smooth
launch 2 llama4_tp2 "$(ga 4)" $smooth $tp
same llama4 llama4_tp2
launch 2 llama4_tp2_sp "$(ga 4)" $smooth $tp $sp
same llama4 llama4_tp2_sp
launch 4 llama4_tp2_dp2_sp "$(ga 2)" $smooth $tp $sp
same llama4 llama4_tp2_dp2_sp
pass
python3 - <<'PY' || fail "the saved folder or the evaluation differs"
import json
assert json.load(open("llama4/config.json")) == json.load(open("llama4_tp2_dp2_sp/config.json"))
read = lambda folder: [r["eval_loss"] for r in map(json.loads, open(folder + "/metrics_rank0000.jsonl")) if "eval_loss" in r]
one, spread, both = read("llama4"), read("llama4_tp2"), read("llama4_tp2_dp2_sp")
assert len(one) == 1 and abs(one[0] - spread[0]) < 1e-4 * one[0] and abs(one[0] - both[0]) < 1e-3 * one[0], (one, spread, both)
PY

CASE="llama, whole batch, no clipping"
run_one llama1 --training.max_grad_norm=0
launch 2 llama1_tp2 --training.max_grad_norm=0 $tp
same llama1 llama1_tp2

for name in gpt2 gemma2 qwen3; do
  CASE=$name
  run_one $name "$(family $name)" "$(ga 2)"
  launch 2 ${name}_tp2_sp "$(family $name)" "$(ga 2)" $tp $sp
  same $name ${name}_tp2_sp
  launch 4 ${name}_tp2_dp2 "$(family $name)" $tp
  same $name ${name}_tp2_dp2
done

CASE="checkpoints"
saving=("$(family gpt2)" --training.optimizer=adamw_torch --training.learning_rate=1e-3 --training.eval_strategy=no --training.max_steps=12)
dropout='--model.model_kwargs={attn_pdrop: 0.1, resid_pdrop: 0.1, embd_pdrop: 0.1}'
launch 2 undisturbed "${saving[@]}" "$dropout" $tp $sp
launch 2 stopped "${saving[@]}" "$dropout" $tp $sp --training.save_strategy=steps --training.save_steps=6
rm -r stopped/checkpoint-12
launch 2 stopped "${saving[@]}" "$dropout" $tp $sp --training.try_resume_from_last_checkpoint=true
pass; cmp undisturbed/model.safetensors stopped/model.safetensors || fail "a resumed run differs"
# At other sizes, without dropout.
run_one whole "${saving[@]}" --training.save_strategy=steps --training.save_steps=6
launch 2 spread "${saving[@]}" $tp --training.save_strategy=steps --training.save_steps=6
rm -r {whole,spread}/checkpoint-12
cp -r whole to_spread; cp -r spread to_whole
launch 2 to_spread "${saving[@]}" $tp --training.try_resume_from_last_checkpoint=true
run_one to_whole "${saving[@]}" --training.try_resume_from_last_checkpoint=true
for run in spread to_spread to_whole; do
  pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 12 --weights 2e-3 --loss 1e-4 whole $run; [ "$CODE" -eq 0 ] || fail "$run differs"; cat "$WORK/.stdout"
done

CASE="activation checkpointing"
launch 2 recomputed "${saving[@]}" "$dropout" $tp $sp --training.enable_gradient_checkpointing=true
pass; cmp undisturbed/model.safetensors recomputed/model.safetensors || fail "recomputed activations differ"

CASE="mixed precision"
mixed=("$(family qwen3)" --training.max_steps=12 --training.eval_strategy=no --training.mixed_precision_dtype=BF16 --model.torch_dtype_str=float32)
run_one mixed "${mixed[@]}"
launch 2 mixed_tp2_sp "${mixed[@]}" $tp $sp
pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 12 --weights 2e-3 --loss 2e-3 mixed mixed_tp2_sp; [ "$CODE" -eq 0 ] || fail "mixed precision differs"; cat "$WORK/.stdout"

CASE="refused"
refused() { expect_exit 2 "$OUMI_CPP" launch --nproc-per-node 2 train -c config.yaml --training.output_dir refused "${@:2}"; expect_stderr "$1"; rm -rf refused; }
refused "mixtures of experts can't be spread" "$(family qwen3_moe)" $tp
refused "expected a divisor of the number of ranks (2), got 4" --parallel.tensor_model_parallel_size=4
refused "expected a divisor of the model's key-value heads (1), got 2" --model.model_kwargs='{num_key_value_heads: 1}' $tp
refused "combined with fsdp and deepspeed it is not built yet" $tp --fsdp.enable_fsdp=true
refused "LoRA and QLoRA on matrices that are spread" $tp --training.use_peft=true
refused "training.optimizer" $tp --training.optimizer=adafactor

report_and_exit
