"""The kernels' table: ours beside LibTorch's compositions, and the model's step put together from its parts.

usage: python3 kernels.py BUILD_FOLDER [--filter TEXT] [--clock wall|cpu]
Runs BUILD_FOLDER/benchmarks/kernels_bench (which compares both sides before it times them) and prints Markdown. On an idle machine leave the
clock alone; beside other work set OMP_NUM_THREADS=1 and --clock cpu.
"""

import json
import pathlib
import subprocess
import sys

LAYERS, TOKENS = 30, 2048
HIDDEN, KEYS, MIDDLE, VOCABULARY = 576, 192, 1536, 49152


def main():
    build, options = pathlib.Path(sys.argv[1]), sys.argv[2:]
    command = [build / "benchmarks" / "kernels_bench", "--rows-of-cross-entropy", str(TOKENS), *options]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode != 0:
        sys.exit(process.returncode)
    head, *lines = [json.loads(line) for line in process.stdout.splitlines()]
    print(f"instructions {head['instructions']} (LibTorch {head['libtorch']}), {head['threads']} threads\n")
    print("| forward and backward | ours, ms | LibTorch, ms | ratio | GFLOP/s |\n|---|---|---|---|---|")
    cases = {line["case"]: line for line in lines}
    for name, line in cases.items():
        if "ratio" in line:
            flops = f"{line['ours_gflops']:.0f}" if "ours_gflops" in line else ""
            print(f"| {name} | {line['ours_ms']:.2f} | {line['libtorch_ms']:.2f} | {line['ratio']:.2f} | {flops} |")
    print("\n| the machine | |\n|---|---|")
    for name, line in cases.items():
        if "gflops" in line:
            print(f"| {name} | {line['gflops']:.0f} GFLOP/s |")
        elif "gigabytes_per_second" in line:
            print(f"| {name} | {line['gigabytes_per_second']:.1f} GB/s |")
    for kind in ("fp32", "bf16"):
        step(cases, kind)


def step(cases, kind):
    """Each part's share of SmolLM2-135M's step without the optimizer, and how far the sum is from the products alone at their peak."""
    names = {"decoder layer, all": f"decoder_layer.{kind}", "attention": f"attention_causal_4x512.{kind}", "swiglu": f"swiglu.{kind}",
             "rms_norm + add_rms_norm": None, "rotary": f"rotary.{kind}", "linear + cross entropy": f"linear_cross_entropy_{TOKENS}.{kind}"}
    if f"decoder_layer.{kind}" not in cases or names["linear + cross entropy"] not in cases:
        return
    ms = {}
    for label, name in names.items():
        if name is None:
            ms[label] = LAYERS * (cases[f"rms_norm.{kind}"]["ours_ms"] + cases[f"add_rms_norm.{kind}"]["ours_ms"])
        else:
            ms[label] = (1 if "cross" in label else LAYERS) * cases[name]["ours_ms"]
    total = ms["decoder layer, all"] + ms["linear + cross entropy"]
    products = 6 * TOKENS * (LAYERS * HIDDEN * (2 * HIDDEN + 2 * KEYS + 3 * MIDDLE) + VOCABULARY * HIDDEN) / 1e9
    peak = max(line["gflops"] for name, line in cases.items() if "gflops" in line)
    print(f"\nSmolLM2-135M, {kind}: {total:.0f} ms forward and backward, {TOKENS / total * 1e3:.0f} tokens/s; its weight products ({products:.0f} GFLOP) at "
          f"the best rate above would take {products / peak * 1e3:.0f} ms: {100 * products / peak * 1e3 / total:.0f}% of that roofline\n")
    print("| part | ms | share |\n|---|---|---|")
    for label, value in ms.items():
        print(f"| {label} | {value:.0f} | {100 * value / total:.0f}% |")


if __name__ == "__main__":
    main()
