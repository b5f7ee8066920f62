"""Two processes with one core each against one process with two threads, and against PyTorch's DistributedDataParallel over Gloo: the same
initial weights, samples and order on all sides."""

import json
import pathlib
import sys
import tempfile

import common
from common import harmonic_mean, interleaved, on_cores, ratio, run, spread

# Samples are those of all processes; the losses of all sides agree to the tolerance (relative).
CASES = {
    "SimpleModel, 128 images": dict(kind="images", steps=400, samples=128, tolerance=1e-2),
    "language model of 38M, 8 x 256": dict(kind="language", shape="smollm2-38m", length=256, steps=6, samples=8, tolerance=1e-4),
}
PROCESSES = 2


def oumi_training(sides, case, folder, processes):
    images = case["kind"] == "images"
    settings = {"trainer_type": "HF", "max_steps": case["steps"], "per_device_train_batch_size": case["samples"] // processes, "optimizer": "adamw_torch_fused",
                "learning_rate": 1e-3 if images else 1e-4, "weight_decay": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0 if images else 1.0,
                "train_sampling_strategy": "sequential", "logging_steps": max(case["steps"] // 10, 1)}
    data = {"dataset_name": "fashion_mnist", "split": "train"} if images else {"dataset_name": "pretokenized", "dataset_path": str(folder / "tokens.jsonl")}
    config = folder / "oumi.yaml"
    config.write_text(json.dumps({"model": {"model_name": str(folder), "torch_dtype_str": "float32"}, "data": {"train": {"datasets": [data]}}}))
    before = on_cores(2, processes) + ([sides.oumi, "launch", "--nproc-per-node", processes] if processes > 1 else [sides.oumi])
    lines, _, _ = common.oumi_training(sides, config, settings, [], before)
    logged = [line for line in lines if "loss" in line]
    return {"samples_per_second": harmonic_mean([line["samples_per_second"] for line in logged][1:]), "losses": {str(line["step"]): line["loss"] for line in logged}}


def peer_training(sides, case, folder):
    out, _, _ = run([*on_cores(2, PROCESSES), *sides.peer("ddp.py", "train", case["kind"], folder, case["steps"], case["samples"] // PROCESSES)])
    return json.loads(out.splitlines()[-1])


def rows(sides, raw, only=None):
    table = []
    for name, case in CASES.items():
        if only and only not in name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch) / "model"
            if case["kind"] == "images":
                run(sides.peer("ddp.py", "prepare", "images", folder))
            else:
                run(sides.peer("language_model.py", "prepare", folder, case["shape"], case["steps"] * case["samples"], case["length"]))
            results = raw[f"ddp, {name}"] = interleaved({"one": lambda: oumi_training(sides, case, folder, 1), "two": lambda: oumi_training(sides, case, folder, PROCESSES),
                                                         "torch": lambda: peer_training(sides, case, folder)}, sides.rounds)
        for side in ("one", "torch"):
            check(name, case, results["two"][0]["losses"], results[side][0]["losses"])
        rates = {side: [r["samples_per_second"] for r in runs] for side, runs in results.items()}
        table.append((f"{name}, DDP on 2 processes, samples/s", spread(rates["two"]), "", spread(rates["torch"]), ratio(rates["two"], rates["torch"])))
        table.append((f"{name}, the same beside one process with 2 threads", spread(rates["two"]), f"oumi.cpp {spread(rates['one'])}", "",
                      ratio(rates["two"], rates["one"])))
    return table


def check(name, case, ours, theirs):
    """`ours` are means over the steps since the one logged before."""
    steps, wrong = sorted(map(int, ours)), []
    for before, step in zip([0, *steps], steps):
        other = theirs[str(step)] if theirs.keys() == ours.keys() else sum(theirs[str(i)] for i in range(before + 1, step + 1)) / (step - before)
        if not abs(ours[str(step)] - other) <= case["tolerance"] * other:
            wrong.append(f"step {step}: {ours[str(step)]} and {other}")
    if wrong:
        sys.exit(f"{name}: the trainings disagree, nothing is timed: {'; '.join(wrong)}")
