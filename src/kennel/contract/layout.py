"""The layout in which data sets are downloaded: one folder that itself holds train/, valid/ and test/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kennel.contract.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_CHANNEL_OF = {"train": TRAIN, "valid": VALIDATION, "val": VALIDATION, "validation": VALIDATION, "test": TEST}


def visible(folder: Path) -> Iterator[Path]:
    """What a person put into a folder: no hidden entries, and not the __MACOSX that a Mac adds to its zip files."""
    return (path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX")


def nested_channels(root: Path) -> dict[str, Path]:
    """The channels inside one channel, by the names that jobs give them; empty when it holds classes.

    The layout is taken for one only when `root`, or the single folder in it, has a folder `train` that holds folders,
    and when every folder beside that is named valid, val, validation or test (upper or lower case). So classes that are
    called 'train' or 'test' stay classes where another class lies beside them, or where the images of 'train' lie
    directly in it. Files beside the folders change nothing: one stray list would turn the channels into classes.

    Raises:
        DataError: two folders mean the same channel.
    """
    if not root.is_dir():
        return {}
    folders = _folders(root)
    found = _as_channels(folders)
    if not found and len(folders) == 1:
        found = _as_channels(_folders(folders[0]))
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in visible(folder) if path.is_dir())


def _as_channels(folders: list[Path]) -> dict[str, Path]:
    names = [_CHANNEL_OF.get(path.name.lower()) for path in folders]
    if TRAIN not in names or None in names or not _folders(folders[names.index(TRAIN)]):
        return {}
    found: dict[str, Path] = {}
    for name, path in zip(names, folders, strict=True):
        assert name is not None  # noqa: S101 - asked two lines above
        if name in found:
            raise DataError(
                f"{path.parent} has two folders for {name}: {found[name].name} and {path.name}. Remove or rename one."
            )
        found[name] = path
    return found
