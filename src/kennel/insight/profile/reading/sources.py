"""Where a run left what a report is made of: found below any folder or archive that holds it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kennel.contract import archives
from kennel.insight.tensors.sources import S3Copy

_DEPTH = 9  # from a job's folder to output/data/profiler/framework/pytorch/detailed_profiling/HOUR/STEP, and one more
_TIMELINE = ("framework", "pevents")
_OPEN = "timeline.json.tmp"  # the file that was being written when the run was killed
_SYSTEM = ("system",)
_SKIPPED = {
    "tensors",
    "checkpoints",
    "model",
    "debug-output",
    "input",
    "rule-output",
}  # large, and nothing for a report


class NothingThereError(Exception):
    """There is no such folder or archive."""


@dataclass(frozen=True)
class Sources:
    """The files of a run; lists are empty and paths None where it left none."""

    timelines: tuple[Path, ...] = ()
    system: tuple[Path, ...] = ()
    operators: tuple[Path, ...] = ()  # tables of torch.profiler
    processes: tuple[Path, ...] = ()  # what does not change during the run, one file a process
    metrics: Path | None = None  # metrics.jsonl: one line an epoch
    findings: Path | None = None  # findings.json of the debugger's rules
    hyperparameters: dict[str, Any] | None = None
    images: int | None = None  # training images, as the artifact's description says


def find(*roots: Path) -> Sources:
    """Look for everything that a report shows.

    Args:
        roots: a job's folder, its output, a profiler folder in SageMaker's layout, or folders that hold one of them.

    Raises:
        NothingThereError: one of them is no folder.
    """
    for root in roots:
        if not root.is_dir():
            raise NothingThereError(f"{root} is no folder.")
    files = sorted(path for root in roots for path in _walk(root, _DEPTH))
    described = _described([path for path in files if path.name in ("meta.json", "hyperparameters.json")])
    return Sources(
        timelines=tuple(path for path in files if _is_timeline(path)),
        system=tuple(path for path in files if _is_system(path)),
        operators=tuple(path for path in files if path.name.endswith("_operators.json")),
        processes=tuple(path for path in files if path.parent.name == "run" and "-algo-" in path.name),
        metrics=_newest([path for path in files if path.name == "metrics.jsonl"]),
        findings=_newest([path for path in files if path.name == "findings.json"]),
        hyperparameters=described[0],
        images=described[1],
    )


def opened(place: str, scratch: Path) -> list[Path]:
    """The folders to look into: the place, and what an output.tar.gz in it holds.

    Args:
        place: a folder or an archive, as a path or a file:// URI, or an s3:// prefix.
        scratch: an empty folder for what is fetched and unpacked.

    Raises:
        NothingThereError: there is nothing at the place, or it cannot be unpacked.
    """
    source = _local(place, scratch / "s3")
    if source.is_dir():
        archives = sorted(source.glob("*output.tar.gz")) + sorted(source.glob("*/output.tar.gz"))
        return [source, *(unpack(archive, scratch / str(number)) for number, archive in enumerate(archives))]
    if not source.exists():
        raise NothingThereError(f"{source} is not there.")
    return [unpack(source, scratch / "0")]


def _local(place: str, folder: Path) -> Path:
    if place.startswith("s3://"):
        return _fetched(place, folder)
    return Path(unquote(urlsplit(place).path)) if place.startswith("file://") else Path(place).expanduser()


def _fetched(uri: str, folder: Path) -> Path:
    """A copy of all objects below a prefix but weights.

    Raises:
        InsightError: they cannot be read.
        NothingThereError: there are none.
    """
    S3Copy(uri, folder, without="model.tar.gz").refresh()
    if not folder.exists():
        raise NothingThereError(f"There is nothing at {uri}.")
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive.

    Raises:
        NothingThereError: it cannot be read to its end.
    """
    try:
        archives.unpack(archive, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        why = str(error).partition("\n")[0].rstrip(".:")  # tarfile goes on with every format that it tried
        raise NothingThereError(f"{archive} cannot be unpacked: {why}.") from error
    return folder


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # a folder that may not be read, or one that has just gone
        return
    for entry in entries:
        if entry.is_dir():
            if depth and (entry.name not in _SKIPPED or (entry / "meta.json").is_file() or entry.name == "input"):
                yield from _walk(entry, depth - 1 if entry.name != "input" else 1)
        elif entry.suffix in (".json", ".jsonl") or entry.name.endswith(_OPEN):
            yield entry


def _is_timeline(path: Path) -> bool:
    finished = path.parts[-4:-2] == _TIMELINE and path.name.endswith("timeline.json")
    return finished or (path.parent.name == "framework" and path.name.endswith(_OPEN))


def _is_system(path: Path) -> bool:
    return any(part in _SYSTEM for part in path.parts[-4:-1]) and ".algo-" in path.name


def _newest(paths: list[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime) if paths else None


def _described(paths: list[Path]) -> tuple[dict[str, Any] | None, int | None]:
    """Hyperparameters and training images; the artifact's own description is preferred to the request's strings."""
    for path in sorted(paths, key=lambda path: path.name != "meta.json"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            continue
        if path.name == "meta.json" and isinstance(values.get("hyperparameters"), dict):
            return values["hyperparameters"], values.get("data", {}).get("train_images")
        if path.name == "hyperparameters.json" and isinstance(values, dict):
            return values, None
    return None, None
