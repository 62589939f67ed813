"""Folders of classes: finding the images of a channel, checking each, splitting, and fingerprinting."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from kennel.classifier.errors import DataError, ImageError
from kennel.classifier.preprocess import decode, read_header

_CHECK_SCALE = 1 / 8  # libjpeg reads the whole stream either way; at 1/8 it spends the least on pixels
_SHOWN = 20  # bad files that a message names; the log and bad_images.json have all of them


@dataclass(frozen=True)
class Sample:
    """An image that can be read, and the index of its class."""

    path: Path
    target: int
    digest: str  # SHA-256 of the file


@dataclass(frozen=True)
class BadImage:
    """A file in a class folder that is not a readable image."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFolder:
    """The images of one channel in a fixed order: by class, then by name."""

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    bad: tuple[BadImage, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def relative(self, sample: Sample) -> str:
        """The path below the channel, with forward slashes, as reports name an image."""
        return sample.path.relative_to(self.root).as_posix()

    def counts(self) -> list[int]:
        """Images of each class, in class order."""
        found = Counter(sample.target for sample in self.samples)
        return [found[target] for target in range(len(self.classes))]

    def fingerprint(self) -> str:
        """SHA-256 over the names and the contents of all images; the same photos give the same value anywhere."""
        whole = hashlib.sha256()
        for sample in self.samples:
            whole.update(f"{self.relative(sample)}\0{sample.digest}\n".encode())
        return whole.hexdigest()


def read_label(class_name: str) -> str:
    """A folder name as people read it: `001.Curly-coated_retriever` becomes `Curly-coated retriever`."""
    return re.sub(r"^\d+[._-]+(?=\D)", "", class_name).replace("_", " ").strip() or class_name


def read_labels(classes: Sequence[str]) -> tuple[str, ...]:
    """Readable labels, or the folder names where two would read the same."""
    labels = tuple(read_label(name) for name in classes)
    return labels if len(set(labels)) == len(labels) else tuple(classes)


def scan(
    root: Path, *, classes: Sequence[str] | None = None, bad_images: str = "skip", workers: int = 0
) -> ImageFolder:
    """Read every file below the class folders of `root` once, and keep those that decode.

    Args:
        root: a channel; one folder a class, images at any depth below it.
        classes: the classes that the network knows; None takes them from the folder names, sorted.
        bad_images: "skip" lists unreadable files in the result, "fail" raises with the list.
        workers: processes that read and decode; 0 does it here.

    Raises:
        DataError: no class folders, a class that `classes` does not have, a class without a readable image (when the
            classes are taken from here), or bad files when they are to fail.
    """
    found = sorted(path.name for path in _visible(root) if path.is_dir()) if root.is_dir() else []
    if not found:
        raise DataError(
            f"{root} has no class folders{_what_is_there(root)}. Put the images of each class in a folder of its "
            f"own, for example {root.name}/ants/1.jpg and {root.name}/bees/2.jpg."
        )
    if classes is None and len(found) == 1:
        raise DataError(f"{root} has a single class folder, {found[0]}. A classifier needs at least two.")
    known = tuple(classes if classes is not None else found)
    strangers = sorted(set(found) - set(known))
    if strangers:
        raise DataError(
            f"{root} has class folders that the training data does not have: {_some(strangers)}. Every channel needs "
            f"the same class names; training has {_some(known)}."
        )
    order = {name: target for target, name in enumerate(known)}
    files = [(path, order[name]) for name in found for path in _files(root / name)]
    good: list[Sample] = []
    bad: list[BadImage] = []
    for (path, target), (digest, reason) in zip(files, _check_all([path for path, _ in files], workers), strict=True):
        if reason is None:
            good.append(Sample(path, target, digest))
        else:
            bad.append(BadImage(path, reason))
    folder = ImageFolder(root, known, tuple(good), tuple(bad))
    if bad and bad_images == "fail":
        raise DataError(f"{root}: {describe_bad(folder)} Remove these files, or set bad_images=skip.")
    _require_images(folder, every_class=classes is None)
    return folder


def _require_images(folder: ImageFolder, *, every_class: bool) -> None:
    empty = [name for name, count in zip(folder.classes, folder.counts(), strict=True) if count == 0]
    if (every_class and empty) or len(folder) == 0:
        raise DataError(
            f"{folder.root} has no readable image of class {_some(empty)}. {describe_bad(folder)}"
            "Add images, or remove the empty folder."
        )


def describe_bad(folder: ImageFolder) -> str:
    """A sentence that lists the files that cannot be used, each with its reason; empty when there are none."""
    if not folder.bad:
        return ""
    lines = [f"{bad.path.relative_to(folder.root)} ({bad.reason})" for bad in folder.bad[:_SHOWN]]
    more = f" and {len(folder.bad) - _SHOWN} more" if len(folder.bad) > _SHOWN else ""
    return f"{len(folder.bad)} unusable files: {'; '.join(lines)}{more}. "


def split(folder: ImageFolder, fraction: float, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """Cut a share of every class off for validation; the same seed and names give the same split anywhere.

    Returns:
        the training part and the validation part.

    Raises:
        DataError: a class has a single image, which cannot be in both.
    """
    kept: list[Sample] = []
    cut: list[Sample] = []
    for target, name in enumerate(folder.classes):
        own = [sample for sample in folder.samples if sample.target == target]
        if len(own) < 2:
            raise DataError(
                f"Class '{name}' in {folder.root} has {len(own)} image; a split needs two. Add images or a "
                "'validation' channel."
            )
        random.Random(f"{seed}/{name}").shuffle(own)  # noqa: S311 - reproducible, not secret
        size = min(len(own) - 1, max(1, round(len(own) * fraction)))
        cut += own[:size]
        kept += own[size:]
    parts = [ImageFolder(folder.root, folder.classes, tuple(sorted(part, key=_order)), ()) for part in (kept, cut)]
    return parts[0], parts[1]


def _order(sample: Sample) -> tuple[int, str]:
    return sample.target, str(sample.path)


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _what_is_there(root: Path) -> str:
    if not root.is_dir():
        return " (there is no such folder)"
    names = sorted(path.name for path in root.iterdir())
    return f" (it holds {_some(names)})" if names else " (it is empty)"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _check_all(paths: list[Path], workers: int) -> list[tuple[str, str | None]]:
    if workers <= 1 or len(paths) < 64:  # a pool costs more than it saves on a handful of files
        return [check_image(path) for path in paths]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn" if os.name == "nt" else "fork")) as pool:
        return list(pool.map(check_image, paths, chunksize=16))


def check_image(path: Path) -> tuple[str, str | None]:
    """The file's SHA-256, and why it cannot be used (None when it can)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    digest = hashlib.sha256(data).hexdigest()
    try:
        with read_header(data) as image:
            decode(image, scale=_CHECK_SCALE)
    except ImageError as error:
        return digest, str(error)
    return digest, None
