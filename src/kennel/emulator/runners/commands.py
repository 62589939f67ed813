"""What stands for an image where there is no docker: a command of this machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kennel
from kennel.contract.programs import SERVER, STANDBY, TRAINER
from kennel.emulator.runners.base import RunnerError
from kennel.emulator.runners.forking import Preload

_TRAINER = Preload(TRAINER, STANDBY)


class UnknownImageError(RunnerError):
    """Nobody has said what stands for an image."""


@dataclass(frozen=True)
class Command:
    """A program, the argument that makes it wait for its job, and what can be imported before, where there is such."""

    words: list[str]
    standby: str | None = None
    preload: Preload | None = None

    def identity(self) -> str:
        """Changes when somebody edits the program: who waits has read it as it was."""
        digest = hashlib.sha256("\0".join(self.words).encode())
        files = [Path(word) for word in self.words[1:] if word.startswith("/") and Path(word).is_file()]
        ours = (sorted((Path(kennel.__file__).parent / part).rglob("*.py")) for part in ("classifier", "contract"))
        for path in [*files, *itertools.chain(*ours)]:
            digest.update(f"{path.name} {path.stat().st_mtime_ns}".encode())
        return digest.hexdigest()


_OWN_IMAGES = {  # part of a name: this project's command
    "kennel-train": Command([sys.executable, "-m", _TRAINER.program], "standby", _TRAINER),
    "kennel-serve": Command([sys.executable, "-m", SERVER]),
}


class Commands:
    """Those of a file like `{"NAME": [WORDS], "OTHER": {"command": [WORDS], "standby": ARGUMENT}}`, and our own."""

    def __init__(self, file: Path) -> None:
        """The file need not be there; it is read anew for each question."""
        self._file = file

    def find(self, image: str) -> Command:
        """What an image stands for.

        Raises:
            UnknownImageError: nobody has said it.
            RunnerError: the file cannot be read.
        """
        plain = re.sub(r"(:[^:/]+)?(@[^@]+)?$", "", image)
        names = [image, plain, plain.rpartition("/")[2]]
        known = self._read()
        for name in names:
            if name in known:
                return known[name]
        for part, command in _OWN_IMAGES.items():
            if part in plain:
                return command
        raise UnknownImageError(
            f"There is no command for the image '{image}', and without docker none can be looked up in it. Name it in "
            f'{self._file}, as {{"{names[2]}": ["python3", "/path/of/program.py"]}}, or use the docker runner.'
        )

    def _read(self) -> dict[str, Command]:
        try:
            values = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(name): _read_command(value) for name, value in values.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise RunnerError(f"{self._file} is no JSON object of image names and commands: {error}.") from error


def _read_command(value: Any) -> Command:
    if isinstance(value, dict):
        return Command([str(word) for word in value["command"]], value.get("standby"))
    return Command([str(word) for word in value])
