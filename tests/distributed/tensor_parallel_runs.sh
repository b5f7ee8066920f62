# Shared by the tests of tensor parallelism; source it after lib.sh. Small language models, a config.yaml, and names for settings.
source "$OUMI_SOURCE_DIR/tests/distributed/runs.sh"
needs_text

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
YAML
language_model_training 7 >>config.yaml

family() { echo "--model.model_name=families/$1/config.json"; }
tp=--parallel.tensor_model_parallel_size=2
sp=--parallel.sequence_parallel=true
smooth=--training.label_smoothing_factor=0.1
fsdp() { echo "--fsdp.enable_fsdp=true --fsdp.auto_wrap_policy=TRANSFORMER_BASED_WRAP --fsdp.transformer_layer_cls=$1"; }
zero1="--deepspeed.enable_deepspeed=true --deepspeed.zero_stage=ZERO_1"
# Keys' biases change no attention weight: their gradients are what rounding leaves, about 1e-9, of which Adam would make whole steps with its
# usual epsilon.
saving=("$(family gpt2)" --training.optimizer=adamw_torch --training.adam_epsilon=1e-6 --training.learning_rate=1e-3 --training.eval_strategy=no
        --training.max_steps=12)
dropout='--model.model_kwargs={attn_pdrop: 0.1, resid_pdrop: 0.1, embd_pdrop: 0.1}'

# resumed EXPECTED ACTUAL [option ...]: a run that went on at another layout, against one that never stopped.
resumed() { same "$@" --steps 12; }
