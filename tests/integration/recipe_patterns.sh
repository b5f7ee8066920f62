#!/usr/bin/env bash
# What Oumi's SFT and pretraining recipes ask for, condensed: each passes `config check` with a small model of its family and local
# data in place of the Hub's. Where a checkout of Oumi's recipes lies in $OUMI_RECIPES, they are all shown, and all whose trainer and
# family are built are checked (OUMI_RECIPES=DIR tests/integration/recipe_patterns.sh).
source "$(dirname "$0")/../lib.sh"
needs_text

export OUMI_CACHE="$WORK/cache"
families="$OUMI_SOURCE_DIR/tests/golden/families" tokenizer="$OUMI_SOURCE_DIR/tests/golden/textdata"

python3 - "$families" <<'PY'
import json, os, sys

def write(name, rows):
    with open(name + ".jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)

count = range(12)
write("alpaca", [{"instruction": f"Add {i} and 2.", "input": "" if i % 2 else "quickly", "output": f"It is {i + 2}."} for i in count])
write("sharegpt", [{"conversations": [{"from": "human", "value": f"Say {i}"}, {"from": "gpt", "value": f"{i}"}]} for i in count])
write("text", [{"text": f"Document {i}. " + "The weather in Paris is sunny. " * 200} for i in range(40)])
write("messages", [{"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i} it is."}]} for i in count])
write("questions", [{"question": f"What is {i}?", "solution": f"{i} is {i}"} for i in count])
write("aya", [{"inputs": f"What is {i}?", "targets": f"{i} is {i}"} for i in count])
# The families' test models with a vocabulary and positions that hold the data.
for family, source in dict(llama="llama_llama3", qwen2="qwen2", qwen3="qwen3", qwen3_moe="qwen3_moe", phi3="phi3_older", gpt2="gpt2", gemma2="gemma2",
                           gemma3="gemma3_multimodal", olmo3="olmo3").items():
    config = json.load(open(f"{sys.argv[1]}/{source}/config.json"))
    for part in (config, config.get("text_config", {})):
        part.update({key: value for key, value in dict(vocab_size=512, max_position_embeddings=4096, n_positions=4096).items() if key in part})
    os.makedirs("configs/" + family)
    json.dump(config, open(f"configs/{family}/config.json", "w"))
PY

cat >standin.yaml <<YAML
model: {load_pretrained_weights: false, tokenizer_name: $tokenizer, model_max_length: 64}
data: {train: {datasets: [{dataset_name: text_sft, dataset_path: messages.jsonl}]}}
training: {max_steps: 1, enable_tensorboard: false, save_strategy: 'no'}
YAML
for config in configs/*; do
  family=${config##*/}
  CASE="stand-in for $family"
  expect_exit 0 "$OUMI_CPP" train -c standin.yaml model.model_name="$config" training.output_dir="models/$family"
done

