"""Causal language models of real shapes on random tokens: transformers' Trainer (and PEFT's LoRA), peers of `oumi-cpp train`.

usage: python language_model.py prepare FOLDER MODEL ROWS LENGTH      writes the initial model and tokens.jsonl, for both sides
       python language_model.py train FOLDER PRECISION STEPS BATCH [--compile] [--lora RANK]
PRECISION: fp32 | bf16 (autocast over float32 weights, Trainer's bf16) | bf16_weights (the model itself in bfloat16).
Prints one JSON object: tokens_per_second over all steps but the first two, first_step_seconds since the process began, losses by step.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {
    "smollm2-135m": ("llama", dict(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
                                   vocab_size=49152, max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True,
                                   bos_token_id=0, eos_token_id=0)),
    "smollm2-38m": ("llama", dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, num_key_value_heads=2, intermediate_size=1024, vocab_size=49152,
                                  max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=0,
                                  eos_token_id=0)),
    "gpt2-124m": ("gpt2", dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)),
    "tiny": ("llama", dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128, vocab_size=512,
                           tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)),
}


def process_age():
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as uptime:
        return float(uptime.read().split()[0]) - started


def prepare(arguments):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, fields = SHAPES[arguments.model]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields))
    model.save_pretrained(arguments.folder)
    draw = random.Random(0)
    vocabulary = model.config.vocab_size
    with open(Path(arguments.folder) / "tokens.jsonl", "w") as out:
        for _ in range(arguments.rows):
            # Words that come back, so that there is something to learn.
            first, step = draw.randrange(vocabulary), draw.randrange(1, 5)
            out.write(json.dumps({"input_ids": [(first + step * i) % vocabulary for i in range(arguments.length)]}) + "\n")


def train(arguments):
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    folder = Path(arguments.folder)
    rows = [json.loads(line)["input_ids"] for line in (folder / "tokens.jsonl").read_text().splitlines()]
    dtype = torch.bfloat16 if arguments.precision == "bf16_weights" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    # GPT2LMHeadModel's name tells Transformers 5 no loss; its Trainer then divides by the first token of each row too, which nothing predicts.
    model.loss_type = "ForCausalLM"
    if arguments.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=arguments.lora, lora_alpha=2 * arguments.lora, lora_dropout=0.0, task_type="CAUSAL_LM",
                                                 target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    times, losses = [], {}

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            times.append((time.perf_counter(), process_age()))

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                losses[state.global_step] = logs["loss"]

    def collate(samples):
        tokens = torch.tensor([sample["input_ids"] for sample in samples])
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens.clone()}

    with tempfile.TemporaryDirectory() as output:
        args = transformers.TrainingArguments(
            output_dir=output, max_steps=arguments.steps, per_device_train_batch_size=arguments.batch, learning_rate=1e-4, logging_steps=1,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, bf16=arguments.precision == "bf16",
            torch_compile=arguments.compile, remove_unused_columns=False)
        trainer = transformers.Trainer(model=model, args=args, train_dataset=[{"input_ids": row} for row in rows], data_collator=collate,
                                       callbacks=[Watch()])
        sys.stdout, kept = sys.stderr, sys.stdout
        trainer.train()
        sys.stdout = kept
    tokens = arguments.batch * len(rows[0])
    rate = (len(times) - 2) * tokens / (times[-1][0] - times[1][0]) if len(times) > 2 else 0.0
    print(json.dumps({"tokens_per_second": rate, "first_step_seconds": times[0][1], "losses": losses}))


def main():
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(dest="mode", required=True)
    first = modes.add_parser("prepare")
    first.add_argument("folder")
    first.add_argument("model", choices=SHAPES)
    first.add_argument("rows", type=int)
    first.add_argument("length", type=int)
    second = modes.add_parser("train")
    second.add_argument("folder")
    second.add_argument("precision", choices=["fp32", "bf16", "bf16_weights"])
    second.add_argument("steps", type=int)
    second.add_argument("batch", type=int)
    second.add_argument("--compile", action="store_true")
    second.add_argument("--lora", type=int, default=0)
    arguments = parser.parse_args()
    {"prepare": prepare, "train": train}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
