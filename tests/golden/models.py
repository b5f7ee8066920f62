"""Initial weights and logits of the built-in models, from PyTorch.

Regenerate: python tests/golden/models.py   (needs torch and safetensors; writes tests/golden/models/*.safetensors)
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).parent / "models"


class SimpleModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc1 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 20, 5), nn.Linear(320, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc1(x.flatten(1))


class CnnClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(2, 32, 1), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 64, 1)
        self.fc1, self.fc2 = nn.Linear(64, 256), nn.Linear(256, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(F.max_pool2d(self.conv3(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class MlpEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc1, self.fc2 = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.embedding(x))))


def main():
    OUT.mkdir(exist_ok=True)
    cases = {
        "simple_model": (SimpleModel, torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 9, 0])),
        "cnn_classifier": (CnnClassifier, torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([2, -100, 0])),
        "mlp_encoder": (MlpEncoder, torch.randint(0, 20, (2, 5), generator=torch.Generator().manual_seed(3)),
                        torch.tensor([[0, 1, 2, -100, 1], [2, 2, -100, -100, 0]])),
    }
    for name, (cls, inputs, labels) in cases.items():
        torch.manual_seed(42)
        model = cls().eval()
        state = {f"weights.{k}": v.clone() for k, v in model.state_dict().items()}
        with torch.no_grad():
            logits = model(inputs)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        save_file({**state, "inputs": inputs, "labels": labels, "logits": logits, "loss": loss}, OUT / f"{name}.safetensors")


if __name__ == "__main__":
    main()
