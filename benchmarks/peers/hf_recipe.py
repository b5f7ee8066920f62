"""Trains one of our text recipes with Hugging Face's Trainer and prints its losses: what the recipe's expected loss is held against.

    python benchmarks/peers/hf_recipe.py --start start -c configs/llama_tiny_sft.yaml [key=value ...]

writes the initial model to `start`, trains, and trains the same recipe with oumi-cpp from that model. The samples are those of
`oumi-cpp tokenize`, so both sides see the same tokens and labels; order, optimizer, schedule and loss are each side's own. Fails when a
logged loss differs by more than 1e-3 of itself. Needs benchmarks/peers/requirements.txt.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments, set_seed


def samples(binary, config, overrides, section):
    """The section's samples; `tokenize` shows the training set, so the validation set is put in its place."""
    if section != "train":
        overrides = overrides + ["data.train=" + json.dumps(config["data"][section])]
    lines = subprocess.run([binary, "tokenize", "-c", ARGS.config, "--json", *overrides], check=True, capture_output=True, text=True).stdout
    return [{key: row[key] for key in ("input_ids", "attention_mask", "labels")} for row in map(json.loads, lines.splitlines())]


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {key: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows]) for key, value in fill.items()}


def main():
    config = yaml.safe_load(subprocess.run([ARGS.binary, "config", "show", "-c", ARGS.config, *ARGS.overrides], check=True, capture_output=True, text=True).stdout)
    model, training = config["model"], config["training"]
    train = samples(ARGS.binary, config, ARGS.overrides, "train")
    validation = samples(ARGS.binary, config, ARGS.overrides, "validation")
    set_seed(training["seed"])
    peer = AutoModelForCausalLM.from_config(AutoConfig.for_model(model["model_name"], **model["model_kwargs"]))
    # GPT2LMHeadModel's name tells Transformers 5 no loss; its Trainer then divides by the first token of each row too, which nothing predicts.
    peer.loss_type = "ForCausalLM"
    arguments = TrainingArguments(
        output_dir=ARGS.output, per_device_train_batch_size=training["per_device_train_batch_size"], per_device_eval_batch_size=training["per_device_eval_batch_size"],
        gradient_accumulation_steps=training["gradient_accumulation_steps"], learning_rate=training["learning_rate"], weight_decay=training["weight_decay"],
        adam_beta1=training["adam_beta1"], adam_beta2=training["adam_beta2"], adam_epsilon=training["adam_epsilon"], max_grad_norm=training["max_grad_norm"] or 0.0,
        num_train_epochs=training["num_train_epochs"], max_steps=training["max_steps"], lr_scheduler_type=training["lr_scheduler_type"],
        warmup_steps=training["warmup_steps"] or 0, logging_steps=training["logging_steps"], save_strategy="no", seed=training["seed"], data_seed=training["data_seed"],
        optim="adamw_torch", report_to=[], use_cpu=True, disable_tqdm=True)
    peer.save_pretrained(ARGS.start)
    trainer = Trainer(model=peer, args=arguments, train_dataset=train, eval_dataset=validation, data_collator=collate)
    trainer.train()
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    losses["eval"] = trainer.evaluate()["eval_loss"]

    own = Path(ARGS.output) / "oumi"
    subprocess.run([ARGS.binary, "train", "-c", ARGS.config, "--overwrite", *ARGS.overrides, f"model.model_name={ARGS.start}", "model.load_pretrained_weights=true",
                    "model.model_kwargs={}", f"training.output_dir={own}"], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (own / "metrics_rank0000.jsonl").read_text().splitlines()]
    ours = {line["step"]: line["loss"] for line in lines if "loss" in line}
    ours["eval"] = [line["eval_loss"] for line in lines if "eval_loss" in line][-1]
    worst = 0.0
    for step, loss in losses.items():
        print(f"{step}: peer {loss:.6f}, oumi-cpp {ours[step]:.6f}")
        worst = max(worst, abs(ours[step] - loss) / loss)
    print(f"greatest relative difference {worst:.2e}")
    return 0 if worst < 1e-3 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/oumi-cpp")
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--output", default="output/hf_recipe", help="folder of both runs")
    parser.add_argument("--start", default="output/hf_recipe/start", help="folder for the initial model")
    parser.add_argument("overrides", nargs="*", help="key=value, as for oumi-cpp")
    ARGS = parser.parse_args()
    sys.exit(main())
