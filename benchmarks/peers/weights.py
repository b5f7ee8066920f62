"""The safetensors library on the same file, peer of benchmarks/safetensors_bench.cpp: loads every tensor, saves them, and flushes to the disk,
as our side does.

usage: python weights.py MODEL.safetensors OUT.safetensors
"""

import json
import os
import sys
import time


def main():
    import torch  # noqa: F401  before the clock starts
    from safetensors.torch import load_file, save_file

    source, target = sys.argv[1:]
    begin = time.perf_counter()
    weights = {name: tensor.clone() for name, tensor in load_file(source).items()}
    load = time.perf_counter() - begin
    begin = time.perf_counter()
    save_file(weights, target, metadata={"format": "pt"})
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    save = time.perf_counter() - begin
    print(json.dumps({"bytes": sum(t.numel() * t.element_size() for t in weights.values()),
                      "sum": sum(t.double().sum().item() for t in weights.values()), "load_seconds": load, "save_seconds": save}))


if __name__ == "__main__":
    main()
