"""Trains the same model by Hugging Face's Trainer and by oumi-cpp, from the same weights on the same data, and compares.

Not part of the test suite: it needs Python packages. From the repository's root, with torch 2.11.0, transformers 5.23.0,
accelerate 1.15.0 and safetensors installed, and the binary built:
    python tests/golden/trainer_peer.py                       # every variant, a few minutes
    python tests/golden/trainer_peer.py --variants accumulation,label_smoothing
    python tests/golden/trainer_peer.py --list
It prints a table and exits with 1 when a figure is out of bounds: losses of all steps 1e-4 relative, gradient norms 1e-3
relative, learning rates equal, final weights 1e-3, evaluation loss 1e-3 relative, evaluation accuracy 0.002.

Training magnifies rounding: within 200 steps a difference in a weight's last bit can grow to 1e-2 of a loss. The figures hold
because both sides round alike, at one thread bit for bit. --control trains the peer once more with fc1.bias moved by one bit
and prints how far that goes: a mismatch of that size, growing from 1e-7, is a difference in rounding and not in meaning.

The model's forward takes no **kwargs: for a model that does, the Trainer expects a sum over the update's items instead of a
mean, and gives a loss that is too large by the number of micro-batches.
"""

import argparse
import contextlib
import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

STEPS = 200
TRAIN_SAMPLES = 2000  # 125 batches of 16: 200 steps run into the second epoch
EVAL_SAMPLES = 2000
SEED = 42
DATA = "/usr/share/datasets/fashion-mnist"

# Hugging Face's arguments; oumi-cpp gets the same under `training.`, by Oumi's name where that differs.
BASE = dict(
    max_steps=STEPS, per_device_train_batch_size=16, per_device_eval_batch_size=250, learning_rate=1e-3,
    lr_scheduler_type="linear", weight_decay=0.01, optim="adamw_torch_fused", seed=SEED, data_seed=SEED, max_grad_norm=1.0,
)
VARIANTS = {
    "base": {},
    "accumulation": dict(gradient_accumulation_steps=3),
    "accumulation_clipped": dict(gradient_accumulation_steps=4, max_grad_norm=0.3),
    "warmup_steps": dict(warmup_steps=30),
    "warmup_share": dict(warmup_steps=0.1),
    "clipping": dict(max_grad_norm=0.1),
    "no_clipping": dict(max_grad_norm=0.0),
    "label_smoothing": dict(label_smoothing_factor=0.1),
    "label_smoothing_accumulation": dict(label_smoothing_factor=0.2, gradient_accumulation_steps=3),
    "weight_decay": dict(weight_decay=0.3),
    "cosine": dict(lr_scheduler_type="cosine", warmup_steps=20),
    "cosine_with_restarts": dict(lr_scheduler_type="cosine_with_restarts", warmup_steps=20, lr_scheduler_kwargs={"num_cycles": 3}),
    "polynomial": dict(lr_scheduler_type="polynomial", warmup_steps=20, lr_scheduler_kwargs={"power": 2.0, "lr_end": 1e-6}),
    "constant": dict(lr_scheduler_type="constant"),
    "constant_with_warmup": dict(lr_scheduler_type="constant_with_warmup", warmup_steps=50),
    "inverse_sqrt": dict(lr_scheduler_type="inverse_sqrt", warmup_steps=20),
    "cosine_with_min_lr": dict(lr_scheduler_type="cosine_with_min_lr", warmup_steps=20, lr_scheduler_kwargs={"min_lr": 1e-4}),
    "cosine_warmup_with_min_lr": dict(lr_scheduler_type="cosine_warmup_with_min_lr", warmup_steps=20,
                                      lr_scheduler_kwargs={"min_lr_rate": 0.1, "warmup_lr_rate": 0.05}),
    "warmup_stable_decay": dict(lr_scheduler_type="warmup_stable_decay", warmup_steps=20,
                                lr_scheduler_kwargs={"num_decay_steps": 60, "min_lr_ratio": 0.1}),
    "reduce_lr_on_plateau": dict(lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs={"patience": 0, "factor": 0.5},
                                 eval_strategy="steps", eval_steps=20, learning_rate=5e-3),
    "epochs": dict(max_steps=-1, num_train_epochs=1.5, gradient_accumulation_steps=3),
    "drop_last": dict(per_device_train_batch_size=48, dataloader_drop_last=True),
    "odd_batch": dict(per_device_train_batch_size=48, gradient_accumulation_steps=2),
    "adamw_torch": dict(optim="adamw_torch"),
    "sgd": dict(optim="sgd", learning_rate=0.05),
    "adagrad": dict(optim="adagrad", learning_rate=0.01),
    "rmsprop": dict(optim="rmsprop"),
    "adafactor": dict(optim="adafactor"),
}
OUMI_NAMES = {"optim": "optimizer"}


