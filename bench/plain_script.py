"""The training script that most people write first, as the measure of Kennel's trainer: `... TRAIN VALIDATION`.

torchvision's ImageFolder with RandomResizedCrop, mirror, ToTensor and Normalize, a default DataLoader (no processes),
ResNet18 from scratch in float32, Adam, a validation after each epoch: PyTorch's transfer-learning tutorial in short.
Prints a JSON line an epoch: {"epoch": 1, "images_per_second": 40.2, "validation_accuracy": 0.7}; the rate covers the
training part of the epoch only, as in Kennel's metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]
_NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), _NORMALISE]
)
_VALIDATION = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), _NORMALISE]
)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training_set = datasets.ImageFolder(arguments.train, _TRAIN)
    training: Loader = DataLoader(training_set, batch_size=arguments.batch_size, shuffle=True)
    validation: Loader = DataLoader(datasets.ImageFolder(arguments.validation, _VALIDATION), arguments.batch_size)
    model = models.resnet18(num_classes=len(training_set.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, arguments.epochs + 1):
        started = time.perf_counter()
        loss = train_epoch(model, training, optimizer, device)
        row = {"epoch": epoch, "images_per_second": len(training_set) / (time.perf_counter() - started), "loss": loss}
        print(json.dumps({**row, "validation_accuracy": accuracy(model, validation, device)}), flush=True)


def train_epoch(model: nn.Module, batches: Loader, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    """One pass; the mean loss of its batches."""
    criterion = nn.CrossEntropyLoss()
    model.train()
    total = 0.0
    for images, targets in batches:
        optimizer.zero_grad()
        loss = criterion(model(images.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def accuracy(model: nn.Module, batches: Loader, device: torch.device) -> float:
    """Share of images whose most probable class is the true one."""
    model.eval()
    hits = images_seen = 0
    for images, targets in batches:
        hits += int((model(images.to(device)).argmax(1).cpu() == targets).sum())
        images_seen += len(targets)
    return hits / images_seen


if __name__ == "__main__":
    main()
