"""Tiny trainings that are really set up well or badly, with the hook that the trainer has; run as a program.

`python trainings.py FOLDER NAME...` leaves the tensors of each in FOLDER/NAME/output/data/tensors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from kennel.classifier.debugger import hook as debugging
from kennel.contract.files import write_json
from kennel.contract.paths import ContainerPaths

STEPS, BATCH, EPOCHS = 10, 16, 13  # the default hook saves reductions every 25 steps at the most: five times here
Batch = tuple[torch.Tensor, torch.Tensor]


def network() -> nn.Module:
    """Everything that rules look at: convolutions with normalisation, rectifiers, a tanh."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2),
    )  # fmt: skip


def photos(generator: torch.Generator, *, share_of_second: float = 0.5, clarity: float = 1.0) -> Batch:
    """Normalised noise that is brighter in one colour for each class."""
    labels = (torch.rand(BATCH, generator=generator) < share_of_second).long()
    images = torch.randn(BATCH, 3, 12, 12, generator=generator)
    images[:, 0] += clarity * (2 * labels - 1)[:, None, None] / 2
    return images, labels


def train(
    base: Path,
    model: nn.Module,
    batch: Callable[[torch.Generator], Batch],
    *,
    lr: float = 0.02,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    epochs: int = 0,
    validation: Callable[[torch.Generator], Batch] | None = None,
    before_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Epochs of steps, each followed by a validation, as the trainer has them."""
    losses = [nn.CrossEntropyLoss(), nn.CrossEntropyLoss()]
    debugger = debugging.attach(model, losses, ContainerPaths(base), choice="auto", steps_per_epoch=STEPS)
    updates = optimizer(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs or EPOCHS):
        debugger.train_mode()
        model.train()
        for step in range(STEPS):
            before_step(epoch * STEPS + step)
            images, labels = batch(generator)
            losses[0](model(images), labels).backward()
            updates.step()
            updates.zero_grad()
        debugger.evaluation_mode()
        model.eval()
        with torch.no_grad():
            for images, labels in [(validation or batch)(generator) for _ in range(3)]:
                losses[1](model(images), labels)
    debugger.close()


def sound(base: Path) -> None:
    torch.manual_seed(0)
    train(base, network(), photos)


def other_seed(base: Path) -> None:
    torch.manual_seed(1)
    train(base, network(), photos, epochs=2)


def vanishing(base: Path) -> None:
    """Twenty sigmoids on top of each other."""
    layers = [layer for _ in range(20) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    train(base, nn.Sequential(nn.Flatten(), nn.Linear(432, 8), *layers, nn.Linear(8, 2)), photos, epochs=3)


def exploding(base: Path) -> None:
    """A step of 1e30 makes the weights infinite, and the next loss NaN."""
    train(base, network(), photos, lr=1e30, epochs=2)


def dead_relu(base: Path) -> None:
    """A bias of -1000 in front of a rectifier: nothing comes through, and no gradient comes back."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 2))
    nn.init.constant_(model[0].bias, -1000.0)
    train(base, model, photos, epochs=3)


def poor_start(base: Path) -> None:
    """Ten times too large first weights, and last ones of almost nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    with torch.no_grad():
        model[1].weight.mul_(10)
        model[3].weight.mul_(1e-4)
        model[5].weight.mul_(1e-4)
    train(base, model, photos, epochs=3)


def saturated(base: Path) -> None:
    """Weights so large that tanh is at its ends."""
    model = network()
    with torch.no_grad():
        model[8].weight.mul_(1e4)
        model[8].bias.fill_(500.0)
    train(base, model, photos, epochs=3)


def large_updates(base: Path) -> None:
    """A learning rate of 10."""
    train(base, network(), photos, lr=10.0, optimizer=torch.optim.Adam)


def no_updates(base: Path) -> None:
    """A learning rate of 1e-14."""
    train(base, network(), photos, lr=1e-14)


def by_heart(base: Path) -> None:
    """Sixteen images of random labels are learnt by heart; validation has others."""
    known = torch.Generator().manual_seed(3)
    images, labels = torch.randn(BATCH, 3, 12, 12, generator=known), torch.randint(0, 2, (BATCH,), generator=known)
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, 2))
    train(base, model, lambda _: (images, labels), validation=lambda g: photos(g, clarity=0.0))


def imbalanced(base: Path) -> None:
    """One image in fifty is of the second class, and looks like the others."""
    train(base, network(), lambda g: photos(g, share_of_second=0.02, clarity=0.0), lr=0.05)


def indistinguishable(base: Path) -> None:
    train(base, network(), lambda g: photos(g, clarity=0.0), epochs=2)


def not_normalised(base: Path) -> None:
    """Pixels of 0 to 255 as they come from a file."""

    def bytes_of(generator: torch.Generator) -> Batch:
        images, labels = photos(generator)
        return (images * 40 + 128).clamp(0, 255), labels

    train(base, network(), bytes_of, epochs=6)


def stalling(base: Path) -> None:
    """A data set that takes two seconds to come, once."""
    train(base, network(), photos, epochs=2, before_step=lambda step: time.sleep(2.5) if step == 7 else None)


def configured(base: Path) -> None:
    """Whole tensors, as a Debugger customer's request asks for them; rectifiers are named, as AWS's rules expect."""
    paths = ContainerPaths(base)
    wanted = {
        "gradients": {}, "weights": {}, "losses": {},
        "relu_output": {"include_regex": ".*relu_output"}, "relu_input": {"include_regex": ".*relu_input"},
        "tanh_input": {"include_regex": ".*tanh_input"}, "input_image": {"include_regex": "^Named_input_0"},
    }  # fmt: skip
    write_json(
        paths.debug_hook_config_file,
        {
            "LocalPath": str(base / "output/data/tensors"),
            "HookParameters": {"save_interval": "5"},
            "CollectionConfigurations": [
                {"CollectionName": name, "CollectionParameters": parameters} for name, parameters in wanted.items()
            ],
        },
    )

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.tanh, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Tanh(), nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(self.tanh(self.relu(self.conv(images)).mean(dim=(2, 3))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    train(base, Named(), photos, epochs=4)


def everything() -> Iterator[str]:
    """The names of all trainings."""
    yield from (
        "sound", "other_seed", "vanishing", "exploding", "dead_relu", "poor_start", "saturated", "large_updates",
        "no_updates", "by_heart", "imbalanced", "indistinguishable", "not_normalised", "stalling", "configured",
    )  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        torch.manual_seed(0)
        globals()[name](folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(everything()))
