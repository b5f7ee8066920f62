"""The side-by-side table: oumi.cpp against Python peers, sides interleaved, medians. Called by `make bench`.

usage: python3 run.py BUILD_FOLDER PEER_PYTHON [--rounds N] [--parts loader,images,language,inference,ddp] [--case TEXT]
Writes BUILD_FOLDER/bench/report.{md,json} and prints the table. Results are checked before anything is timed: the loaders give the same
order and pixels, and trainings reach the same losses.
"""

import argparse
import json
import os
import platform

import ddp
import images
import inference
import language
from common import Sides

PARTS = ("loader", "images", "language", "inference", "ddp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--case", help="only the language models, or the cases of ddp, whose name has this in it")
    arguments = parser.parse_args()
    sides = Sides(arguments.build, arguments.python, arguments.rounds)
    raw, rows = {"rounds": sides.rounds}, []
    for part in arguments.parts.split(","):
        if part == "loader":
            rows += images.loader_rows(sides, raw)
        elif part == "images":
            rows += images.training_rows(sides, raw)
        elif part == "language":
            rows += language.rows(sides, raw, arguments.case)
        elif part == "inference":
            rows += inference.rows(sides, raw)
        elif part == "ddp":
            rows += ddp.rows(sides, raw, arguments.case)
        else:
            parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {part}")

    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    head = (f"{model}, {os.cpu_count()} cores; median (least-most) of {sides.rounds} interleaved rounds; OMP_NUM_THREADS="
            f"{os.environ.get('OMP_NUM_THREADS', 'unset')}.\n\n| | oumi.cpp | Hugging Face | plain PyTorch | ratio to the peer |\n|---|---|---|---|---|\n")
    table = head + "".join(f"| {name} | {a} | {b} | {c} | {f'{value:.2f}' if value else ''} |\n" for name, a, b, c, value in rows)
    out = sides.build / "bench"
    out.mkdir(exist_ok=True)
    (out / "report.md").write_text(table)
    (out / "report.json").write_text(json.dumps({"hardware": model, "cores": os.cpu_count(), **raw}, indent=1))
    print(table)


if __name__ == "__main__":
    main()
