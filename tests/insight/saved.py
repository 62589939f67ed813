"""Folders that smdebug's hook really writes, for the reader of its layout; run as a program, once for each folder.

`python saved.py KIND FOLDER [RANK WORLD]` leaves FOLDER/KIND; smdebug has one hook in the life of a process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

ALL = ["min", "max", "mean", "std", "variance", "sum", "prod"]
NUMBERS = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "complex64", "complex128",
)  # fmt: skip


class Net(nn.Module):
    """Names with dots, from modules within modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def arrays() -> Iterator[tuple[str, np.ndarray]]:
    """One of each dtype, and odd shapes and names."""
    generator = np.random.default_rng(0)
    for dtype in NUMBERS:
        yield f"dtype/{dtype}", (generator.integers(0, 100, (3, 4)) * 1.25).astype(dtype)
    yield "dtype/bool", generator.random(7) > 0.5
    yield "a/b.c/d e-f:0", np.array([np.nan, -np.inf, -0.0, 1e-40], np.float32)
    yield "scalar", np.array(2.5, np.float32)
    yield "deep", np.zeros((1, 2, 1, 3, 1, 1, 2), np.int64)
    yield "größe/β", np.arange(300, dtype=np.int32)


def whole(folder: Path, rank: int, world: int) -> None:
    """Two workers, everything, in the modes that there are; one tensor is the second worker's alone."""
    import smdebug.pytorch as smd  # the tests import this module, too, and warnings are errors there

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    hook = smd.Hook(
        str(folder / "whole"), save_all=True, save_config=smd.SaveConfig(save_interval=1), include_workers="all"
    )
    torch.manual_seed(rank)
    model, loss = Net(), nn.CrossEntropyLoss()
    hook.register_module(model)
    hook.register_loss(loss)
    for mode in (None, smd.modes.TRAIN, smd.modes.EVAL, smd.modes.TRAIN, smd.modes.PREDICT):
        if mode is not None:
            hook.set_mode(mode)
        labels = torch.zeros(2, dtype=torch.long)
        loss(model(torch.randn(2, 3, 6, 6)), labels).backward()
        for name, value in arrays() if mode is smd.modes.EVAL else ():
            hook._write_raw_tensor_simple(name, value)
        hook._write_raw_tensor_simple(f"only/{rank}", np.full(3, rank))
        hook._write_raw_tensor_simple("words", np.array(["a", "b"]))
    hook.close()


def reduced(folder: Path, *_: int, name: str = "reduced", whole_too: bool = False) -> None:
    """All reductions, and nothing else."""
    import smdebug.pytorch as smd

    reductions = smd.ReductionConfig(
        reductions=ALL,
        abs_reductions=ALL,
        norms=["l1", "l2"],
        abs_norms=["l1", "l2"],
        save_raw_tensor=whole_too,
    )
    hook = smd.Hook(
        str(folder / name),
        save_all=True,
        save_config=smd.SaveConfig(save_interval=2),
        reduction_config=reductions,
    )
    torch.manual_seed(0)
    model, loss = Net(), nn.MSELoss()
    hook.register_module(model)
    hook.register_loss(loss)
    for _ in range(4):
        loss(model(torch.randn(2, 3, 6, 6)), torch.zeros(2, 2)).backward()
    hook.close()


def both(folder: Path, *_: int) -> None:
    """Reductions beside whole tensors."""
    reduced(folder, name="both", whole_too=True)


def small(folder: Path, *_: int) -> None:
    """One step of three small tensors."""
    import smdebug.pytorch as smd

    hook = smd.Hook(str(folder / "small"), save_config=smd.SaveConfig(save_interval=1))
    model = nn.Linear(1, 1)
    hook.register_module(model)
    model(torch.ones(1, 1))
    for name, value in (("a", np.float32([1, 2, 3])), ("b/c", np.int64([4])), ("d", np.array([True, False]))):
        hook._write_raw_tensor_simple(name, value)
    hook.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
