#!/usr/bin/env bash
# Language models whose weights are shards from the first value to the last: they start with one process's weights and train as it
# does, go through checkpoints, are saved as one folder, and take 1/N of the memory on each of N ranks.
source "$(dirname "$0")/../lib.sh"
source "$OUMI_SOURCE_DIR/tests/distributed/runs.sh"

python3 - <<'PY'
import json, os, random
random.seed(5)
with open("rows.jsonl", "w") as file:
    for _ in range(96):
        file.write(json.dumps({"input_ids": [random.randrange(500) for _ in range(random.randint(6, 20))]}) + "\n")
base = {"vocab_size": 500, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.1}
big = dict(base, hidden_size=512, intermediate_size=1408, num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=8, head_dim=64)
families = {
    "llama": dict(base, attention_bias=True, tie_word_embeddings=False),
    "gpt2": {"vocab_size": 500, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
             "initializer_range": 0.1},
    "big": big,
    "little": dict(big, num_hidden_layers=1, hidden_size=32, intermediate_size=48, head_dim=4),
}
for family, config in families.items():
    os.makedirs(f"families/{family}")
    with open(f"families/{family}/config.json", "w") as file:
        json.dump(dict(config, model_type="gpt2" if family == "gpt2" else "llama"), file)
PY
cat >config.yaml <<'YAML'
model:
  model_name: families/llama/config.json
  load_pretrained_weights: false
  model_max_length: 64
data:
  train:
    datasets: [{dataset_name: pretokenized, dataset_path: rows.jsonl}]
  validation:
    datasets: [{dataset_name: pretokenized, dataset_path: rows.jsonl}]
YAML
language_model_training 8 >>config.yaml

fsdp=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=LlamaDecoderLayer)
by_size=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=SIZE_BASED_WRAP --fsdp.min_num_params=2000)
gpt2=(--model.model_name=families/gpt2/config.json)
gpt2_units=(--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=GPT2Block)

CASE="llama"
run_one one "$(ga 4)"
launch 2 full2 "$(ga 2)" "${fsdp[@]}"
same one full2
launch 4 hybrid4 "${fsdp[@]}" --fsdp.sharding_strategy=HYBRID_SHARD --fsdp.shard_group_size=2
same one hybrid4
launch 2 size2 "$(ga 2)" "${by_size[@]}"  # the output layer is a unit of its own
same one size2
pass; cmp one/config.json full2/config.json || fail "the saved configs differ"

CASE="gpt2, tied and with transposed matrices"
run_one gpt2_one "$(ga 2)" "${gpt2[@]}"
launch 2 gpt2_full2 "${gpt2[@]}" "${gpt2_units[@]}"
same gpt2_one gpt2_full2
launch 2 gpt2_size2 "${gpt2[@]}" "${by_size[@]}"  # the embedding is large enough for a unit, and the head uses it too
same gpt2_one gpt2_size2

CASE="checkpoints"
saving=("${gpt2[@]}" --training.save_strategy=steps --training.save_steps=20)
for kind in FULL_STATE_DICT SHARDED_STATE_DICT; do
  launch 2 resumed "${saving[@]}" "${gpt2_units[@]}" --fsdp.state_dict_type=$kind
  rm -r resumed/checkpoint-{40,50} resumed/model.safetensors
  launch 2 resumed "${saving[@]}" "${gpt2_units[@]}" --fsdp.state_dict_type=$kind --training.try_resume_from_last_checkpoint=true
  expect_stderr "resuming from"
  expect_same gpt2_full2/model.safetensors resumed/model.safetensors
  rm -r resumed/checkpoint-{40,50}
  cp -r resumed alone_$kind && rm -r resumed
  run_one alone_$kind "$(ga 2)" "${saving[@]}" --training.try_resume_from_last_checkpoint=true
  same gpt2_one alone_$kind
done

CASE="weights from files"
folder=(--model.model_name=alone_FULL_STATE_DICT --model.load_pretrained_weights=true --training.max_steps=50)
run_one files_one "$(ga 2)" "${folder[@]}"
launch 2 files2 "${folder[@]}" "${gpt2_units[@]}"
same files_one files2

CASE="memory falls as 1/N"
# peak OUTPUT N MODEL: as peak_memory.
peak() {
  peak_memory "$1.out" launch --nproc-per-node "$2" train -c config.yaml --training.output_dir "$1" --model.model_name=families/"$3"/config.json "${fsdp[@]}" \
    --training.optimizer=adamw_torch --training.max_steps=3 --training.per_device_train_batch_size=1 --training.eval_strategy=no
  expect_file "$1/model.safetensors"
}
declare -A used
for ranks in 1 2 4; do
  peak little$ranks $ranks little
  base=$PEAK
  peak big$ranks $ranks big
  used[$ranks]=$(((PEAK - base) / 1024))
  rm -r big$ranks
done
echo "memory beyond a small model's, MiB on each rank: ${used[1]} with 1, ${used[2]} with 2, ${used[4]} with 4"
# 39 million parameters: weights, gradients and AdamW's two moments are 16 bytes each. What does not fall is one unit, whole, with its
# gradient, and what travels.
pass; [ "${used[1]}" -ge 550 ] || fail "one rank: expected at least 550 MiB"
pass; [ "${used[2]}" -le $((used[1] * 66 / 100)) ] || fail "two ranks: expected at most 66 % of one's"
pass; [ "${used[4]}" -le $((used[1] * 42 / 100)) ] || fail "four ranks: expected at most 42 % of one's"

report_and_exit
