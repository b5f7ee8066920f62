#!/usr/bin/env bash
# A model spread over ranks trains as one process does: tensor and sequence parallelism, with data parallelism around them, from
# initial weights to saved ones; what is refused.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/tensor_parallel_runs.sh"

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
launch 4 llama4_tp2_fsdp2_sp "$(ga 2)" $smooth $tp $sp $(fsdp LlamaDecoderLayer)
same llama4 llama4_tp2_fsdp2_sp
pass; cmp llama4/config.json llama4_tp2_fsdp2_sp/config.json || fail "the saved configs differ"
# By size, the output layer is a unit of its own.
launch 4 qwen3_tp2_grad_op2 "$(family qwen3)" $tp --fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=1000 --fsdp.sharding_strategy=SHARD_GRAD_OP
same qwen3 qwen3_tp2_grad_op2
launch 4 gpt2_tp2_zero1_sp "$(family gpt2)" $tp $sp $zero1
same gpt2 gpt2_tp2_zero1_sp

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
