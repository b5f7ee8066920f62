"""Samples per second of torch.utils.data.DataLoader over Fashion-MNIST: the peer of data_loader_bench.

usage: python data_loader.py [FOLDER_OF_FASHION_MNIST] [SECONDS_PER_CASE]

Samples are what torchvision's FashionMNIST with ToTensor gives (uint8 tensor in memory, each divided by 255 when it is
asked for), less the detour over a PIL image. Two datasets: one with __getitem__ and one with __getitems__ too, which
PyTorch's loader uses to fetch a batch's samples in one call. The order is accelerate's, as in transformers' Trainer.
"""

import gzip
import json
import sys
import time
from pathlib import Path

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import DataLoader, Dataset

BATCH_SIZE = 16
SEED = 42


def read_idx(path):
    packed = path.with_name(path.name + ".gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    dims = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    return torch.frombuffer(bytearray(data[4 + 4 * dims :]), dtype=torch.uint8).view(shape)


class FashionMnist(Dataset):
    def __init__(self, folder):
        self.images = read_idx(folder / "train-images-idx3-ubyte")
        self.labels = read_idx(folder / "train-labels-idx1-ubyte").long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"images": self.images[index].unsqueeze(0).to(torch.float32).div(255), "labels": self.labels[index]}


class FashionMnistBatched(FashionMnist):
    def __getitems__(self, indices):
        images = self.images[indices].unsqueeze(1).to(torch.float32).div(255)
        labels = self.labels[indices]
        return [{"images": image, "labels": label} for image, label in zip(images, labels)]


def loader_of(dataset, num_workers):
    sampler = SeedableRandomSampler(dataset, data_seed=SEED)
    return DataLoader(dataset, batch_size=BATCH_SIZE, sampler=sampler, num_workers=num_workers, persistent_workers=num_workers > 0)


def check(dataset):
    order, pixels = 0, 0.0
    for batch in loader_of(dataset, 0):
        pixels += batch["images"].sum(dtype=torch.float64).item()
        for label in batch["labels"].tolist():
            order = (order * 1000003 + label + 1) % 2147483647
    return {"order": order, "pixels": pixels}


def resident_mib():
    """This process and its workers, pages that they share counted once."""
    total = 0
    me = Path("/proc/self")
    children = (me / "task" / Path("/proc/thread-self").resolve().name / "children").read_text().split()
    for process in [me, *(Path("/proc") / child for child in children)]:
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def measure(dataset, num_workers, seconds):
    loader = loader_of(dataset, num_workers)
    start = time.perf_counter()
    iterator = iter(loader)
    next(iterator)
    first_batch = (time.perf_counter() - start) * 1000
    memory = resident_mib()
    del iterator
    loader = loader_of(dataset, num_workers)
    samples, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for batch in loader:
            samples += len(batch["labels"])
    return {"samples_per_second": samples / elapsed, "first_batch_ms": first_batch, "rss_mib": memory}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    base = {"bench": "data_loader", "side": "torch"}
    cases = [("get", FashionMnist(folder)), ("get_batch", FashionMnistBatched(folder))]
    found = [check(dataset) for _, dataset in cases]
    assert found[0] == found[1], found
    print(json.dumps({**base, "case": "check", **found[0]}), flush=True)
    for name, dataset in cases:
        for workers in (0, 1, 2):
            line = {**base, "case": name, "batch_size": BATCH_SIZE, "num_workers": workers}
            print(json.dumps({**line, **measure(dataset, workers, seconds)}), flush=True)


if __name__ == "__main__":
    main()