# local_data NAME: the file that stands for a dataset of the Hub.
local_data() {
  case $1 in
    yahma/alpaca-cleaned) echo alpaca.jsonl ;;
    Magpie-Align/*) echo sharegpt.jsonl ;;
    HuggingFaceFW/fineweb-edu) echo text.jsonl ;;
    PromptResponseDataset) echo questions.jsonl ;;
    CohereForAI/aya_dataset) echo aya.jsonl ;;
    *) echo messages.jsonl ;;
  esac
}

# check_recipe FILE FAMILY: with the stand-ins for model and data.
check_recipe() {
  local overrides=(model.model_name="models/$2" model.tokenizer_name="models/$2" training.output_dir=out)
  local key name
  while read -r key name; do overrides+=("$key.dataset_path=$(local_data "$name")"); done < <("$OUMI_CPP" config show -c "$1" | python3 -c '
import re, sys
split = None
for line in sys.stdin:
    if found := re.match(r"  (train|validation|test):", line): split, index = found[1], -1
    elif found := re.match(r"    *(- )?dataset_name: \"?([^\"\n]*)", line):
        if split: index += 1; print(f"data.{split}.datasets[{index}] {found[2]}")
    elif re.match(r"\S", line): split = None')
  expect_exit 0 "$OUMI_CPP" config check -c "$1" "${overrides[@]}"
  pass
  [ "$(tail -n 1 .stdout)" = ok ] || fail "expected ok as the last line"
}

# pattern NAME FAMILY: the recipe on stdin.
pattern() {
  CASE=$1
  cat >recipe.yaml
  check_recipe recipe.yaml "$2"
}

full='trainer_type: TRL_SFT, enable_gradient_checkpointing: True, gradient_checkpointing_kwargs: {use_reentrant: False}, ddp_find_unused_parameters: False,
  optimizer: adamw_torch_fused, learning_rate: 2e-5, lr_scheduler_type: cosine, weight_decay: 0.01, compile: False, dataloader_num_workers: auto, dataloader_prefetch_factor: 32,
  log_model_summary: False, empty_device_cache_steps: 50, include_performance_metrics: True, enable_wandb: True, per_device_train_batch_size: 2'
alpaca='train: {datasets: [{dataset_name: yahma/alpaca-cleaned}]}'
chat_model='torch_dtype_str: bfloat16, attn_implementation: sdpa, load_pretrained_weights: True, trust_remote_code: True, model_max_length: 8192'
lora='lora_r: 16, lora_alpha: 32, lora_target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]'
nf4='q_lora: True, bnb_4bit_quant_type: nf4, bnb_4bit_quant_storage: bfloat16, bnb_4bit_compute_dtype: bfloat16'

pattern full llama <<YAML
model: {model_name: meta-llama/Llama-3.2-1B-Instruct, $chat_model}
data: {$alpaca}
training: {$full, max_grad_norm: 10, warmup_ratio: 0.02, save_steps: 0, num_train_epochs: 1, logging_steps: 5, output_dir: output/a}
YAML
pattern full_fsdp_offload llama <<YAML
model: {model_name: meta-llama/Llama-3.3-70B-Instruct, $chat_model, enable_liger_kernel: True}
data: {$alpaca}
training: {$full, max_grad_norm: 0.0, warmup_steps: 100, output_dir: output/a}
fsdp: {enable_fsdp: True, sharding_strategy: FULL_SHARD, forward_prefetch: True, cpu_offload: True, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: LlamaDecoderLayer}
YAML
pattern qlora_hybrid llama <<YAML
model: {model_name: meta-llama/Llama-3.1-8B-Instruct, $chat_model, tokenizer_pad_token: <|finetune_right_pad_id|>}
data: {$alpaca}
training: {$full, use_peft: True, output_dir: output/a}
peft: {$nf4, lora_r: 8, lora_alpha: 16, lora_target_modules: [q_proj, k_proj, v_proj]}
fsdp: {enable_fsdp: True, sharding_strategy: HYBRID_SHARD, forward_prefetch: True, state_dict_type: SHARDED_STATE_DICT, use_orig_params: True, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: LlamaDecoderLayer}
YAML
pattern zero2 llama <<YAML
model: {model_name: meta-llama/Llama-3.1-8B-Instruct, $chat_model}
data: {train: {datasets: [{dataset_name: Magpie-Align/Llama-3-Magpie-Pro-1M-v0.1, split: train, shuffle: True, seed: 42}]}}
training: {$full, output_dir: output/a}
deepspeed: {enable_deepspeed: True, zero_stage: ZERO_2, precision: BF16, overlap_comm: True, contiguous_gradients: True, reduce_bucket_size: auto, zero_allow_untested_optimizer: True, steps_per_print: 10}
YAML
pattern zero3_offload llama <<YAML
model: {model_name: meta-llama/Llama-3.1-8B-Instruct, $chat_model}
data: {train: {datasets: [{dataset_name: Magpie-Align/Llama-3-Magpie-Pro-1M-v0.1, split: train, shuffle: True, seed: 42}]}}
training: {$full, output_dir: output/a}
deepspeed:
  {enable_deepspeed: True, zero_stage: ZERO_3, precision: BF16, sub_group_size: 1000000000, stage3_prefetch_bucket_size: auto, stage3_param_persistence_threshold: auto,
   offload_optimizer: {device: CPU, pin_memory: True, buffer_count: 4}, offload_param: {device: CPU, pin_memory: True}, zero_force_ds_cpu_optimizer: True}
YAML
pattern pretraining_stream llama <<YAML
model: {model_name: HuggingFaceFW/ablation-model-fineweb-v1, model_max_length: 2048, torch_dtype_str: bfloat16, load_pretrained_weights: False, model_kwargs: {disable_dropout: True}}
data: {train: {stream: True, pack: True, datasets: [{dataset_name: HuggingFaceFW/fineweb-edu, subset: sample-10BT, split: train, dataset_kwargs: {seq_length: 512}}]}}
training: {trainer_type: TRL_SFT, per_device_train_batch_size: 14, gradient_accumulation_steps: 19, optimizer: adamw_torch_fused, lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: 3e-5},
  adam_beta1: 0.9, adam_beta2: 0.95, logging_dir: "\${training.output_dir}/runs", output_dir: output/a}
fsdp: {enable_fsdp: True, sharding_strategy: HYBRID_SHARD, forward_prefetch: True, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: LlamaDecoderLayer}
YAML
pattern packed_stream_validation llama <<YAML
model: {model_name: meta-llama/Meta-Llama-3.1-8B, $chat_model, chat_template: llama3-instruct, tokenizer_pad_token: <|finetune_right_pad_id|>}
data:
  train: {stream: True, pack: True, datasets: [{dataset_name: CohereForAI/aya_dataset, split: train, seed: 42, shuffle: True}]}
  validation: {datasets: [{dataset_name: CohereForAI/aya_dataset, split: test}]}
training: {$full, max_steps: 10, eval_strategy: steps, eval_steps: 300, output_dir: output/a, trainer_kwargs: {max_seq_length: "\${model.model_max_length}"}}
YAML
completions='seed: 42, collator_name: text_completions_only_with_padding, train_target: ALL_ASSISTANT_TURNS'
for kind in "" "use_peft: True," "use_peft: True, q_lora"; do
  peft=
  case $kind in *q_lora) peft="peft: {$lora, $nf4}" kind='use_peft: True,' ;; use*) peft="peft: {$lora}" ;; esac
  pattern "completions ${peft:0:20}" llama <<YAML
model: {model_name: meta-llama/Llama-3.1-405B-Instruct, $chat_model, chat_template: llama3-instruct}
data:
  train: {$completions, datasets: [{dataset_name: text_sft_jsonl, dataset_path: /path/to/training/dataset.jsonl}]}
  validation: {$completions, datasets: [{dataset_name: text_sft_jsonl, dataset_path: /path/to/validation/dataset.jsonl}]}
training: {${full/adamw_torch_fused/paged_adamw_8bit}, $kind eval_strategy: epoch, per_device_eval_batch_size: 2, logging_first_step: True, output_dir: output/a}
fsdp: {enable_fsdp: False, cpu_offload: True}
$peft
YAML
done
pattern several_datasets llama <<YAML
model: {model_name: meta-llama/Llama-3.1-8B-Instruct, $chat_model}
data:
  train:
    $(sed 's/, /\n    /g' <<<"$completions")
    datasets:
      - {dataset_name: HuggingFaceDataset, split: train, shuffle: True, seed: 42, dataset_kwargs: {hf_dataset_path: oumi-ai/oumi-anli-subset, messages_column: messages}}
      - {dataset_name: HuggingFaceDataset, split: train, shuffle: True, seed: 42, dataset_kwargs: {hf_dataset_path: oumi-ai/oumi-c2d-d2c-subset, messages_column: messages}}
training: {$full, output_dir: output/a}
YAML
pattern mixture phi3 <<YAML
model: {model_name: microsoft/Phi-3-mini-4k-instruct, $chat_model, enable_liger_kernel: False}
data:
  train:
    pack: False
    mixture_strategy: first_exhausted
    datasets:
      - {dataset_name: nvidia/ChatQA-Training-Data, subset: drop, mixture_proportion: 0.3}
      - {dataset_name: nvidia/ChatQA-Training-Data, subset: narrativeqa, mixture_proportion: 0.7}
training: {$full, max_steps: 10, output_dir: output/a}
YAML
pattern lora_modules_that_others_have phi3 <<YAML
model: {model_name: microsoft/Phi-3-mini-4k-instruct, $chat_model}
data: {$alpaca}
training: {$full, use_peft: True, output_dir: output/a}
peft: {lora_r: 16, lora_alpha: 32, lora_target_modules: [qkv_proj, o_proj, gate_proj, up_proj, down_proj]}
fsdp: {enable_fsdp: True, sharding_strategy: FULL_SHARD, cpu_offload: True, mixed_precision: bf16, backward_prefetch: BACKWARD_POST, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: Phi3DecoderLayer}
YAML
pattern prompts_and_responses qwen2 <<YAML
model: {model_name: Qwen/Qwen2.5-7B-Instruct, $chat_model, chat_template: qwen2-instruct, tokenizer_pad_token: <|endoftext|>}
data: {train: {datasets: [{dataset_name: PromptResponseDataset, split: train, shuffle: True, seed: 42, dataset_kwargs: {hf_dataset_path: GAIR/LIMO, prompt_column: question, response_column: solution}}]}}
training: {$full, max_grad_norm: 1e-3, warmup_ratio: 0.05, output_dir: output/a}
fsdp: {enable_fsdp: True, sharding_strategy: FULL_SHARD, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: transformers.models.qwen2.modeling_qwen2.Qwen2DecoderLayer}
YAML
pattern longer_context qwen2 <<YAML
model: {model_name: Qwen/Qwen2.5-7B-Instruct, torch_dtype_str: bfloat16, model_max_length: 131072, enable_liger_kernel: True, model_kwargs: {rope_scaling: {type: yarn, factor: 4.0, original_max_position_embeddings: 32768}}}
data: {train: {datasets: [{dataset_name: PromptResponseDataset, split: train, dataset_kwargs: {hf_dataset_path: GAIR/LIMO, prompt_column: question, response_column: solution}}]}}
training: {$full, output_dir: output/a}
deepspeed: {enable_deepspeed: True, zero_stage: ZERO_3, precision: BF16, offload_optimizer: {device: CPU}}
YAML
for each in "qwen2 Qwen2DecoderLayer FULL_SHARD" "qwen3 Qwen3DecoderLayer HYBRID_SHARD" "qwen3_moe Qwen3MoeDecoderLayer FULL_SHARD" "olmo3 Olmo3DecoderLayer FULL_SHARD" "gemma3 Gemma3DecoderLayer FULL_SHARD"; do
  read -r family layer strategy <<<"$each"
  pattern "lora $family" "$family" <<YAML
model: {model_name: some/model, $chat_model}
data: {$alpaca}
training: {$full, use_peft: True, warmup_steps: 100, output_dir: output/a}
peft: {$lora, lora_dropout: 0}
fsdp: {enable_fsdp: True, sharding_strategy: $strategy, forward_prefetch: True, cpu_offload: True, auto_wrap_policy: TRANSFORMER_BASED_WRAP, transformer_layer_cls: $layer}
YAML
done
pattern full_gemma2 gemma2 <<YAML
model: {model_name: google/gemma-2-2b-it, $chat_model, chat_template: gemma2-it}
data: {$alpaca}
training: {${full/adamw_torch_fused/adafactor}, output_dir: output/a}
YAML
pattern flash_attention llama <<YAML
model: {model_name: HuggingFaceTB/SmolLM2-135M-Instruct, torch_dtype_str: bfloat16, model_max_length: 2048, attn_implementation: flash_attention_2}
data: {train: {datasets: [{dataset_name: HuggingFaceH4/ultrachat_200k, split: train_sft}]}}
training: {${full/compile: False/compile: True}, max_steps: 10, trainer_kwargs: {packing: False, dataset_text_field: text}, use_deterministic: True, output_dir: output/a}
YAML
pattern gpt2_pretraining gpt2 <<YAML
model: {model_name: openai-community/gpt2, torch_dtype_str: bfloat16, load_pretrained_weights: False, model_max_length: 1024}
data: {train: {stream: True, pack: True, datasets: [{dataset_name: HuggingFaceFW/fineweb-edu, subset: sample-10BT, split: train, dataset_kwargs: {seq_length: 128}}]}}
training: {trainer_type: TRL_SFT, max_steps: 10, per_device_train_batch_size: 4, dataloader_num_workers: 1, run_name: gpt2_pt, save_epoch: False, output_dir: output/gpt2.pt}
YAML

CASE="Oumi's own"
if [ -d "${OUMI_RECIPES:-}" ]; then
  shown=0 checked=0
  for recipe in "$OUMI_RECIPES"/*.yaml; do
    CASE=${recipe##*/}
    expect_exit 0 "$OUMI_CPP" config show -c "$recipe"
    shown=$((shown + 1))
    model=$(sed -n 's/^  model_name: "\?\([^"]*\)"\?/\1/p' .stdout)
    grep -q 'trainer_type: "\?\(TRL_SFT\|HF\|OUMI\)' .stdout || continue
    case $model in
      *Vision* | *VL* | *vision* | *multimodal* | *Qwen3-Next* | *Qwen3.5*) continue ;;
      meta-llama/Llama-3* | meta-llama/Meta-Llama-3* | *SmolLM2* | *Distill-Llama* | *ablation-model-fineweb*) family=llama ;;
      Qwen/Qwen2* | Qwen/QwQ* | *Distill-Qwen*) family=qwen2 ;;
      Qwen/Qwen3-*-A*B) family=qwen3_moe ;;
      Qwen/Qwen3-*) family=qwen3 ;;
      microsoft/Phi-3* | microsoft/Phi-4-reasoning*) family=phi3 ;;
      gpt2 | openai-community/gpt2) family=gpt2 ;;
      google/gemma-2-*) family=gemma2 ;;
      google/gemma-3-*) family=gemma3 ;;
      allenai/Olmo-3*) family=olmo3 ;;
      *) continue ;;
    esac
    check_recipe "$recipe" "$family"
    checked=$((checked + 1))
  done
  echo "$shown of Oumi's recipes shown, $checked checked"
else
  skip "Oumi's own recipes: OUMI_RECIPES names no folder"
fi

report_and_exit
