"""Fine-tuning on short samples with prompts masked: transformers' Trainer on padded batches, TRL's SFTTrainer on packed rows.

usage: python packed.py padded|packed FOLDER DTYPE EPOCHS BATCH ACCUMULATION LEARNING_RATE ROW
FOLDER holds the initial model and samples.jsonl (input_ids, labels); BATCH is in samples, or in packed rows of ROW tokens. TRL recomputes
activations by default: that is off, as on all sides. Without flash attention Transformers keeps samples of a packed row apart by a mask that
it makes from their positions. Prints one JSON object: epoch_seconds of the last epoch, supervised tokens of one, losses by update.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

IGNORED = -100


def pad(samples):
    longest = max(len(sample["input_ids"]) for sample in samples)
    fill = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
    rows = [{**sample, "attention_mask": [1] * len(sample["input_ids"])} for sample in samples]
    return {key: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows]) for key, value in fill.items()}


def packing_trainer(settings, row, model, samples):
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from trl import SFTConfig, SFTTrainer

    # The trainer wants a tokenizer, though samples are tokens already.
    unused = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, "<pad>")), pad_token="<pad>", eos_token="<pad>")
    arguments = SFTConfig(**settings, packing=True, max_length=row, gradient_checkpointing=False, bf16=False)
    return SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(samples), processing_class=unused)


def main():
    side, folder, dtype, epochs, batch, accumulation, learning_rate, row = sys.argv[1:]
    epochs = int(epochs)
    samples = [json.loads(line) for line in (Path(folder) / "samples.jsonl").read_text().splitlines()]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    begins, ends, losses, counts = [], [], [], []

    class Watch(transformers.TrainerCallback):
        def on_epoch_begin(self, *args, **kwargs):
            begins.append(time.perf_counter())

        def on_epoch_end(self, *args, **kwargs):
            ends.append(time.perf_counter())

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                losses.append(logs["loss"])

    with tempfile.TemporaryDirectory() as output:
        settings = dict(output_dir=output, num_train_epochs=epochs, per_device_train_batch_size=int(batch), gradient_accumulation_steps=int(accumulation),
                        learning_rate=float(learning_rate), lr_scheduler_type="linear", logging_steps=1, save_strategy="no", report_to="none",
                        disable_tqdm=True, use_cpu=True)
        sys.stdout, kept = sys.stderr, sys.stdout
        if side == "padded":
            trainer = transformers.Trainer(model=model, args=transformers.TrainingArguments(**settings, remove_unused_columns=False), train_dataset=samples,
                                           data_collator=pad)
        else:
            trainer = packing_trainer(settings, int(row), model, samples)
        collate = trainer.data_collator

        def counted(rows):
            made = collate(rows)
            counts.append(int((made["labels"] != IGNORED).sum()))
            return made

        trainer.data_collator = counted
        trainer.add_callback(Watch())
        trainer.train()
        sys.stdout = kept
    print(json.dumps({"epoch_seconds": ends[-1] - begins[-1], "supervised": sum(counts) // epochs, "losses": losses}))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
