"""What the parts of the table share: running a side, and figures over rounds."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Sides:
    """Where both sides' programs lie, and how often each is run."""

    def __init__(self, build, python, rounds):
        self.build, self.python, self.rounds = pathlib.Path(build).resolve(), python, rounds
        self.oumi = self.build / "oumi-cpp"
        self.has_bfloat16 = True  # whether the processor has instructions for its products

    def peer(self, script, *arguments):
        return [self.python, ROOT / "benchmarks" / "peers" / script, *map(str, arguments)]


def run(command):
    """Output, wall seconds and peak resident memory (MiB) of a command; stops the benchmark when it fails."""
    begin = time.perf_counter()
    # Errors go into a file: a full pipe would stop the command.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True)
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        errors.seek(0)
        if status != 0:
            sys.exit(f"failed: {' '.join(map(str, command))}\n{out}{errors.read()}")
    return out, seconds, usage.ru_maxrss / 1024


def oumi_training(sides, config, settings, overrides, program=None):
    """Trains by `config`; `settings` are fields of `training`, on top of what keeps a run to training alone; `program`: what runs `train`, where
    it is not the binary by itself. The metrics' lines, wall seconds and peak resident memory (MiB)."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"output_dir": folder, "eval_strategy": "no", "save_strategy": "no", "save_final_model": "false", "disable_tqdm": "true", "enable_tensorboard": "false",
                 "log_level": "error"}
        fields = [f"training.{key}={value}" for key, value in {**quiet, **settings}.items()]
        _, seconds, peak = run([*(program or [sides.oumi]), "train", "-c", config, "--overwrite", *fields, *overrides])
        return [json.loads(line) for line in (pathlib.Path(folder) / "metrics_rank0000.jsonl").read_text().splitlines()], seconds, peak


def on_cores(cores, processes):
    """What a command is put behind to run on the first `cores` cores that there are, shared out among its processes as threads."""
    return ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores])), "env", f"OMP_NUM_THREADS={cores // processes}"]


def harmonic_mean(rates):
    return len(rates) / sum(1 / rate for rate in rates) if rates else 0.0


def median(values):
    return statistics.median(values)


def ratio(above, below):
    """The median over rounds of a round's ratio."""
    return median([a / b for a, b in zip(above, below)])


def spread(values):
    return f"{median(values):,.4g} ({min(values):,.4g}-{max(values):,.4g})"


def interleaved(sides, rounds):
    """Results of each side's measurement (name -> function), side after side, `rounds` times."""
    results = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            results[name].append(measure())
    return results
