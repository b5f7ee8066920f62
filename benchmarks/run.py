"""The side-by-side table: oumi.cpp against Python peers, sides interleaved, medians. Called by `make bench`.

usage: python3 run.py BUILD_FOLDER PEER_PYTHON [ROUNDS]
Writes BUILD_FOLDER/bench/report.{md,json} and prints the table. Results are checked before anything is timed: the loaders give the same
order and pixels, and both trainings reach about the same mean loss.
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD, PYTHON = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
CONFIG = ROOT / "configs" / "simple_model_fashion_mnist.yaml"


def run(command):
    """Output, wall seconds and peak resident memory (MiB) of a command; stops the benchmark when it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), None
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        err = process.stderr.read()
        sys.exit(f"failed: {' '.join(map(str, command))}\n{out}{err}")
    return out, seconds, usage.ru_maxrss / 1024


def oumi_training(batch, steps):
    with tempfile.TemporaryDirectory() as folder:
        settings = {"output_dir": folder, "max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 1e-3, "lr_scheduler_type": "linear",
                    "warmup_ratio": "null", "weight_decay": 0.0, "logging_steps": max(steps // 10, 1), "eval_strategy": "no",
                    "save_strategy": "no", "save_final_model": "false", "disable_tqdm": "true", "enable_tensorboard": "false", "log_level": "error"}
        overrides = [f"training.{key}={value}" for key, value in settings.items()]
        # As the peers' data: pixels in [0, 1], no validation set.
        overrides += ["data.train.datasets[0].dataset_kwargs.mean=0.0", "data.train.datasets[0].dataset_kwargs.std=1.0"]
        _, seconds, peak = run([BUILD / "oumi-cpp", "train", "-c", CONFIG, "--overwrite", *overrides])
        lines = [json.loads(line) for line in (pathlib.Path(folder) / "metrics_rank0000.jsonl").read_text().splitlines()]
        rates = [line["samples_per_second"] for line in lines if "samples_per_second" in line][1:]
        loss = next(line["train_loss"] for line in lines if "train_loss" in line)
        return {"images_per_second": len(rates) / sum(1 / rate for rate in rates) if rates else 0.0, "first_step_seconds": seconds,
                "peak_rss_mib": peak, "final_loss": loss}


def peer_training(side, batch, steps):
    out, _, peak = run([PYTHON, ROOT / "benchmarks/peers/simple_model.py", side, str(batch), str(steps)])
    return {**json.loads(out.splitlines()[-1]), "peak_rss_mib": peak}


def loader(command):
    return [json.loads(line) for line in run(command)[0].splitlines() if line.startswith("{")]


def median(values):
    return statistics.median(values)


def spread(values):
    return f"{median(values):,.4g} ({min(values):,.4g}-{max(values):,.4g})"


def training_rows(batch, steps):
    sides = {"oumi": lambda: oumi_training(batch, steps), "hf": lambda: peer_training("hf", batch, steps), "torch": lambda: peer_training("torch", batch, steps)}
    results = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, measure in sides.items():
            results[side].append(measure())
    losses = {side: median([r["final_loss"] for r in runs]) for side, runs in results.items()}
    if abs(losses["oumi"] - losses["hf"]) > 0.05 * losses["hf"]:
        sys.exit(f"batch {batch}: the trainings disagree, nothing is timed: {losses}")
    return results


def main():
    rows, raw = [], {"rounds": ROUNDS}

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(loader([BUILD / "benchmarks" / "data_loader_bench"]))
        theirs.append(loader([PYTHON, ROOT / "benchmarks/peers/data_loader.py"]))
    for left, right in zip(ours, theirs):
        if left[0]["order"] != right[0]["order"] or abs(left[0]["pixels"] / right[0]["pixels"] - 1) > 1e-6:
            sys.exit(f"the loaders disagree, nothing is timed: {left[0]} {right[0]}")
    best_peer = [max(line["samples_per_second"] for line in lines[1:]) for lines in theirs]
    raw["data_loader"] = {"oumi": ours, "torch": theirs}
    for case in ("get_batch", "get"):
        mine = [max(line["samples_per_second"] for line in lines[1:] if line["case"] == case and line["num_workers"] <= 2) for lines in ours]
        rows.append((f"loader, batch 16, `{case}` path, samples/s", spread(mine), "", spread(best_peer), median([a / b for a, b in zip(mine, best_peer)])))
    memory = [max(l["rss_mib"] for l in lines[1:]) / min(l["rss_mib"] for l in lines[1:]) for lines in ours]
    rows.append(("loader memory, most / least over 0-8 workers", f"{median(memory):.3f}", "", "", None))

    for batch, steps in ((16, 1500), (128, 300)):
        results = raw[f"batch_{batch}"] = training_rows(batch, steps)
        rates = {side: [r["images_per_second"] for r in runs] for side, runs in results.items()}
        ratio = median([a / b for a, b in zip(rates["oumi"], rates["hf"])])
        rows.append((f"training, batch {batch}, images/s", spread(rates["oumi"]), spread(rates["hf"]), spread(rates["torch"]), ratio))
        if batch == 16:
            peaks = {side: [r["peak_rss_mib"] for r in runs] for side, runs in results.items()}
            rows.append(("peak memory, MiB", spread(peaks["oumi"]), spread(peaks["hf"]), spread(peaks["torch"]),
                         median([a / b for a, b in zip(peaks["oumi"], peaks["hf"])])))
    one = {"oumi": [], "hf": []}
    for _ in range(ROUNDS):
        one["oumi"].append(oumi_training(16, 1)["first_step_seconds"])
        one["hf"].append(peer_training("hf", 16, 1)["first_step_seconds"])
    raw["one_step"] = one
    rows.append(("whole one-step run against HF's first step, s", spread(one["oumi"]), spread(one["hf"]), "", median([b / a for a, b in zip(one["oumi"], one["hf"])])))

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    head = (f"{model}, {os.cpu_count()} cores; median (least-most) of {ROUNDS} interleaved rounds; OMP_NUM_THREADS="
            f"{os.environ.get('OMP_NUM_THREADS', 'unset')}.\n\n| | oumi.cpp | HF Trainer | plain PyTorch | ratio to the peer |\n|---|---|---|---|---|\n")
    table = head + "".join(f"| {name} | {a} | {b} | {c} | {f'{ratio:.2f}' if ratio else ''} |\n" for name, a, b, c, ratio in rows)
    out = BUILD / "bench"
    out.mkdir(exist_ok=True)
    (out / "report.md").write_text(table)
    (out / "report.json").write_text(json.dumps(raw, indent=1))
    print(table)


if __name__ == "__main__":
    main()