class SimpleModel(torch.nn.Module):
    """oumi's SimpleModel. The output is called `logits` here, which is where the Trainer's label smoothing looks for it."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 20, 5)
        self.conv2 = torch.nn.Conv2d(20, 20, 5)
        self.fc1 = torch.nn.Linear(20 * 4 * 4, num_classes)
        self.config = types.SimpleNamespace(problem_type=None)  # looked up under label smoothing

    def forward(self, images, labels=None):
        hidden = F.max_pool2d(F.relu(self.conv1(images)), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2)
        logits = self.fc1(hidden.flatten(1))
        outputs = {"logits": logits}
        if labels is not None:
            outputs = {"loss": F.cross_entropy(logits, labels), **outputs}
        return outputs


class FashionMnist(torch.utils.data.Dataset):
    def __init__(self, prefix, count):
        self.images = torch.from_numpy(self.read(f"{prefix}-images-idx3-ubyte", 16)[: count * 784].copy()).view(-1, 1, 28, 28)
        self.labels = torch.from_numpy(self.read(f"{prefix}-labels-idx1-ubyte", 8)[:count].copy()).long()

    @staticmethod
    def read(name, header):
        with gzip.open(f"{DATA}/{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8)[header:]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"images": self.images[index].float() / 255, "labels": self.labels[index]}


class RecordingTrainer(transformers.Trainer):
    """Keeps each update's loss unrounded: the mean over its micro-batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.losses, self.open_loss = [], 0.0

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.open_loss += loss.double().item()
        return loss


class Recorder(transformers.TrainerCallback):
    def __init__(self):
        self.learning_rates = []
        self.trainer = None

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.learning_rates.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.losses.append(self.trainer.open_loss)
        self.trainer.open_loss = 0.0


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def run_peer(settings, weights, train, evaluation, folder):
    model = SimpleModel()
    model.load_state_dict(weights)
    recorder = Recorder()
    trainer = RecordingTrainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder / "peer"), report_to=[], logging_steps=1, save_strategy="no", use_cpu=True, disable_tqdm=True,
            label_names=["labels"], **settings),
        train_dataset=train, eval_dataset=evaluation, compute_metrics=accuracy, callbacks=[recorder])
    recorder.trainer = trainer
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):  # it prints each log line
        trainer.train()
        final = trainer.evaluate()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return {
        "losses": trainer.losses, "learning_rates": recorder.learning_rates, "grad_norms": [float(norm) for norm in norms],
        "weights": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "eval_loss": final["eval_loss"], "eval_accuracy": final["eval_accuracy"],
    }


