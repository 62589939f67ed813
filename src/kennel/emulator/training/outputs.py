"""What a job leaves: model and output as archives, or as plain files, where OutputDataConfig says.

Source: SageMaker developer guide, "How Amazon SageMaker Processes Training Output"; API reference, OutputDataConfig.
The folders of several hosts become one; of two files of the same name, the first host's is kept. Links and devices that
a program left are not followed.
"""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kennel.contract.paths import FAILURE_REASON_CHARS, ContainerPaths
from kennel.emulator.documents.training import REASON_CHARS
from kennel.storage import StorageError, Uri, storage_of

_SAMPLE_BYTES = 1 << 18
_WORTH_IT = 0.9  # weights shrink by 5 to 7 %, which takes a second for 45 MB at the lowest level


def output_uri(document: Mapping[str, Any]) -> Uri:
    """The place of all outputs of the job."""
    return Uri.parse(document["OutputDataConfig"]["S3OutputPath"]).join(document["TrainingJobName"], "output")


def upload(document: Mapping[str, Any], hosts: list[ContainerPaths], scratch: Path, *, failed: bool) -> str | None:
    """Upload model and output data and return the model's URI; None for a job that failed and has no model.

    Raises:
        StorageError: they cannot be written.
        OSError: the disk is full.
    """
    models = list(_files([host.model_dir for host in hosts]))
    data = list(_files([host.output_data_dir for host in hosts]))
    place = output_uri(document)
    archive = (document["OutputDataConfig"].get("CompressionType") or "GZIP") == "GZIP"
    if data:
        _put(data, place.join("output.tar.gz") if archive else place.join("data"), scratch, archive=archive)
    if failed and not models:
        return None
    target = place.join("model.tar.gz") if archive else place.join("model")
    _put(models, target, scratch, archive=archive)
    return str(target) if archive else f"{target}/"


def _files(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Plain files below the folders by name, each name once."""
    seen: set[str] = set()
    for folder in filter(is_own, folders):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name in seen or path.is_symlink() or not path.is_file():
                continue
            seen.add(name)
            yield name, path


def is_own(folder: Path) -> bool:
    """Whether a folder is where it seems to be: a program could have put a link to ours in its place."""
    return folder.parent.resolve() / folder.name == folder.resolve() and not folder.parent.is_symlink()


def _put(files: list[tuple[str, Path]], target: Uri, scratch: Path, *, archive: bool) -> None:
    storage = storage_of(target)
    if not archive:
        for name, path in files:
            storage.put(path, target.join(name))
        return
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar.gz") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_gzip_level(files)) as tar:
            for name, path in files:
                tar.add(path, name, filter=_nobodys)
        file.flush()
        storage.put(Path(file.name), target)


def _gzip_level(files: list[tuple[str, Path]]) -> int:
    """0, nothing but the format, where the middle of the largest file hardly shrinks; else 1."""
    if not files:
        return 1
    path = max((path for _, path in files), key=lambda path: path.stat().st_size)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _SAMPLE_BYTES) // 2)
        sample = file.read(_SAMPLE_BYTES)
    return int(len(zlib.compress(sample, 1)) < _WORTH_IT * len(sample))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The owner is this machine's business."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def failure_reason(host: ContainerPaths, code: int, engine_says: str, last_line: str) -> str:
    """AlgorithmError with what the program wrote to the failure file, and its exit code; 1024 characters at most."""
    end = f", exit code: {code}" + (f", {engine_says}" if engine_says else "")
    text = _read_failure(host)
    if not text:
        text = "the program wrote no failure file" + (f"; the last line of its log: {last_line}" if last_line else "")
    return "AlgorithmError: " + text[: REASON_CHARS - len("AlgorithmError: ") - len(end)] + end


def _read_failure(host: ContainerPaths) -> str:
    path = host.failure_file
    try:
        if path.is_symlink() or not path.is_file() or not is_own(path.parent):
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(FAILURE_REASON_CHARS).strip()
    except OSError:
        return ""


def output_refusals(request: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about places that cannot be written."""
    members = [("OutputDataConfig", "S3OutputPath"), ("CheckpointConfig", "S3Uri")]
    members += [(name, "S3OutputPath") for name in ("DebugHookConfig", "TensorBoardOutputConfig", "ProfilerConfig")]
    for outer, inner in members:
        text = (request.get(outer) or {}).get(inner)
        if text is None:
            continue
        try:
            Uri.parse(text)
        except StorageError as error:
            yield f"{outer}.{inner}: {error}"
