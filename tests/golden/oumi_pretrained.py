"""Model folders both ways between oumi-cpp and Oumi's own save_pretrained / from_pretrained.

Not part of the test suite: it needs Python packages, and Oumi's wheel, of which it imports the model classes alone (their
registry and logger are stood in for here, so that none of Oumi's dependencies is needed). From the repository's root, with
torch 2.11.0, numpy and safetensors installed and the binary built:
    pip download oumi==0.9 --no-deps -d /tmp/oumi && python3 -m zipfile -e /tmp/oumi/oumi-0.9-*.whl /tmp/oumi
    python tests/golden/oumi_pretrained.py --oumi /tmp/oumi
For each model: oumi-cpp trains it, Oumi reads the folder, and its logits equal oumi-cpp's predictions; then Oumi saves one with
other weights, and oumi-cpp predicts from that folder what Oumi computes.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch
import torch.nn.functional as F

TOLERANCE = 2e-5  # absolute, on logits of size 1 to 10: float32 sums in another order


def import_oumi(folder):
    """Oumi's base_model, cnn_classifier and mlp, with what they import besides torch and safetensors stood in for."""

    def module(name, **members):
        made = types.ModuleType(name)
        made.__dict__.update(members)
        sys.modules[name] = made
        return made

    registry = module("oumi.core.registry", register=lambda *_: lambda cls: cls, RegistryType=types.SimpleNamespace(MODEL=None))
    logger = types.SimpleNamespace(info=lambda *_: None, warning=print)
    for name in ("oumi", "oumi.core", "oumi.core.models", "oumi.models", "oumi.utils"):
        module(name).__path__ = [str(folder / name.replace(".", "/"))]
    sys.modules["oumi.core"].registry = registry
    module("oumi.utils.logging", logger=logger)
    return (importlib.import_module("oumi.core.models.base_model").BaseModel, importlib.import_module("oumi.models.cnn_classifier").CNNClassifier,
            importlib.import_module("oumi.models.mlp").MLPEncoder)


def make_simple_model(base):
    class SimpleModel(base):
        """The class that a user of Oumi writes for this model."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv1, self.conv2 = torch.nn.Conv2d(1, 20, 5), torch.nn.Conv2d(20, 20, 5)
            self.fc1 = torch.nn.Linear(320, kwargs.get("num_classes", 10))

        def forward(self, images, labels=None, **kwargs):
            hidden = F.max_pool2d(F.relu(self.conv1(images)), 2)
            return {"logits": self.fc1(F.max_pool2d(F.relu(self.conv2(hidden)), 2).flatten(1))}

        @property
        def criterion(self):
            return F.cross_entropy

    return SimpleModel


def run(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"oumi-cpp {arguments[0]}: exit code {done.returncode}\n{done.stderr[-1500:]}")


def predict(binary, config, model, folder):
    output = folder / "predictions.jsonl"
    run(binary, "predict", "-c", config, f"model.model_name={model}", "--output", output)
    rows = sorted((json.loads(line) for line in output.read_text().splitlines()), key=lambda row: row["id"])
    output.unlink()
    return np.array([row["logits"] for row in rows], dtype=np.float32)


def check(name, difference):
    good = difference <= TOLERANCE
    print(f"{name:55} largest difference of a logit {difference:.2e}{'' if good else '  MISMATCH'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oumi", type=pathlib.Path, required=True, help="folder of the unpacked wheel")
    parser.add_argument("--binary", default=os.environ.get("OUMI_CPP", "build/release/oumi-cpp"))
    arguments = parser.parse_args()
    binary = str(pathlib.Path(arguments.binary).resolve())
    base, cnn_classifier, mlp_encoder = import_oumi(arguments.oumi)
    generator = np.random.default_rng(1)
    images = generator.random((24, 1, 28, 28), dtype=np.float32)
    ids = generator.integers(0, 32, (24, 6))
    cases = [
        ("SimpleModel", make_simple_model(base), {"num_classes": 7}, "images", images, generator.integers(0, 7, 24)),
        ("CnnClassifier", cnn_classifier, {"image_width": 28, "image_height": 28, "in_channels": 1, "output_dim": 7}, "images", images,
         generator.integers(0, 7, 24)),
        ("MlpEncoder", mlp_encoder, {"input_dim": 32, "hidden_dim": 16, "output_dim": 5}, "input_ids", ids, generator.integers(0, 5, (24, 6))),
    ]
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        for name, cls, kwargs, field, inputs, labels in cases:
            folder = pathlib.Path(temporary) / name
            folder.mkdir()
            np.savez(folder / "data.npz", **{field: inputs, "labels": labels.astype(np.int64)})
            dataset = {"datasets": [{"dataset_name": "npz_file", "dataset_path": str(folder / "data.npz")}]}
            config = folder / "config.json"  # JSON is YAML
            config.write_text(json.dumps({
                "model": {"model_name": name, "load_pretrained_weights": False, "model_kwargs": kwargs},
                "data": {"train": dataset, "validation": dataset},
                "training": {"output_dir": str(folder / "out"), "max_steps": 3, "save_steps": 0, "enable_tensorboard": False}}))
            run(binary, "train", "-c", config)
            theirs = cls.from_pretrained(folder / "out").eval()
            tensor = torch.from_numpy(inputs)
            with torch.no_grad():
                expected = theirs(**{field: tensor})["logits"].flatten(1).numpy()
            good &= check(f"{name}: oumi-cpp's folder, read by Oumi", np.abs(predict(binary, config, folder / "out", folder) - expected).max())

            torch.manual_seed(7)
            other = cls(**kwargs).eval()
            other.save_pretrained(folder / "theirs")
            with torch.no_grad():
                expected = other(**{field: tensor})["logits"].flatten(1).numpy()
            good &= check(f"{name}: Oumi's folder, read by oumi-cpp",
                          np.abs(predict(binary, config, folder / "theirs", folder) - expected).max())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
