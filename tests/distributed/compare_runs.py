"""compare_runs.py EXPECTED ACTUAL [--loss 1e-5] [--weights 1e-4] [--file model.safetensors]: the losses of two runs' metrics and their final weights.

Losses by relative, weights by absolute difference. No packages: reads safetensors itself.
"""
import argparse
import array
import json
import os
import struct
import sys


def losses(folder):
    with open(os.path.join(folder, "metrics_rank0000.jsonl")) as file:
        records = [json.loads(line) for line in file]
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def weights(folder, name):
    with open(os.path.join(folder, name), "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", (name, entry["dtype"])
        begin, end = entry["data_offsets"]
        result[name] = array.array("f", data[begin:end])
    return result


parser = argparse.ArgumentParser()
parser.add_argument("expected")
parser.add_argument("actual")
parser.add_argument("--loss", type=float, default=1e-5)
parser.add_argument("--weights", type=float, default=1e-4)
parser.add_argument("--file", default="model.safetensors", help="of the final weights")
parser.add_argument("--steps", type=int, default=1, help="the least number of losses to compare")
options = parser.parse_args()

expected, actual = losses(options.expected), losses(options.actual)
if expected.keys() != actual.keys() or len(expected) < options.steps:
    sys.exit(f"steps: expected {sorted(expected)}, got {sorted(actual)}")
worst_loss = max((abs(actual[s] - e) / max(abs(e), 1e-12), s) for s, e in expected.items())
a, b = weights(options.expected, options.file), weights(options.actual, options.file)
if a.keys() != b.keys():
    sys.exit(f"tensors: expected {sorted(a)}, got {sorted(b)}")
for name in a:
    if len(a[name]) != len(b[name]):
        sys.exit(f"{name}: expected {len(a[name])} elements, got {len(b[name])}")
worst_weight = max((max(abs(x - y) for x, y in zip(a[n], b[n])), n) for n in a)
print(f"{options.actual}: loss differs by at most {worst_loss[0]:.2g} (step {worst_loss[1]}), weights by {worst_weight[0]:.2g} ({worst_weight[1]})")
if worst_loss[0] > options.loss or worst_weight[0] > options.weights:
    sys.exit(f"expected at most {options.loss:g} and {options.weights:g}")
