"""Text to packed rows of tokens on disk: what `oumi-cpp train` does before its first step, against `datasets` with the same tokenizer and
TRL's packing. The same file on both sides, an empty cache each time; ours with the start of the program, the peer without its imports."""

import array
import hashlib
import json
import pathlib
import random
import sys
import tempfile

from common import ROOT, interleaved, ratio, run, spread

ROW, VOCABULARY = 1024, 16384
MEGABYTES, CHECKED_MEGABYTES = 50, 2


def source_lines():
    """The repository's own text and code: enough for a vocabulary."""
    folders = [ROOT / name for name in ("docs", "oumi", "cli", "benchmarks", "tests", "scripts")]
    files = [ROOT / "README.md", *sorted(path for folder in folders for kind in ("*.md", "*.h", "*.cpp", "*.py") for path in folder.rglob(kind))]
    return [path.read_text().splitlines(keepends=True) for path in files]


def write_corpus(path, megabytes):
    """Documents of 10 to 100 successive lines of one file, drawn by a seed."""
    draw, files, size = random.Random(0), source_lines(), 0
    weights = [len(lines) for lines in files]
    with open(path, "w") as out:
        while size < megabytes * 1_000_000:
            for lines in draw.choices(files, weights, k=100):
                begin = draw.randrange(len(lines))
                text = "".join(lines[begin:begin + draw.randrange(10, 100)])
                out.write(json.dumps({"text": text}) + "\n")
                size += len(text.encode())


def text_bytes(path):
    with open(path) as lines:
        return sum(len(json.loads(line)["text"].encode()) for line in lines)


class Case:
    def __init__(self, sides, folder, data):
        self.sides, self.folder, self.data, self.tokenizer = sides, folder, data, folder / "tokenizer"

    def command(self, *arguments):
        config = self.folder / "oumi.yaml"
        config.write_text(json.dumps({
            "model": {"model_name": "llama", "tokenizer_name": str(self.tokenizer)},
            "data": {"train": {"datasets": [{"dataset_name": "pretraining", "dataset_path": str(self.data),
                                             "dataset_kwargs": {"seq_length": ROW, "append_concat_token": False}}]}}}))
        return [self.sides.oumi, "tokenize", "-c", config, *arguments]

    def oumi(self):
        with tempfile.TemporaryDirectory(dir=self.folder) as cache:
            _, seconds, peak = run(["env", f"OUMI_CACHE={cache}", *self.command("--limit", 0)])
            note = json.loads(next(pathlib.Path(cache, "tokens").glob("*.json")).read_text())
            return {"seconds": seconds, "rows": note["rows"], "peak_rss_mib": peak}

    def peer(self, processes, *options):
        with tempfile.TemporaryDirectory(dir=self.folder) as cache:
            out, _, peak = run(self.sides.peer("text.py", self.data, self.tokenizer, ROW, cache, processes, *options))
            return {**json.loads(out.splitlines()[-1]), "peak_rss_mib": peak}


def check_ids(case):
    """All tokens of all rows."""
    with tempfile.TemporaryDirectory(dir=case.folder) as cache:
        out, _, _ = run(["env", f"OUMI_CACHE={cache}", *case.command("--json")])
    ids = array.array("i", (id for line in out.splitlines() for id in json.loads(line)["input_ids"]))
    ours, theirs = {"tokens": len(ids), "sha256": hashlib.sha256(ids.tobytes()).hexdigest()}, case.peer(1, "--ids")["ids"]
    if ours != theirs or not ids:
        sys.exit(f"text: the tokens disagree, nothing is timed: {ours} {theirs}")


def rows(sides, raw, data=None):
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        small, whole = folder / "checked.jsonl", pathlib.Path(data) if data else folder / "corpus.jsonl"
        if data:
            with open(data) as lines, open(small, "w") as out:
                out.writelines(line for _, line in zip(range(1000), lines))
        else:
            write_corpus(small, CHECKED_MEGABYTES)
            write_corpus(whole, MEGABYTES)
        run([sides.oumi, "tokenizer", "train", "--files", small, "--vocab-size", VOCABULARY, "--eos", "<|endoftext|>", "--out", folder / "tokenizer"])
        check_ids(Case(sides, folder, small))
        case, size = Case(sides, folder, whole), text_bytes(whole)
        results = interleaved({"oumi": case.oumi, "2 processes": lambda: case.peer(2), "1 process, threads": lambda: case.peer(1)}, sides.rounds)
    if len({run["rows"] for runs in results.values() for run in runs}) != 1:
        sys.exit(f"text: the numbers of rows disagree, nothing is timed: {results}")
    raw["text"] = {"text_bytes": size, "row_tokens": ROW, "vocabulary": VOCABULARY, "runs": results}
    rates = {side: [size / 1e6 / r["seconds"] for r in runs] for side, runs in results.items()}
    peers = [side for side in rates if side != "oumi"]
    return [(f"text to rows of {ROW} tokens on disk, {size / 1e6:.0f} MB, MB/s", spread(rates["oumi"]),
             ", ".join(f"datasets, {peer} {spread(rates[peer])}" for peer in peers), "",
             ratio(rates["oumi"], [max(both) for both in zip(*(rates[peer] for peer in peers))]))]