def run_ours(binary, settings, initial, folder):
    output = folder / "ours"
    config = {
        "model": {"model_name": str(initial)},
        "data": {
            "train": {"datasets": [{"dataset_name": "fashion_mnist", "split": f"train[:{TRAIN_SAMPLES}]"}]},
            "validation": {"datasets": [{"dataset_name": "fashion_mnist", "split": f"test[:{EVAL_SAMPLES}]"}]},
        },
        "training": {"output_dir": str(output), "logging_steps": 1, "save_strategy": "no", "enable_tensorboard": False, "use_cpu": True,
                     **{OUMI_NAMES.get(name, name): value for name, value in settings.items()}},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    # evaluate reads model_name: the trained folder.
    for command in (["train", "-c", str(path)], ["evaluate", "-c", str(path), f"model.model_name={output}", "--json"]):
        done = subprocess.run([binary, *command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"oumi-cpp {' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    final = json.loads(done.stdout.strip().splitlines()[-1])
    lines = [json.loads(line) for line in (output / "metrics_rank0000.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    return {
        "losses": [line["loss"] for line in lines], "learning_rates": [line["learning_rate"] for line in lines],
        "grad_norms": [line["grad_norm"] for line in lines], "weights": load_file(str(output / "model.safetensors")),
        "eval_loss": final["eval_loss"], "eval_accuracy": final["eval_accuracy"],
    }


def worst(ours, peer, relative):
    """The largest difference and its position; infinite when the lengths differ."""
    if len(ours) != len(peer):
        return math.inf, f"{len(ours)} against {len(peer)} values"
    differences = [abs(a - b) / (max(abs(b), 1e-12) if relative else 1) for a, b in zip(ours, peer)]
    at = max(range(len(differences)), key=differences.__getitem__)
    return differences[at], f"step {at + 1}: {ours[at]!r} against {peer[at]!r}"


def compare(ours, peer):
    """(name, difference, bound, where) of every figure."""
    rows = [("loss", *worst(ours["losses"], peer["losses"], True), 1e-4),
            ("lr", *worst(ours["learning_rates"], peer["learning_rates"], True), 1e-12),
            ("norm", *worst(ours["grad_norms"], peer["grad_norms"], True), 1e-3)]
    if sorted(ours["weights"]) != sorted(peer["weights"]):
        rows.append(("weights", math.inf, f"names {sorted(ours['weights'])} against {sorted(peer['weights'])}", 1e-3))
    else:
        name = max(peer["weights"], key=lambda n: (ours["weights"][n] - peer["weights"][n]).abs().max())
        rows.append(("weights", (ours["weights"][name] - peer["weights"][name]).abs().max().item(), name, 1e-3))
    rows.append(("eval_loss", abs(ours["eval_loss"] - peer["eval_loss"]) / abs(peer["eval_loss"]), f"{ours['eval_loss']} against {peer['eval_loss']}", 1e-3))
    rows.append(("eval_acc", abs(ours["eval_accuracy"] - peer["eval_accuracy"]), f"{ours['eval_accuracy']} against {peer['eval_accuracy']}", 0.002))
    return [(name, difference, bound, where) for name, difference, where, bound in rows]


def show(title, peer, rows):
    print(f"{title:30}{len(peer['losses']):>6}" + "".join(f"{difference:>11.2e}" for _, difference, _, _ in rows), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the variants' names")
    parser.add_argument("--binary", default=os.environ.get("OUMI_CPP", "build/release/oumi-cpp"))
    parser.add_argument("--control", action="store_true", help="show the peer's own sensitivity to one bit of a weight")
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(VARIANTS))
        return 0
    binary = str(pathlib.Path(arguments.binary).resolve())
    torch.set_num_threads(arguments.threads)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    transformers.logging.set_verbosity_error()

    train, evaluation = FashionMnist("train", TRAIN_SAMPLES), FashionMnist("t10k", EVAL_SAMPLES)
    torch.manual_seed(SEED)
    weights = {name: value.clone() for name, value in SimpleModel().state_dict().items()}
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        initial = pathlib.Path(temporary) / "initial"
        initial.mkdir()
        save_file(weights, str(initial / "model.safetensors"), metadata={"format": "pt"})
        (initial / "config.json").write_text(json.dumps({"model_type": "SimpleModel", "init_kwargs": {}, "oumi_version": "0"}))
        print(f"{'variant':30}{'steps':>6}" + "".join(f"{name:>11}" for name in ("loss", "lr", "norm", "weights", "eval_loss", "eval_acc")))
        for variant in arguments.variants.split(","):
            settings = {**BASE, **VARIANTS[variant]}
            folder = pathlib.Path(temporary) / variant
            folder.mkdir()
            try:
                ours = run_ours(binary, settings, initial, folder)
            except RuntimeError as error:
                print(f"{variant:30} {error}")
                failed.append(variant)
                continue
            peer = run_peer(settings, weights, train, evaluation, folder)
            rows = compare(ours, peer)
            show(variant, peer, rows)
            if arguments.control:
                moved = {**weights, "fc1.bias": torch.nextafter(weights["fc1.bias"], torch.tensor(math.inf))}
                show("    control", peer, compare(run_peer(settings, moved, train, evaluation, folder), peer))
            bad = [(name, difference, bound, where) for name, difference, bound, where in rows if not difference <= bound]
            for name, difference, bound, where in bad:
                print(f"    MISMATCH {name}: {difference:.3e} above {bound:.0e} ({where})")
            if bad:
                failed.append(variant)
    print(f"{len(failed)} of {len(arguments.variants.split(','))} variants differ" + (": " + ", ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
