"""Folders of classes: finding the images of a channel, checking each, splitting, and fingerprinting."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from kennel.classifier.data.images import decode, read_header
from kennel.contract.errors import DataError, ImageError
from kennel.contract.layout import visible
from kennel.contract.manifest import find_list, read_list

_LOG = logging.getLogger(__name__)
_CHECK_SCALE = 1 / 8  # libjpeg reads the whole stream either way; at 1/8 it spends the least on pixels
Check = Callable[[list[Path]], list[tuple[str, str | None]]]  # of each file its SHA-256 and why it cannot be used
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
        """SHA-256 over the classes, names and contents of all images; the same photos give the same value anywhere."""
        whole = hashlib.sha256()
        for sample in self.samples:
            whole.update(f"{self.classes[sample.target]}\0{self.relative(sample)}\0{sample.digest}\n".encode())
        return whole.hexdigest()


def read_label(class_name: str) -> str:
    """A folder name as people read it: `001.Curly-coated_retriever` becomes `Curly-coated retriever`."""
    return re.sub(r"^\d+[._-]+(?=\D)", "", class_name).replace("_", " ").strip() or class_name


def read_labels(classes: Sequence[str]) -> tuple[str, ...]:
    """Readable labels, or the folder names where two would read the same."""
    labels = tuple(read_label(name) for name in classes)
    return labels if len(set(labels)) == len(labels) else tuple(classes)


def scan(
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    bad_images: str = "skip",
    workers: int = 0,
    check: Check | None = None,
) -> ImageFolder:
    """Read every file below the class folders of `root` once, and keep those that decode.

    With `classes` given, those that have no image here are a warning in the log.

    Args:
        root: a channel; one folder a class, images at any depth below it, or an image list (`manifest`) in their
            place.
        classes: the classes that the network knows; None takes them from the folder names, sorted.
        bad_images: "skip" lists unreadable files in the result, "fail" raises with the list.
        workers: processes that read and decode; 0 does it here.
        check: what looks at the files, instead of `check_image` on those processes.

    Raises:
        DataError: no class folders, a class that `classes` does not have, a class without a readable image (when the
            classes are taken from here), or bad files when they are to fail.
    """
    listed = find_list(root)
    if listed is not None:
        files = read_list(listed, root)
        _LOG.info("Channel %s: %d lines of the image list %s", root.name, len(files), listed.name)
        found = sorted({name for _, name in files})
        return gather(root, files, found, classes=classes, bad_images=bad_images, workers=workers, check=check)
    found = sorted(path.name for path in visible(root) if path.is_dir()) if root.is_dir() else []
    if not found:
        raise DataError(
            f"{root} has no class folders{_what_is_there(root)}. Put the images of each class in a folder of its "
            f"own, for example {root.name}/ants/1.jpg and {root.name}/bees/2.jpg."
        )
    files = [(path, name) for name in found for path in _files(root / name)]
    return gather(root, files, found, classes=classes, bad_images=bad_images, workers=workers, check=check)


def gather(
    root: Path,
    files: Sequence[tuple[Path, str]],
    found: Sequence[str],
    *,
    classes: Sequence[str] | None,
    bad_images: str,
    workers: int,
    check: Check | None = None,
) -> ImageFolder:
    """Read labelled files once and keep those that decode: what `scan` does once the names are known.

    Args:
        root: the channel that all files lie below.
        files: each file with the name of its class.
        found: the class names of this channel, sorted, those without a file too.
        classes, bad_images, workers, check: as for `scan`.

    Raises:
        DataError: as for `scan`.
    """
    if classes is None and len(found) == 1:
        raise DataError(f"{root} has a single class, {found[0]}. A classifier needs at least two.")
    known = tuple(classes if classes is not None else found)
    compare_classes(root, found, known)
    order = {name: target for target, name in enumerate(known)}
    ordered = sorted(((path, order[name]) for path, name in files), key=lambda item: (item[1], item[0]))
    good: list[Sample] = []
    bad: list[BadImage] = []
    paths = [path for path, _ in ordered]
    checked = check(paths) if check else check_all(paths, workers)
    for (path, target), (digest, reason) in zip(ordered, checked, strict=True):
        if reason is None:
            good.append(Sample(path, target, digest))
        else:
            bad.append(BadImage(path, reason))
    folder = ImageFolder(root, known, tuple(good), tuple(bad))
    if bad and bad_images == "fail":
        raise DataError(f"{root}: {describe_bad(folder)} Remove these files, or set bad_images=skip.")
    _require_images(folder, every_class=classes is None)
    _warn_of_empty_classes(folder)
    return folder


def compare_classes(root: Path, found: Sequence[str], known: Sequence[str]) -> None:
    """Hold a channel's class names against those of training; names that are nearly one are a warning.

    Raises:
        DataError: `found` has names that `known` does not have.
    """
    missing = sorted(set(known) - set(found))
    strangers = sorted(set(found) - set(known))
    if strangers:
        raise DataError(
            f"{root} has {_classes(len(strangers))} that the training data does not have: "
            f"{_some([_with_guess(name, missing, known) for name in strangers])}. "
            f"{f'In turn it lacks {_some(missing)}. ' if missing else ''}"
            f"Every channel needs the same class names, letter by letter; training has {_some(known)}."
        )
    for first, second in _near_doubles(found):
        _LOG.warning(
            "Channel %s: the classes '%s' and '%s' differ only in case, spaces or punctuation. They are trained as "
            "two; if they are one, put their images in one folder.", root.name, first, second,
        )  # fmt: skip


def _classes(count: int) -> str:
    return "a class" if count == 1 else f"{count} classes"


def _near(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _near_doubles(names: Sequence[str]) -> list[tuple[str, str]]:
    seen: dict[str, str] = {}
    return [(seen[_near(name)], name) for name in names if seen.setdefault(_near(name) or name, name) != name]


def _with_guess(name: str, missing: Sequence[str], known: Sequence[str]) -> str:
    """The name in quotes, so that a space at its end is seen, and the known one that it may stand for."""
    same = [other for other in known if _near(other) == _near(name)]
    guess = same or difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
    return f"'{name}' (did you mean '{guess[0]}'?)" if guess else f"'{name}'"


def _require_images(folder: ImageFolder, *, every_class: bool) -> None:
    empty = [name for name, count in zip(folder.classes, folder.counts(), strict=True) if count == 0]
    if (every_class and empty) or len(folder) == 0:
        raise DataError(
            f"{folder.root} has no readable image of class {_some(empty)}. {describe_bad(folder)}"
            "Add images, or remove the empty folder."
        )


def _warn_of_empty_classes(folder: ImageFolder) -> None:
    empty = [name for name, count in zip(folder.classes, folder.counts(), strict=True) if count == 0]
    if empty:
        _LOG.warning(
            "Channel %s has no readable image of %d of the %d classes: %s.",
            folder.root.name, len(empty), len(folder.classes), _some(empty),
        )  # fmt: skip


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
        if not own:  # allowed where the class list was given, for example on one host of a sharded channel
            continue
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


def check_all(paths: list[Path], workers: int) -> list[tuple[str, str | None]]:
    """`check_image` of each file, on so many processes."""
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
