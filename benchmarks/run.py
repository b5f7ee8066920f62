"""The side-by-side table: oumi.cpp against Python peers, sides interleaved, medians. Called by `make bench`.

usage: python3 run.py BUILD_FOLDER PEER_PYTHON [--rounds N] [--parts loader,images,...] [--case TEXT] [--data FILE]
Writes BUILD_FOLDER/bench/report.{md,json} (and scaling.svg) and prints the table. Results are checked before anything is timed: the loaders
give the same order and pixels, tokenizers the same tokens, and trainings reach the same losses.

Without instructions for bfloat16 PyTorch takes minutes a step in it: there, parts whose precision says nothing are measured in float32, and cases
that are about bfloat16 only when --case asks for them.
"""

import argparse
import json

import ddp
import images
import inference
import language
import packed
import scaling
import text
from common import Sides
from environment import environment, heading

# Each gives the table's rows, of the options it knows, and leaves what it measured in `raw`.
PARTS = {
    "loader": lambda sides, raw, options: images.loader_rows(sides, raw),
    "images": lambda sides, raw, options: images.training_rows(sides, raw),
    "language": lambda sides, raw, options: language.rows(sides, raw, options.case),
    "packed": lambda sides, raw, options: packed.rows(sides, raw),
    "inference": lambda sides, raw, options: inference.rows(sides, raw),
    "text": lambda sides, raw, options: text.rows(sides, raw, options.data),
    "ddp": lambda sides, raw, options: ddp.rows(sides, raw, options.case),
    "scaling": lambda sides, raw, options: scaling.rows(sides, raw),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--case", help="only the language models, or the cases of ddp, whose name has this in it")
    parser.add_argument("--data", help="JSONL with `text`, for the text part instead of documents made from this repository")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {part}")
    sides = Sides(arguments.build, arguments.python, arguments.rounds)
    about, raw, rows = environment(sides), {}, []
    sides.has_bfloat16 = any(name in about["cpu"]["features"] for name in ("avx512_bf16", "amx_bf16"))
    out = sides.build / "bench"
    out.mkdir(exist_ok=True)
    for part in parts:
        rows += PARTS[part](sides, raw, arguments)
        # After each part: what was measured stays when a later one is stopped.
        table = write(out, about, arguments.rounds, rows, raw)
    print(table)


def write(out, about, rounds, rows, raw):
    """report.md and report.json in `out`; gives the former's text."""
    table = f"{heading(about, rounds)}\n\n| | oumi.cpp | Hugging Face | plain PyTorch | ratio to the peer |\n|---|---|---|---|---|\n"
    table += "".join(f"| {name} | {a} | {b} | {c} | {f'{value:.2f}' if value else ''} |\n" for name, a, b, c, value in rows)
    (out / "report.md").write_text(table)
    columns = ("name", "oumi", "hugging_face", "torch", "ratio")
    (out / "report.json").write_text(json.dumps({**about, "rounds": rounds, "table": [dict(zip(columns, row)) for row in rows], "runs": raw}, indent=1))
    return table


if __name__ == "__main__":
    main()
