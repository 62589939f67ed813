"""The one key that may use the emulator: made here on first use, kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from kennel.emulator.errors import EmulatorError

_KEY_ID_CHARS = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Credentials:
    """A key as AWS's are: its name, which is no secret, and its secret."""

    access_key_id: str
    secret_access_key: str


def load_or_make(file: Path) -> Credentials:
    """The key of this home; a new one where there is none. Call it from the one process that serves the home.

    Raises:
        EmulatorError: the file is not a key, or others can read it.
    """
    if not file.exists():
        _write(file, Credentials("KENNEL" + _random(_KEY_ID_CHARS, 14), secrets.token_urlsafe(30)))
    if file.stat().st_mode & 0o077:
        raise EmulatorError(f"Others can read the key in {file}. Run: chmod 600 {file}, or delete it to get a new one.")
    return load(file)


def load(file: Path) -> Credentials:
    """Read the key.

    Raises:
        EmulatorError: the file is not a key.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        return Credentials(str(value["AccessKeyId"]), str(value["SecretAccessKey"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmulatorError(f"{file} holds no key ({error!r}). Delete it and start again to get a new one.") from error


def _random(characters: str, count: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(count))


def _write(file: Path, credentials: Credentials) -> None:
    """Write the form that AWS's `credential_process` prints, so that a profile may simply `cat` it."""
    value = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
    }
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process that had this one's number
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(json.dumps(value, indent=2) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(file)
