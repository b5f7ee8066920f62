"""The performance gate: two builds of oumi-cpp on a fixed list of work, in pairs. Called by `make bench-gate`.

usage: python3 gate.py BASE_BUILD NEW_BUILD [--rounds N] [--limit PERCENT]

Each round runs the base, the new build and the base again, so that the base beside itself shows what the machine's noise is worth.
Work fails when the new build's median is slower than the base's by more than the limit and by more than that noise; results (losses,
answers) have to agree first. Writes NEW_BUILD/bench/gate.{md,json}, prints the table, and exits with 1 when anything failed.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from common import ROOT, Sides, harmonic_mean, median, oumi_training, run

FASHION = ROOT / "configs" / "simple_model_fashion_mnist.yaml"
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024,
         "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 1024, "tie_word_embeddings": True}


def images(batch, steps):
    def measure(sides, _):
        settings = {"max_steps": steps, "per_device_train_batch_size": batch, "logging_steps": steps // 5}
        lines, _, _ = oumi_training(sides, FASHION, settings, [])
        rates = [line["samples_per_second"] for line in lines if "samples_per_second" in line]
        return {"cost": 1 / harmonic_mean(rates[1:]), "result": next(line["train_loss"] for line in lines if "train_loss" in line)}

    return measure


def one_step(sides, _):
    lines, seconds, _ = oumi_training(sides, FASHION, {"max_steps": 1, "per_device_train_batch_size": 16}, [])
    return {"cost": seconds, "result": next(line["train_loss"] for line in lines if "train_loss" in line)}


def language(*overrides):
    def measure(sides, folder):
        settings = {"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-4, "logging_steps": 1}
        lines, _, _ = oumi_training(sides, folder / "train.json", settings, overrides)
        steps = [line for line in lines if "loss" in line]
        return {"cost": 1 / harmonic_mean([line["samples_per_second"] for line in steps][2:]), "result": steps[-1]["loss"]}

    return measure


def decoding(together):
    def measure(sides, folder):
        answers = folder / "answers.jsonl"
        answers.unlink(missing_ok=True)
        out, _, _ = run([sides.oumi, "infer", "--model", folder / "model", "--input", folder / "questions.jsonl", "--output", answers,
                         "--batch-size", together, "--max-new-tokens", 64, "model.torch_dtype_str=bfloat16"])
        return {"cost": 1 / float(re.search(r"([\d.e+]+) tokens/s", out).group(1)), "result": len(answers.read_text().splitlines())}

    return measure


def loader(sides, _):
    lines = [json.loads(line) for line in run([sides.build / "benchmarks" / "data_loader_bench"])[0].splitlines() if line.startswith("{")]
    return {"cost": 1 / max(line["samples_per_second"] for line in lines[1:] if line["case"] == "get_batch"), "result": lines[0]["pixels"]}


WORK = {
    "SimpleModel, batch 16": images(16, 1500),
    "SimpleModel, batch 128": images(128, 300),
    "SimpleModel, a whole run of one step": one_step,
    "loader, batched path": loader,
    "Llama of 13M parameters, 4 x 256, fp32": language("model.torch_dtype_str=float32"),
    "the same, bf16": language("model.torch_dtype_str=bfloat16"),
    "the same, LoRA r=16, bf16": language("model.torch_dtype_str=bfloat16", "training.use_peft=true", "peft.lora_r=16",
                                          "peft.lora_target_modules=[q_proj,v_proj]"),
    "the same, decoding in bf16": decoding(1),
    "the same, 8 sequences together": decoding(8),
}


def prepare(folder, base):
    """A small language model of the base's making, with token ids to train on and questions to answer."""
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_text(json.dumps(LLAMA))
    rows = ({"input_ids": [(i * 7919 + t * t * 31) % 8192 for t in range(256)]} for i in range(64))
    (folder / "tokens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokens = {"train": {"datasets": [{"dataset_name": "pretokenized", "dataset_path": str(folder / "tokens.jsonl")}]}}
    model = {"model_name": str(folder / "config"), "load_pretrained_weights": False}
    config = folder / "make.json"
    config.write_text(json.dumps({"model": model, "data": tokens}))
    run([base.oumi, "train", "-c", config, f"training.output_dir={folder / 'model'}", "training.max_steps=1", "training.save_strategy=no",
         "training.eval_strategy=no"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "tests" / "golden" / "text" / "bytelevel" / name, folder / "model")
    (folder / "train.json").write_text(json.dumps({"model": {"model_name": str(folder / "model")}, "data": tokens}))
    (folder / "questions.jsonl").write_text("".join(json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(8)))


def instructions(sides):
    """Instructions of a run of one step on one thread: by the processor's counter, or else by callgrind, which sees the AVX2 forms of the
    kernels alone; nothing where neither can."""
    with tempfile.TemporaryDirectory() as folder:
        run_of_one_step = [sides.oumi, "train", "-c", FASHION, "--overwrite", f"training.output_dir={folder}/out", "training.max_steps=1",
                           "training.save_strategy=no", "training.eval_strategy=no"]
        counters = {r"(\d+),.*instructions": ["perf", "stat", "-x", ",", "-e", "instructions:u"],
                    r"I\s+refs:\s+([\d,]+)": ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out"]}
        for pattern, counter in counters.items():
            try:
                ran = subprocess.run(list(map(str, [*counter, *run_of_one_step])), capture_output=True, check=True, text=True,
                                     env={**os.environ, "OMP_NUM_THREADS": "1"})
            except (OSError, subprocess.CalledProcessError):
                continue
            if found := re.search(pattern, ran.stderr):
                return int(found.group(1).replace(",", ""))
    return None


def judge(name, rounds, limit):
    """One row of the table; `rounds` holds (base, new, base again)."""
    results = {side["result"] for triple in rounds for side in triple}
    if max(results) - min(results) > 0.02 * abs(max(results)):
        return {"work": name, "verdict": "results differ", "results": sorted(results)}
    slower = median([new["cost"] / ((before["cost"] * after["cost"]) ** 0.5) for before, new, after in rounds]) - 1
    # What the base beside itself differs by: the middle of the rounds' differences, and no less than their half spread over sqrt(rounds).
    apart = [after["cost"] / before["cost"] - 1 for before, _, after in rounds]
    noise = max(median([abs(value) for value in apart]), (max(apart) - min(apart)) / 2 / len(rounds) ** 0.5)
    failed = slower > max(limit, noise)
    return {"work": name, "slower": slower, "noise": noise, "verdict": "slower" if failed else "ok" if noise <= limit else "ok, but noisy"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=3.0, help="per cent by which work may be slower")
    parser.add_argument("--work", default="", help="only the work whose name has this in it")
    arguments = parser.parse_args()
    base, new = (Sides(build, None, arguments.rounds) for build in (arguments.base, arguments.new))
    limit, table = arguments.limit / 100, []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        prepare(folder, base)
        for name, measure in WORK.items():
            if arguments.work in name:
                table.append(judge(name, [tuple(measure(side, folder) for side in (base, new, base)) for _ in range(arguments.rounds)], limit))
    counts = [instructions(side) for side in (base, new)]
    if None not in counts:
        more = counts[1] / counts[0] - 1
        table.append({"work": "instructions of a run of one step", "slower": more, "noise": 0.002, "verdict": "slower" if more > 0.01 else "ok"})

    text = f"The new build beside the base, {arguments.rounds} rounds; fails above {arguments.limit:g}% and the noise.\n\n"
    text += "| work | slower by | noise | |\n|---|---|---|---|\n"
    for row in table:
        text += f"| {row['work']} | " + (f"{row['slower']:+.1%} | {row['noise']:.1%}" if "slower" in row else " | ") + f" | {row['verdict']} |\n"
    if None in counts:
        text += "\nInstructions are not counted: perf finds no counter here, and valgrind is not installed.\n"
    out = new.build / "bench"
    out.mkdir(exist_ok=True)
    (out / "gate.md").write_text(text)
    (out / "gate.json").write_text(json.dumps(table, indent=1))
    print(text)
    sys.exit(1 if any(row["verdict"] in ("slower", "results differ") for row in table) else 0)


if __name__ == "__main__":
    main()
