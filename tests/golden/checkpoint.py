"""Files as PyTorch, safetensors and Transformers write them, for the checkpoint tests.

Regenerate, with torch 2.11, safetensors 0.8, transformers 5.23 and huggingface_hub installed:
    python tests/golden/checkpoint.py
"""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

OUT = Path(__file__).parent / "checkpoint"

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz",
]


def pattern(*shape):
    """0, 1, 2, ... : every dtype holds the first few of them exactly."""
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)


def safetensors_files():
    state = {name: (pattern(3) % 2 if name == "bool" else 2.0 ** pattern(3) if "e8m0" in name else pattern(3)).to(getattr(torch, name)) for name in DTYPES}
    state |= {"weight": pattern(2, 3), "scalar": torch.tensor(7.0), "empty": torch.zeros(0, 3), 'quote"back\\slash\ntab\té': pattern(2), "": pattern(1)}
    save_file(state, OUT / "dtypes.safetensors", metadata={"format": "pt"})
    save_file({}, OUT / "nothing.safetensors")

    folder = OUT / "sharded"
    folder.mkdir()
    state = {f"layer{i}.weight": pattern(4, n) + i for i, n in enumerate([4, 20, 3, 2, 9, 1])}
    split = split_torch_state_dict_into_shards(state, max_shard_size=128, filename_pattern="model{suffix}.safetensors")
    for file, names in split.filename_to_tensors.items():
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_parameters": sum(t.numel() for t in state.values()), **split.metadata}, "weight_map": split.tensor_to_filename}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


def torch_files():
    base = pattern(4, 6)
    tied = torch.nn.Parameter(pattern(2, 2))
    state = torch.nn.BatchNorm1d(2).state_dict()
    state.update({
        "tied": tied, "tied_too": tied, "transposed": base.t(), "slice": base[1:3, 2::2], "bf16": pattern(3).bfloat16(), "half": pattern(3).half(),
        "bool": pattern(3) > 1, "fp8": pattern(3).to(torch.float8_e4m3fn), "u16": pattern(3).to(torch.uint16), "scalar": torch.tensor(7, dtype=torch.int16),
        "empty": torch.zeros(0, 3), "complex": torch.complex(pattern(2), -pattern(2)),
    })
    torch.save(state, OUT / "state_dict.pt")
    torch.save({"epoch": 3, "state_dict": {"weight": base}, "args": {"lr": 0.1}}, OUT / "nested.pt", pickle_protocol=4)
    torch.save(state["tied"], OUT / "tensor_only.pt")
    torch.save({"weight": base, "note": "text"}, OUT / "mixed.pt")
    torch.save({"weight": base, "hook": Evil()}, OUT / "evil.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, OUT / "module.pt")
    torch.save({"weight": base}, OUT / "legacy.pt", _use_new_zipfile_serialization=False)

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "weight_decay": 0.0}], lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda s: 1 / (s + 1)] * 2)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    torch.save(optimizer.state_dict(), OUT / "optimizer.pt")
    torch.save(schedule.state_dict(), OUT / "scheduler.pt")
    group = optimizer.state_dict()["param_groups"][0]
    values = {"exp_avg": optimizer.state_dict()["state"][0]["exp_avg"].tolist(), "lr": group["lr"], "betas": group["betas"]}

    torch.manual_seed(1234)
    np.random.seed(5)
    random.seed(6)
    torch.rand(3)
    state = torch.get_rng_state()
    torch.save({"python": random.getstate(), "numpy": np.random.get_state(), "cpu": state}, OUT / "rng_state.pth")
    save_file({"cpu": state}, OUT / "rng_state.safetensors", metadata={"format": "pt"})
    values["rand"] = torch.rand(4, dtype=torch.float64).tolist()
    values["numpy_keys"] = np.random.get_state()[1][:4].tolist()
    (OUT / "values.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    safetensors_files()
    torch_files()
