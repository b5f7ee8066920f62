"""PyTorch's DistributedDataParallel over Gloo on two processes: the peer of `oumi-cpp launch --nproc-per-node 2 train`.

usage: python ddp.py prepare images FOLDER              SimpleModel's initial weights, for both sides
       python ddp.py train images|language FOLDER STEPS BATCH      BATCH: of each process; samples in the data set's order
language_model.py prepares language models. Processes get one thread each. Prints one JSON object: samples_per_second over all steps but
the first tenth, losses by step (means over processes).
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

PROCESSES = 2


def prepare(folder):
    import torch
    from safetensors.torch import save_file
    from simple_model import SimpleModel

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_file({name: tensor.clone() for name, tensor in SimpleModel().state_dict().items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "SimpleModel", "init_kwargs": {}, "oumi_version": "0"}))


def model_and_data(kind, folder):
    import torch

    if kind == "images":
        from data_loader import FashionMnist
        from safetensors.torch import load_file
        from simple_model import SimpleModel

        model, data = SimpleModel(), FashionMnist(Path("/usr/share/datasets/fashion-mnist"))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model, lambda rows: {"images": data.images[rows].unsqueeze(1).to(torch.float32).div(255), "labels": data.labels[rows]}
    from transformers import AutoModelForCausalLM

    tokens = torch.tensor([json.loads(line)["input_ids"] for line in (folder / "tokens.jsonl").read_text().splitlines()])
    # All rows have one length: a mask of ones changes nothing.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), lambda rows: {"input_ids": tokens[rows], "labels": tokens[rows]}


def train(kind, folder, steps, batch):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model, rows_of = model_and_data(kind, folder)
    parameters = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if kind == "images" else 1e-4, weight_decay=0.0, fused=True)
    losses, begin, warm = [], None, max(steps // 10, 1)
    for step in range(steps):
        if step == warm:
            dist.barrier()
            begin = time.perf_counter()
        first = (step * PROCESSES + rank) * batch
        optimizer.zero_grad()
        loss = parameters(**rows_of(slice(first, first + batch)))["loss"]
        loss.backward()
        if kind == "language":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    dist.barrier()
    seconds = time.perf_counter() - begin
    means = torch.tensor(losses, dtype=torch.float64) / PROCESSES
    dist.all_reduce(means)
    if rank == 0:
        print(json.dumps({"samples_per_second": (steps - warm) * batch * PROCESSES / seconds, "losses": {str(i + 1): loss for i, loss in enumerate(means.tolist())}}))
    dist.destroy_process_group()


def start(arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, *arguments], env={**common, "RANK": str(rank)}) for rank in range(PROCESSES)]
    sys.exit(max(rank.wait() for rank in ranks))


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[3]))
    elif "RANK" in os.environ:
        train(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        start(sys.argv)
