"""Fine-tuning on short samples: packed rows that keep samples apart (`pack: true`) against transformers' Trainer, which pads a batch to its
longest sample, and TRL's SFTTrainer, which packs by its default strategy (bfd). The unit is supervised tokens: padding counts on no side.

Samples have GSM8K's lengths: of its 7,473 training samples, at a token for each word, digit and sign, questions have 58 tokens (5%-95%:
31-98), answers 85 (35-166), and the logarithms of the two correlate by 0.54. A chat template adds 8 tokens and one.
"""

import json
import math
import pathlib
import random
import sys
import tempfile

import common
from common import interleaved, ratio, run, spread

SAMPLES, ROW, ROWS = 63, 1024, 2  # samples in all, tokens of a packed row (TRL's default), rows of a batch
QUESTION, ANSWER, CORRELATION = (3.997, 0.348, 12, 210), (4.338, 0.472, 18, 333), 0.540  # of logarithms: mean, deviation; least and most tokens
VOCABULARY = 512  # of the smallest model that takes the samples


def write_samples(path):
    draw = random.Random(0)

    def length(of, normal):
        mean, deviation, least, most = of
        return min(max(round(math.exp(mean + deviation * normal)), least), most)

    with open(path, "w") as out:
        for _ in range(SAMPLES):
            normal = draw.gauss(0, 1)
            other = CORRELATION * normal + math.sqrt(1 - CORRELATION**2) * draw.gauss(0, 1)
            question, answer = length(QUESTION, normal) + 8, length(ANSWER, other) + 1
            first, step = draw.randrange(VOCABULARY), draw.randrange(1, 5)
            ids = [(first + step * i) % VOCABULARY for i in range(question + answer)]
            out.write(json.dumps({"input_ids": ids, "labels": [-100] * question + ids[question:]}) + "\n")


def config_of(folder):
    data = {"datasets": [{"dataset_name": "pretokenized", "dataset_path": str(folder / "samples.jsonl")}], "pack": True}
    path = folder / "oumi.yaml"
    path.write_text(json.dumps({"model": {"model_name": str(folder), "model_max_length": ROW}, "data": {"train": data}}))
    return path


def packed_rows(sides, folder):
    """The labels of every row that `oumi-cpp train` gets."""
    return [json.loads(line)["labels"] for line in run([sides.oumi, "tokenize", "-c", config_of(folder), "--json"])[0].splitlines()]


def oumi_training(sides, folder, rows, dtype, epochs, accumulation, learning_rate):
    settings = {"trainer_type": "HF", "num_train_epochs": epochs, "per_device_train_batch_size": ROWS, "gradient_accumulation_steps": accumulation,
                "optimizer": "adamw_torch_fused", "learning_rate": learning_rate, "weight_decay": 0.0, "lr_scheduler_type": "linear", "max_grad_norm": 1.0,
                "logging_steps": 1}
    lines, _, peak = common.oumi_training(sides, config_of(folder), settings, [f"model.torch_dtype_str={dtype}"])
    steps = [line for line in lines if "loss" in line]
    # Seconds of the last epoch, from the rate of each of its steps; the last step has what rows are left.
    last = steps[-(len(steps) // epochs):]
    sizes = [min(ROWS * accumulation, len(rows) - i * ROWS * accumulation) for i in range(len(last))]
    seconds = sum(size / line["samples_per_second"] for size, line in zip(sizes, last))
    return {"epoch_seconds": seconds, "peak_rss_mib": peak, "supervised": supervised(rows), "losses": [line["loss"] for line in steps]}


def peer_training(sides, side, folder, batch, dtype, epochs, accumulation, learning_rate):
    out, _, peak = run(sides.peer("packed.py", side, folder, dtype, epochs, batch, accumulation, learning_rate, ROW))
    return {**json.loads(out.splitlines()[-1]), "peak_rss_mib": peak}


def supervised(rows):
    return sum(label != -100 for labels in rows for label in labels)


def measures(sides, folder, rows, *how):
    """Every side's training; the peer that pads takes as many samples a batch as two rows hold."""
    padded = math.ceil(SAMPLES / math.ceil(len(rows) / ROWS))
    return {"oumi": lambda: oumi_training(sides, folder, rows, *how), "padded": lambda: peer_training(sides, "padded", folder, padded, *how),
            "packed": lambda: peer_training(sides, "packed", folder, ROWS, *how)}


def check(what, results, tolerance):
    """Every side trains on the same tokens, and its losses are ours."""
    ours = results["oumi"]
    for side, theirs in results.items():
        same_size = theirs["supervised"] == ours["supervised"] and len(theirs["losses"]) == len(ours["losses"])
        if not same_size or any(not abs(a - b) <= tolerance * a for a, b in zip(ours["losses"], theirs["losses"])):
            sys.exit(f"{what}: the trainings disagree, nothing is timed: oumi {ours}, {side} {theirs}")


def rows(sides, raw):
    with tempfile.TemporaryDirectory() as scratch:
        folders = {shape: pathlib.Path(scratch) / shape for shape in ("tiny", "smollm2-135m")}
        for shape, folder in folders.items():
            run(sides.peer("language_model.py", "prepare", folder, shape, 1, 8))
            write_samples(folder / "samples.jsonl")
        made = packed_rows(sides, folders["tiny"])
        # Updates of all samples each: the losses don't depend on which samples share a batch, but on what a token sees and weighs.
        whole = {side: measure() for side, measure in
                 measures(sides, folders["tiny"], made, "float32", 5, math.ceil(len(made) / ROWS), 1e-2).items()}
        check("packed samples, tiny", whole, 1e-5)
        dtype = "bfloat16" if sides.has_bfloat16 else "float32"
        results = interleaved(measures(sides, folders["smollm2-135m"], made, dtype, 2, 1, 1e-4), sides.rounds)
    # Batches differ here, so epochs are compared.
    means = {side: {**runs[0], "losses": [sum(runs[0]["losses"]) / len(runs[0]["losses"])]} for side, runs in results.items()}
    check("packed samples, SmolLM2-135M", means, 2e-2)
    raw["packed"] = {"samples": SAMPLES, "row_tokens": ROW, "rows": len(made), "check": whole, "runs": results}
    rates = {side: [r["supervised"] / r["epoch_seconds"] for r in runs] for side, runs in results.items()}
    peaks = {side: [r["peak_rss_mib"] for r in runs] for side, runs in results.items()}
    peers = ("padded", "packed")
    name = f"SmolLM2-135M, {'bf16 weights' if dtype == 'bfloat16' else 'fp32'}, samples of GSM8K's lengths packed"
    return [(f"{name}, supervised tokens/s", spread(rates["oumi"]), f"Trainer, padded {spread(rates['padded'])}, TRL, packed {spread(rates['packed'])}", "",
             ratio(rates["oumi"], [max(both) for both in zip(*(rates[peer] for peer in peers))])),
            (f"{name}, peak memory, MiB", spread(peaks["oumi"]), f"Trainer, padded {spread(peaks['padded'])}, TRL, packed {spread(peaks['packed'])}", "",
             ratio(peaks["oumi"], [min(both) for both in zip(*(peaks[peer] for peer in peers))]))]
