"""Where and with what the table was made: hardware, versions of both sides, threads."""

import json
import os
import subprocess

from common import ROOT, run

PEERS = ("torch", "transformers", "accelerate", "peft", "trl", "datasets", "tokenizers", "safetensors", "numpy")
# As the peers' scripts get them; a package that isn't there stops the parts that need it, with their own message.
ASK = """
import importlib.metadata, json, platform, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
import torch
print(json.dumps({"python": platform.python_version(), "threads": torch.get_num_threads(), **{name: version(name) for name in sys.argv[1:]}}))
"""


def commit():
    """Of the sources; None where they are no git tree."""
    asked = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def environment(sides):
    ours = json.loads(run([sides.oumi, "env", "--json"])[0])
    return {"cpu": ours["cpu"], "memory_bytes": ours["memory"]["total_bytes"], "os": ours["os"], "kernel": ours["kernel"],
            "oumi": {"version": ours["oumi_version"], "commit": commit(), "compiler": ours["compiler"], "build_type": ours["build_type"], **ours["libraries"]},
            "peers": json.loads(run([sides.python, "-c", ASK, *PEERS])[0]), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}


def heading(about, rounds):
    """The lines above the table."""
    cpu, ours, peers = about["cpu"], about["oumi"], dict(about["peers"])
    threads = peers.pop("threads")
    features = ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in cpu["features"])
    return (f"{cpu['model']} ({features}), {cpu['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB; {about['os']}, {about['kernel']}.\n"
            f"{threads} threads on every side (OMP_NUM_THREADS={about['OMP_NUM_THREADS'] or 'unset'}) unless a row says otherwise.\n"
            f"oumi.cpp {ours['version']} ({ours['commit'] or 'no git tree'}; {ours['compiler']}, {ours['build_type']}; LibTorch {ours['LibTorch']}); "
            f"peers: {', '.join(f'{name} {version}' for name, version in peers.items() if version)}.\n"
            f"Median (least-most) of {rounds} interleaved rounds.")
