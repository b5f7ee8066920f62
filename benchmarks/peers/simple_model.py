"""SimpleModel on Fashion-MNIST in fp32: transformers' Trainer and a plain PyTorch loop, peers of `oumi-cpp train`.

usage: python simple_model.py SIDE BATCH STEPS    (SIDE: hf | torch)
Prints one JSON object: images_per_second over all steps but the first tenth, first_step_seconds since the process began,
peak_rss_mib, final_loss.
"""

import json
import os
import resource
import sys
import tempfile
import time

if __name__ == "__main__":  # ddp.py takes the model alone
    SIDE, BATCH, STEPS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def process_age():
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as uptime:
        return float(uptime.read().split()[0]) - started


import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from data_loader import FashionMnist  # noqa: E402


class SimpleModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc1 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 20, 5), nn.Linear(320, 10)

    def forward(self, images, labels=None):
        hidden = F.max_pool2d(F.relu(self.conv1(images)), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2)
        outputs = self.fc1(hidden.flatten(1))
        return {"loss": F.cross_entropy(outputs, labels), "logits": outputs}


class Clock:
    def __init__(self):
        self.first, self.begin, self.step = None, None, 0

    def tick(self):
        self.step += 1
        if self.step == 1:
            self.first = process_age()
        if self.step == max(STEPS // 10, 1):
            self.begin = time.perf_counter()

    def report(self, loss):
        steps = STEPS - max(STEPS // 10, 1)
        rate = steps * BATCH / (time.perf_counter() - self.begin) if steps else 0.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"images_per_second": rate, "first_step_seconds": self.first, "peak_rss_mib": peak, "final_loss": loss}))


def run_hf(model, dataset, clock):
    import transformers

    class Tick(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-3, logging_steps=50,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True)
        trainer = transformers.Trainer(model=model, args=args, train_dataset=dataset, callbacks=[Tick()])
        sys.stdout, kept = open(os.devnull, "w"), sys.stdout
        result = trainer.train()
        sys.stdout = kept
    clock.report(result.training_loss)


def run_torch(model, dataset, clock):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    total = 0.0
    while clock.step < STEPS:
        for batch in loader:
            optimizer.zero_grad()
            loss = model(**batch)["loss"]
            loss.backward()
            optimizer.step()
            total += loss.item()
            clock.tick()
            if clock.step >= STEPS:
                break
    clock.report(total / STEPS)


def main():
    from pathlib import Path

    torch.manual_seed(42)
    model = SimpleModel()
    dataset = FashionMnist(Path("/usr/share/datasets/fashion-mnist"))
    {"hf": run_hf, "torch": run_torch}[SIDE](model, dataset, Clock())


if __name__ == "__main__":
    main()
