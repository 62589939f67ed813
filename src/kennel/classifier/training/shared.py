"""What the trials of one tuning job share on one machine: results that depend on nothing that is tuned.

The local SageMaker gives them a folder (`ContainerPaths.shared_dir`); elsewhere there is none, and each job computes
everything itself. A result lies there under the hash of all that it depends on, so a trial finds what it would compute
or nothing. Files appear whole. Trials that want the same at the same time wait for the first of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kennel.classifier.data.folder import Check
from kennel.classifier.network.precision import Precision
from kennel.contract.files import atomic_write, write_json
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)
MOST_BYTES = 8 << 30  # of all files of a tuning job together
_DISK_SHARE = 0.5  # of what is free, at most
_POLL_S = 0.05
_SCHEMA = 1  # part of every hash: another meaning of a file needs another number
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class SharedFolder:
    """A folder of results. Safe for several trials at once."""

    folder: Path
    most_bytes: int = MOST_BYTES

    @classmethod
    def of(cls, paths: ContainerPaths) -> SharedFolder | None:
        """The folder that the platform gives; None where it gives none."""
        return cls(paths.shared_dir) if paths.shared_dir.is_dir() else None

    def room_bytes(self) -> int:
        """How much more may be written; a file that has holes counts as a whole."""
        used = sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
        return max(0, min(self.most_bytes - used, int(_DISK_SHARE * shutil.disk_usage(self.folder).free)))

    def path(self, kind: str, identity: Mapping[str, Any]) -> Path:
        """Where a result lies that depends on exactly these plain values."""
        text = json.dumps({"schema": _SCHEMA, "kind": kind, **identity}, sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()}"

    @contextmanager
    def alone(self, path: Path, stop: Callable[[], bool] = bool) -> Iterator[None]:
        """While the block runs, no other trial makes the same; `stop` ends the waiting."""
        with path.with_suffix(".lock").open("w") as lock:
            while not stop():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_POLL_S)
            yield

    def once(
        self, path: Path, make: Callable[[], dict[str, torch.Tensor]], stop: Callable[[], bool] = bool
    ) -> tuple[dict[str, torch.Tensor], bool]:
        """Tensors that another trial has made, or that this one makes; and whether they were there."""
        with self.alone(path, stop):
            known = self.load(path)
            if known is not None:
                return known, True
            made = make()
            self.store(path, made)
            return made, False

    def load(self, path: Path) -> dict[str, torch.Tensor] | None:
        """Tensors that were stored; None where there are none, or no whole ones."""
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError) as error:
            _LOG.warning("%s cannot be read (%s); it is computed anew.", path, error)
            return None

    def store(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Keep tensors for the next trial; false where there is no room for them."""
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if needed > self.room_bytes():
            _LOG.info("Not shared with other trials: %.3g MB are more than there is room for", needed / 1e6)
            return False
        try:
            with atomic_write(path) as file:
                file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        except OSError as error:  # a full disk costs the sharing, not the trial
            _LOG.warning("Not shared with other trials: %s", error)
            return False
        return True


def boot_id() -> str:
    """Differs after each start of the machine, which may lose pages that a process wrote into a mapped file."""
    return _BOOT_FILE.read_text().strip() if _BOOT_FILE.exists() else ""


def checked_once(shared: SharedFolder, check: Check) -> Check:
    """A check of files that does not read again what another trial has read.

    Files are the same if path, size and time of the last change are.
    """

    def checked(paths: Sequence[Path]) -> list[tuple[str, str | None]]:
        stats = [(str(path.resolve()), (found := path.stat()).st_size, found.st_mtime_ns) for path in paths]
        place = shared.path("checked", {"files": stats})
        with shared.alone(place):
            known = _read_json(place)
            if known is not None:
                _LOG.info("Files: %d were checked by an earlier trial", len(paths))
                return [(digest, reason) for digest, reason in known]
            result = check(list(paths))
            write_json(place, result)
            return result

    return checked


def measured_once(shared: SharedFolder, identity: Mapping[str, Any], measure: Callable[[], Precision]) -> Precision:
    """A choice of precision that all trials with the same identity take from the first of them."""
    place = shared.path("precision", identity)
    with shared.alone(place):
        known = _read_json(place)
        if known is not None:
            return replace(Precision(**known), reason=f"as an earlier trial of this tuning job: {known['reason']}")
        choice = measure()
        write_json(place, asdict(choice))
        return choice


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
