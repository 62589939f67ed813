"""Looking at a data set before it costs anything: the trainer's own checks, and what it would not stop at."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.classifier.data.folder import ImageFolder, scan, split
from kennel.classifier.data.images import decode, is_turned, read_header
from kennel.classifier.data.transparency import is_transparent
from kennel.contract.errors import DataError, ImageError
from kennel.contract.layout import TRAIN, VALIDATION, nested_channels, visible
from kennel.contract.manifest import find_list
from kennel.driver.checks.findings import FAIL, OK, WARN, Finding
from kennel.driver.checks.lookalikes import Hash, hash_of, near_pairs
from kennel.driver.errors import DriverError
from kennel.driver.session.reporting import Reporter, finishing

_SCALE = 1 / 8  # as the trainer's check: libjpeg reads the whole stream either way
_ORDINARY_MODES = ("RGB", "L")
_IMBALANCE = 10  # images of the largest class for one of the smallest
_FEW_IMAGES = 10
_SHOWN = 5  # names in one line; --json has all


@dataclass(frozen=True)
class Photo:
    """What one file is."""

    path: Path
    digest: str  # SHA-256
    reason: str | None  # why it cannot be used
    mode: str = ""
    is_turned: bool = False  # EXIF says that it lies on its side or head
    is_transparent: bool = False  # in any of the ways that its format has
    hash: Hash | None = None


@dataclass
class Report:
    """All that was found, and the counts that it rests on."""

    findings: list[Finding] = field(default_factory=list)
    channels: dict[str, dict[str, int]] = field(default_factory=dict)  # images of each class, by channel

    @property
    def is_usable(self) -> bool:
        """Whether training would begin."""
        return all(finding.level != FAIL for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = [{"level": f.level, "subject": f.subject, "text": f.text, "hint": f.hint} for f in self.findings]
        return {"usable": self.is_usable, "channels": self.channels, "findings": rows}


def check(data: Path, reporter: Reporter, *, validation_fraction: float = 0.2, bad_images: str = "skip") -> Report:
    """Check a folder of class folders, or one that holds train/, validation/ and test/.

    What is a failure is what the trainer itself would end with: its own functions decide.

    Args:
        data: the folder.
        reporter: where progress goes.
        validation_fraction: as the hyperparameter; counts when there is no validation channel.
        bad_images: as the hyperparameter.

    Raises:
        DriverError: there is no such folder.
    """
    if not data.is_dir():
        raise DriverError(f"{data} is not a folder.", "Give the folder that kennel train would be given.")
    report = Report()
    try:
        roots = {} if find_list(data) else nested_channels(data)
    except DataError as error:
        report.findings.append(Finding(FAIL, "layout", str(error)))
        return report
    roots = roots or {TRAIN: data}
    seen: dict[str, list[Photo]] = {}
    with finishing(reporter):
        folders = _scan_all(roots, report, seen, reporter, bad_images)
    if TRAIN in folders and VALIDATION not in roots:
        report.findings += _split(folders[TRAIN], validation_fraction)
    for name, root in roots.items():
        report.findings += _strays(name, root)
        report.findings += _looks(name, root, seen.get(name, []))
    report.findings += _twins(roots, seen)
    for name, folder in folders.items():
        report.channels[name] = dict(zip(folder.classes, folder.counts(), strict=True))
        report.findings += _balance(name, folder)
    return report


def _scan_all(
    roots: dict[str, Path], report: Report, seen: dict[str, list[Photo]], reporter: Reporter, bad_images: str
) -> dict[str, ImageFolder]:
    folders: dict[str, ImageFolder] = {}
    classes: Sequence[str] | None = None
    for name in sorted(roots, key=lambda channel: channel != TRAIN):  # the others are held against its classes

        def look(paths: list[Path], channel: str = name) -> list[tuple[str, str | None]]:
            seen[channel] = _inspect_all(paths, channel, reporter)
            return [(photo.digest, photo.reason) for photo in seen[channel]]

        warnings = _Warnings()
        try:
            with warnings:
                folders[name] = scan(roots[name], classes=classes, bad_images=bad_images, check=look)
        except DataError as error:
            report.findings.append(Finding(FAIL, name, str(error)))
            continue
        report.findings += [Finding(WARN, name, text) for text in warnings.texts]
        folder = folders[name]
        report.findings += [Finding(OK, name, f"{len(folder)} images of {len(folder.classes)} classes")]
        report.findings += _unreadable(name, folder)
        if name == TRAIN:
            classes = folder.classes
    return folders


class _Warnings(logging.Handler):
    """The trainer's warnings while it scans, as findings instead of lines in a log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._log = logging.getLogger("kennel.classifier.data.folder")

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def __enter__(self) -> None:
        self._log.addHandler(self)
        self._propagated, self._log.propagate = self._log.propagate, False

    def __exit__(self, *error: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = self._propagated


def _inspect_all(paths: list[Path], channel: str, reporter: Reporter) -> list[Photo]:
    found: list[Photo] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # Pillow decodes without the interpreter's lock
        for photo in pool.map(inspect, paths):
            found.append(photo)
            reporter.progress(len(found), len(paths), f"{channel}: {len(found)} of {len(paths)} files")
    return found


def inspect(path: Path) -> Photo:
    """Read one file once; the verdict is that of the trainer's `check_image`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Photo(path, "", f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        with read_header(data) as image:
            mode, turned, clear = image.mode, is_turned(image), is_transparent(image)
            rgb = decode(image, scale=_SCALE)
    except ImageError as error:
        return Photo(path, digest, str(error))
    return Photo(path, digest, None, mode, turned, clear, hash_of(rgb))


def _unreadable(name: str, folder: ImageFolder) -> Iterator[Finding]:
    if folder.bad:
        shown = [f"{bad.path.relative_to(folder.root)} ({bad.reason})" for bad in folder.bad]
        yield Finding(
            WARN, name, f"{_files(len(folder.bad))} cannot be used: {_some(shown)}",
            "Remove them; with bad_images=fail training stops at them.",
        )  # fmt: skip


def _split(folder: ImageFolder, fraction: float) -> Iterator[Finding]:
    try:
        kept, cut = split(folder, fraction, seed=0)
    except DataError as error:
        yield Finding(FAIL, TRAIN, str(error))
    else:
        yield Finding(OK, VALIDATION, f"{len(cut)} images will be cut from train, {len(kept)} stay")


def _strays(name: str, root: Path) -> Iterator[Finding]:
    if find_list(root):
        return
    strays = sorted(path.name for path in visible(root) if path.is_file())
    if strays:
        yield Finding(
            WARN, name, f"{_files(len(strays))} outside the class folders, which training passes over: {_some(strays)}"
        )


def _looks(name: str, root: Path, photos: Sequence[Photo]) -> Iterator[Finding]:
    odd: dict[tuple[str, bool], list[Path]] = {}
    for photo in photos:
        if photo.reason is None and (photo.is_transparent or photo.mode not in _ORDINARY_MODES):
            odd.setdefault((photo.mode, photo.is_transparent), []).append(photo.path)
    for (mode, is_clear), paths in sorted(odd.items()):
        text = f"{_files(len(paths))} with pixels of mode {mode}{_meaning(mode, is_clear)}"
        yield Finding(WARN, name, f"{text}, such as {paths[0].relative_to(root)}")
    turned = [photo.path.relative_to(root).as_posix() for photo in photos if photo.is_turned]
    if turned:
        yield Finding(
            WARN, name, f"{_files(len(turned))} turned by EXIF: {_some(turned)}",
            "Kennel turns them upright, in training and serving; other programs may not.",
        )  # fmt: skip


def _meaning(mode: str, is_clear: bool) -> str:
    words = []
    if mode == "CMYK":
        words.append("print colours; they are converted without the printer's profile")
    if mode.startswith("I"):
        words.append("16 bits; the upper 8 are kept")
    if mode == "P":
        words.append("a palette")
    if is_clear:
        words.append("transparency; it is shown on white")
    return f" ({'; '.join(words)})" if words else ""


def _twins(roots: dict[str, Path], seen: dict[str, list[Photo]]) -> Iterator[Finding]:
    names = list(seen)
    for place, first in enumerate(names):
        copies = list(_copies(roots[first], seen[first]))
        if copies:
            yield Finding(WARN, first, f"{_files(len(copies))} with the same bytes as another: {_some(copies)}")
        for second in names[place + 1 :]:
            yield from _across(roots, first, seen[first], second, seen[second])


def _copies(root: Path, photos: Sequence[Photo]) -> Iterator[str]:
    """Each file whose bytes an earlier one has; in two classes, one of them is labelled wrong."""
    first: dict[str, Path] = {}
    for photo in photos:
        twin = first.setdefault(photo.digest, photo.path)
        if photo.reason is None and twin != photo.path:
            yield f"{photo.path.relative_to(root).as_posix()} = {twin.relative_to(root).as_posix()}"


def _across(
    roots: dict[str, Path], first: str, left: Sequence[Photo], second: str, right: Sequence[Photo]
) -> Iterator[Finding]:
    pairs = [
        (a.path.relative_to(roots[first]).as_posix(), b.path.relative_to(roots[second]).as_posix())
        for a, b in _alike(left, right)
    ]
    if pairs:
        shown = [f"{first}/{a} = {second}/{b}" for a, b in pairs]
        count = len({b for _, b in pairs})
        looks = "1 file that looks like one" if count == 1 else f"{count} files that look like ones"
        yield Finding(
            WARN, second, f"{looks} in {first}: {_some(shown)}",
            f"A score on {second} would flatter: remove one of each pair.",
        )  # fmt: skip


def _alike(left: Sequence[Photo], right: Sequence[Photo]) -> Iterator[tuple[Photo, Photo]]:
    """Pairs that look the same; photos without a look of their own, such as an even grey, by their bytes."""
    ones, others = ([photo for photo in photos if photo.hash is not None] for photos in (left, right))
    hashes = [[photo.hash for photo in photos if photo.hash is not None] for photos in (ones, others)]
    for a, b, _ in near_pairs(*hashes):
        yield ones[a], others[b]
    plain = {photo.digest: photo for photo in left if photo.hash is None and photo.reason is None}
    yield from ((plain[photo.digest], photo) for photo in right if photo.digest in plain)


def _balance(name: str, folder: ImageFolder) -> Iterator[Finding]:
    counts = dict(zip(folder.classes, folder.counts(), strict=True))
    if not counts or name != TRAIN:
        return
    small, large = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
    if counts[small] and counts[large] / counts[small] >= _IMBALANCE:
        yield Finding(
            WARN, name, f"class {large} has {counts[large]} images, {small} has {counts[small]}",
            "class_weights=balanced or sampling=balanced make up for it.",
        )  # fmt: skip
    few = [f"{c} ({n})" for c, n in counts.items() if n < _FEW_IMAGES]
    if few:
        yield Finding(
            WARN, name, f"fewer than {_FEW_IMAGES} images of {_some(few)}", "Scores of such classes are chance."
        )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
