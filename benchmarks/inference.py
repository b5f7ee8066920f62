"""Greedy generation and weight files: `oumi-cpp infer` against transformers, safetensors against its Python library."""

import json
import pathlib
import re
import shutil
import sys
import tempfile

from common import ROOT, interleaved, ratio, run, spread

TOKENIZER = ROOT / "tests" / "golden" / "text" / "bytelevel"


def prepare(sides, folder):
    """SmolLM2-135M's shape with random weights; a small tokenizer beside it, whose ids the answers rarely hold: texts are short, tokens many."""
    run(sides.peer("language_model.py", "prepare", folder, "smollm2-135m", 1, 8))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder)


def oumi_answers(sides, folder, questions, count, precision, batch_size):
    output = folder / "answers.jsonl"
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    out, _, _ = run([sides.oumi, "infer", "--model", folder, "--input", questions, "--output", output, "--max-new-tokens", count,
                     "--batch-size", batch_size, f"model.torch_dtype_str={dtype}"])
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    rate = float(re.search(r"([\d.e+]+) tokens/s", out).group(1))
    made = int(re.search(r"(\d+) new tokens", out).group(1))
    return {"answers": [row["response"] for row in rows], "tokens_per_second": rate, "new_tokens": made}


def peer_answers(sides, folder, questions, count, precision, batch_size):
    return json.loads(run(sides.peer("generate.py", folder, questions, count, precision, batch_size))[0].splitlines()[-1])


def tensors_of(path):
    """A safetensors file without its metadata: where every tensor lies, and the bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    return header, content[8 + size:]


def rows(sides, raw):
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        prepare(sides, folder)
        words = (ROOT / "README.md").read_text().split()
        cases = {"decode, 8 prompts of a few tokens, 64 new tokens": ([" ".join(words[i:i + 4]) for i in range(8)], 64, 1),
                 "decode, 16 prompts of a few tokens, 8 at a time, 64 new tokens": ([" ".join(words[i:i + 4]) for i in range(16)], 64, 8),
                 "prefill, 16 prompts of 150 words, 1 new token": ([" ".join(words[20 * i:20 * i + 150]) for i in range(16)], 1, 1)}
        for name, (prompts, count, batch_size) in cases.items():
            questions = folder / "questions.jsonl"
            # The first once more on either side: its time is start-up's.
            questions.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
            ours, theirs = (side(sides, folder, questions, count, "fp32", batch_size) for side in (oumi_answers, peer_answers))
            if ours["answers"] != theirs["answers"] or ours["new_tokens"] != count * len(prompts):
                sys.exit(f"{name}: the answers disagree, nothing is timed: {ours} {theirs}")
            precision = "bf16" if sides.has_bfloat16 else "fp32"
            results = raw[f"inference: {name}"] = interleaved({"oumi": lambda: oumi_answers(sides, folder, questions, count, precision, batch_size),
                                                                "hf": lambda: peer_answers(sides, folder, questions, count, precision, batch_size)}, sides.rounds)
            if count == 1:  # prompts a second on both sides, as tokens
                per_answer = theirs["prompt_tokens_per_second"] / theirs["tokens_per_second"]
                rates = {side: [r["tokens_per_second"] * per_answer for r in runs] for side, runs in results.items()}
            else:
                rates = {side: [r["tokens_per_second"] for r in runs] for side, runs in results.items()}
            table.append((f"SmolLM2-135M, {precision}, {name}, tokens/s", spread(rates["oumi"]), spread(rates["hf"]), "", ratio(rates["oumi"], rates["hf"])))

        source = folder / "model.safetensors"
        bench = sides.build / "benchmarks" / "safetensors_bench"


        def measured(command, name):
            # Into a new file, as a checkpoint is: replacing one costs what the file system takes to free the old one.
            (folder / name).unlink(missing_ok=True)
            return json.loads(run([*command, source, folder / name])[0].splitlines()[-1])

        measures = {"oumi": lambda: measured([bench], "ours.safetensors"), "peer": lambda: measured(sides.peer("weights.py"), "theirs.safetensors")}
        measures["oumi"]()  # the file is in the page cache for both
        results = raw["safetensors"] = interleaved(measures, sides.rounds)
        if results["oumi"][0]["sum"] != results["peer"][0]["sum"] or tensors_of(folder / "ours.safetensors") != tensors_of(folder / "theirs.safetensors"):
            sys.exit("safetensors: the files disagree, nothing is timed")
        for action in ("load", "save"):
            rates = {side: [r["bytes"] / r[f"{action}_seconds"] / 1e9 for r in runs] for side, runs in results.items()}
            table.append((f"safetensors, {action} 0.54 GB, GB/s", spread(rates["oumi"]), spread(rates["peer"]), "", ratio(rates["oumi"], rates["peer"])))
    return table
