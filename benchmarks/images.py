"""Fashion-MNIST: the loader against PyTorch's, SimpleModel's training against transformers' Trainer and a plain PyTorch loop."""

import json
import sys

import common
from common import ROOT, harmonic_mean, interleaved, median, ratio, run, spread

CONFIG = ROOT / "configs" / "simple_model_fashion_mnist.yaml"


def loader_rows(sides, raw):
    def lines(command):
        return [json.loads(line) for line in run(command)[0].splitlines() if line.startswith("{")]

    results = raw["data_loader"] = interleaved({"oumi": lambda: lines([sides.build / "benchmarks" / "data_loader_bench"]),
                                                "torch": lambda: lines(sides.peer("data_loader.py"))}, sides.rounds)
    for left, right in zip(results["oumi"], results["torch"]):
        if left[0]["order"] != right[0]["order"] or abs(left[0]["pixels"] / right[0]["pixels"] - 1) > 1e-6:
            sys.exit(f"the loaders disagree, nothing is timed: {left[0]} {right[0]}")
    rows = []
    best_peer = [max(line["samples_per_second"] for line in lines[1:]) for lines in results["torch"]]
    for case in ("get_batch", "get"):
        mine = [max(line["samples_per_second"] for line in lines[1:] if line["case"] == case and line["num_workers"] <= 2) for lines in results["oumi"]]
        rows.append((f"loader, batch 16, `{case}` path, samples/s", spread(mine), "", spread(best_peer), ratio(mine, best_peer)))
    memory = [max(l["rss_mib"] for l in lines[1:]) / min(l["rss_mib"] for l in lines[1:]) for lines in results["oumi"]]
    rows.append(("loader memory, most / least over 0-8 workers", f"{median(memory):.3f}", "", "", None))
    return rows


def oumi_training(sides, batch, steps):
    settings = {"max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_ratio": "null",
                "weight_decay": 0.0, "logging_steps": max(steps // 10, 1)}
    # As the peers' data: pixels in [0, 1], no validation set.
    pixels = ["data.train.datasets[0].dataset_kwargs.mean=0.0", "data.train.datasets[0].dataset_kwargs.std=1.0"]
    lines, seconds, peak = common.oumi_training(sides, CONFIG, settings, pixels)
    rates = [line["samples_per_second"] for line in lines if "samples_per_second" in line][1:]
    loss = next(line["train_loss"] for line in lines if "train_loss" in line)
    return {"images_per_second": harmonic_mean(rates), "first_step_seconds": seconds, "peak_rss_mib": peak, "final_loss": loss}


def peer_training(sides, side, batch, steps):
    out, _, peak = run(sides.peer("simple_model.py", side, batch, steps))
    return {**json.loads(out.splitlines()[-1]), "peak_rss_mib": peak}


def training_rows(sides, raw):
    rows = []
    for batch, steps in ((16, 1500), (128, 300)):
        results = raw[f"images_batch_{batch}"] = interleaved({"oumi": lambda: oumi_training(sides, batch, steps), "hf": lambda: peer_training(sides, "hf", batch, steps),
                                                              "torch": lambda: peer_training(sides, "torch", batch, steps)}, sides.rounds)
        losses = {side: median([r["final_loss"] for r in runs]) for side, runs in results.items()}
        if abs(losses["oumi"] - losses["hf"]) > 0.05 * losses["hf"]:
            sys.exit(f"batch {batch}: the trainings disagree, nothing is timed: {losses}")
        rates = {side: [r["images_per_second"] for r in runs] for side, runs in results.items()}
        rows.append((f"SimpleModel, batch {batch}, images/s", spread(rates["oumi"]), spread(rates["hf"]), spread(rates["torch"]), ratio(rates["oumi"], rates["hf"])))
        if batch == 16:
            peaks = {side: [r["peak_rss_mib"] for r in runs] for side, runs in results.items()}
            rows.append(("peak memory, MiB", spread(peaks["oumi"]), spread(peaks["hf"]), spread(peaks["torch"]), ratio(peaks["oumi"], peaks["hf"])))
    one = raw["images_one_step"] = interleaved({"oumi": lambda: oumi_training(sides, 16, 1)["first_step_seconds"],
                                                "hf": lambda: peer_training(sides, "hf", 16, 1)["first_step_seconds"]}, sides.rounds)
    rows.append(("SimpleModel, a whole one-step run against HF's first step, s", spread(one["oumi"]), spread(one["hf"]), "", ratio(one["hf"], one["oumi"])))
    return rows
