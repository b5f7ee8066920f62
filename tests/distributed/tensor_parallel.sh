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

CASE="sharded within a copy's ranks"
fsdp() { echo "--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=$1"; }
zero1="--deepspeed.enable_deepspeed=true --deepspeed.zero_stage=ZERO_1"
launch 4 llama4_tp2_fsdp2_sp "$(ga 2)" $smooth $tp $sp $(fsdp LlamaDecoderLayer)
same llama4 llama4_tp2_fsdp2_sp
pass; cmp llama4/config.json llama4_tp2_fsdp2_sp/config.json || fail "the saved configs differ"
# By size, the output layer is a unit of its own.
launch 4 qwen3_tp2_grad_op2 "$(family qwen3)" $tp --fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=1000 --fsdp.sharding_strategy=SHARD_GRAD_OP
same qwen3 qwen3_tp2_grad_op2
launch 4 gpt2_tp2_zero1_sp "$(family gpt2)" $tp $sp $zero1
same gpt2 gpt2_tp2_zero1_sp

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

# Sharded within a copy's ranks: the same layout, then others.
for kind in "fsdp2 $(fsdp GPT2Block) --fsdp.state_dict_type=SHARDED_STATE_DICT" "zero1 $zero1"; do
  set -- $kind; name=$1; shift
  launch 4 $name "${saving[@]}" "$dropout" $tp $sp "$@" --training.save_strategy=steps --training.save_steps=6
  cp -r $name again_$name; rm -r again_$name/{checkpoint-12,model.safetensors}
  launch 4 again_$name "${saving[@]}" "$dropout" $tp $sp "$@" --training.try_resume_from_last_checkpoint=true
  expect_stderr "resuming from"
  pass; cmp $name/model.safetensors again_$name/model.safetensors || fail "a resumed run differs"
done
expect_file fsdp2/checkpoint-6/optimizer-tp-00002-of-00002-dp-00001-of-00002.json fsdp2/checkpoint-6/model-rank-tp-00001-of-00002-dp-00002-of-00002.safetensors
half=(--training.per_device_train_batch_size=1)
launch 4 parts "${saving[@]}" "${half[@]}" $tp $(fsdp GPT2Block) --fsdp.state_dict_type=SHARDED_STATE_DICT --training.save_strategy=steps --training.save_steps=6
rm -r parts/checkpoint-12 parts/model.safetensors
for run in parts_to_{whole,fsdp,tp_zero1}; do cp -r parts $run; done
run_one parts_to_whole "${saving[@]}" --training.try_resume_from_last_checkpoint=true
launch 2 parts_to_fsdp "${saving[@]}" "${half[@]}" $(fsdp GPT2Block) --training.try_resume_from_last_checkpoint=true
launch 4 parts_to_tp_zero1 "${saving[@]}" "${half[@]}" $tp $zero1 --training.try_resume_from_last_checkpoint=true
cp -r to_whole spread_to_parts; rm spread_to_parts/model.safetensors
launch 4 spread_to_parts "${saving[@]}" "${half[@]}" $tp $(fsdp GPT2Block) --training.try_resume_from_last_checkpoint=true
for run in parts_to_{whole,fsdp,tp_zero1} spread_to_parts; do
  pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 12 --weights 2e-3 --loss 1e-4 whole $run; [ "$CODE" -eq 0 ] || fail "$run differs"; cat "$WORK/.stdout"
done

CASE="activation checkpointing"
launch 2 recomputed "${saving[@]}" "$dropout" $tp $sp --training.enable_gradient_checkpointing=true
pass; cmp undisturbed/model.safetensors recomputed/model.safetensors || fail "recomputed activations differ"

CASE="LoRA"
lora=(--training.use_peft=true --peft.lora_r=4 --peft.lora_alpha=8 --peft.lora_dropout=0 --peft.lora_target_modules=[all-linear] --peft.lora_bias=all)
run_one llama_lora "$(ga 4)" "${lora[@]}"
launch 4 llama_lora_tp2_dp2 "$(ga 2)" "${lora[@]}" $tp
same llama_lora llama_lora_tp2_dp2 --file adapter_model.safetensors
run_one gpt2_lora "$(family gpt2)" "$(ga 2)" "${lora[@]}"
launch 2 gpt2_lora_tp2_sp "$(family gpt2)" "$(ga 2)" "${lora[@]}" $tp $sp
same gpt2_lora gpt2_lora_tp2_sp --file adapter_model.safetensors
pass; cmp gpt2_lora/adapter_config.json gpt2_lora_tp2_sp/adapter_config.json || fail "the adapters' configs differ"
merged=("${lora[@]}" --training.max_steps=12 --training.eval_strategy=no --peft.peft_save_mode=MERGED)
run_one merged "${merged[@]}"
launch 2 merged_tp2 "${merged[@]}" $tp
pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 12 merged merged_tp2; [ "$CODE" -eq 0 ] || fail "the merged weights differ"; cat "$WORK/.stdout"
expect_file merged_tp2/adapter/adapter_model.safetensors
# Checkpoints: at the same layout, in one process; the saved adapter trained on.
tuning=("${saving[@]}" "${lora[@]}")
launch 2 tuned "${tuning[@]}" "$dropout" --peft.lora_dropout=0.1 $tp $sp --training.save_strategy=steps --training.save_steps=6
cp -r tuned tuned_again; rm -r tuned_again/{checkpoint-12,adapter_model.safetensors}
launch 2 tuned_again "${tuning[@]}" "$dropout" --peft.lora_dropout=0.1 $tp $sp --training.try_resume_from_last_checkpoint=true
pass; cmp tuned/adapter_model.safetensors tuned_again/adapter_model.safetensors || fail "a resumed run differs"
run_one tuned_whole "${tuning[@]}" --training.save_strategy=steps --training.save_steps=6
launch 2 tuned_to_whole "${tuning[@]}" $tp --training.save_strategy=steps --training.save_steps=6
rm -r {tuned_whole,tuned_to_whole}/checkpoint-12 tuned_to_whole/adapter_model.safetensors
cp -r tuned_whole tuned_to_tp2
run_one tuned_to_whole "${tuning[@]}" --training.try_resume_from_last_checkpoint=true
launch 2 tuned_to_tp2 "${tuning[@]}" $tp --training.try_resume_from_last_checkpoint=true
for run in tuned_to_whole tuned_to_tp2; do
  pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --file adapter_model.safetensors --steps 12 --weights 2e-3 --loss 1e-4 tuned_whole $run
  [ "$CODE" -eq 0 ] || fail "$run differs"; cat "$WORK/.stdout"
done
run_one adapter_on "${saving[@]}" --training.use_peft=true --model.adapter_model=tuned_whole
launch 2 adapter_on_tp2 "${saving[@]}" --training.use_peft=true --model.adapter_model=tuned_whole $tp
pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --file adapter_model.safetensors --steps 12 --weights 2e-3 --loss 1e-4 adapter_on adapter_on_tp2
[ "$CODE" -eq 0 ] || fail "an adapter trained on differs"; cat "$WORK/.stdout"

CASE="mixed precision"
mixed=("$(family qwen3)" --training.max_steps=12 --training.eval_strategy=no --training.mixed_precision_dtype=BF16 --model.torch_dtype_str=float32)
run_one mixed "${mixed[@]}"
launch 2 mixed_tp2_sp "${mixed[@]}" $tp $sp
pass; run python3 "$OUMI_SOURCE_DIR/tests/distributed/compare_runs.py" --steps 12 --weights 2e-3 --loss 2e-3 mixed mixed_tp2_sp; [ "$CODE" -eq 0 ] || fail "mixed precision differs"; cat "$WORK/.stdout"

CASE="ranks of a copy that read other samples"
python3 -c '
import json
for line in open("chats.jsonl"):
    chat = json.loads(line)
    chat["messages"][0]["content"] += " and what comes after it" * 3
    print(json.dumps(chat))' >longer.jsonl
port=$(free_port)
for rank in 0 1; do
  file=chats.jsonl
  [ $rank -eq 0 ] || file=longer.jsonl
  RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$OUMI_CPP" train -c config.yaml --training.output_dir other_samples $tp --training.ddp_timeout=20 \
    --data.train.datasets="[{dataset_name: text_sft_jsonl, dataset_path: $file, split: train}]" >other_samples.$rank 2>&1 &
done
for process in $(jobs -p); do
  code=0
  wait "$process" || code=$?
  expect_equal "$code" 3 "exit code"
done
pass; grep -Eq 'error: \[rank [01]\] .* failed after step 0: expected as many bytes from all ranks, got ' other_samples.* || fail "$(cat other_samples.*)"

CASE="refused"
refused() { expect_exit 2 "$OUMI_CPP" launch --nproc-per-node 2 train -c config.yaml --training.output_dir refused "${@:2}"; expect_stderr "$1"; rm -rf refused; }
refused "mixtures of experts can't be spread" "$(family qwen3_moe)" $tp
refused "expected a divisor of the number of ranks (2), got 4" --parallel.tensor_model_parallel_size=4
refused "expected a divisor of the model's key-value heads (1), got 2" --model.model_kwargs='{num_key_value_heads: 1}' $tp
refused "4-bit weights that are spread" $tp --training.use_peft=true --peft.q_lora=true
refused "training.optimizer" $tp --training.optimizer=adafactor

report_and_exit
