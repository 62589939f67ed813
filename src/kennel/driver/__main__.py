"""The `kennel` command: the only module of the driver that prints and exits."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kennel.contract.errors import ConfigError, KennelError
from kennel.contract.hyperparameters import canonical
from kennel.driver.commands import COMMANDS
from kennel.driver.commands.context import Context, Result, assignments
from kennel.driver.commands.parser import parse
from kennel.driver.errors import DriverError
from kennel.driver.jobs import tuning
from kennel.driver.session.reporting import for_terminal
from kennel.driver.session.session import Session
from kennel.driver.transfers.uris import is_uri

_LACKS = {  # what this machine can run out of, and what to do then
    errno.ENOSPC: "Make room on that disk, then run it again: what is done already is kept.",
    errno.EDQUOT: "Your disk quota is used up: remove files, then run it again: what is done already is kept.",
    errno.EMFILE: "Run it again with a higher limit: ulimit -n 4096",
    errno.ENFILE: "End other programs, then run it again.",
}
_INTERRUPTED = 130  # as shells count a SIGINT
_SECTIONS = {"train": "train", "tune": "train", "deploy": "deploy", "transform": "transform"}  # of kennel.toml
_FLAGS = {  # flag -> dotted name of the project file, by command where it differs
    "on": "on", "region": "region", "role": "role", "bucket": "bucket", "runner": "runner",
    "network_isolation": "network_isolation",
    "volume_gb": "train.volume_gb", "max_runtime_minutes": "train.max_runtime_minutes", "spot": "train.spot",
    "max_wait_minutes": "train.max_wait_minutes", "checkpoint_uri": "train.checkpoint_uri",
    "input_mode": "train.input_mode", "keep_alive_minutes": "train.keep_alive_minutes",
    "objective": "tune.objective", "strategy": "tune.strategy", "max_jobs": "tune.max_jobs",
    "parallel": "tune.parallel", "max_total_minutes": "tune.max_runtime_minutes",
    "early_stopping": "tune.early_stopping", "min_epochs": "tune.min_epochs", "seed": "tune.seed",
    "target": "tune.target", "not_improving": "tune.not_improving", "converged": "tune.converged",
    "prune_on": "tune.prune_on", "serverless_memory_mb": "deploy.serverless_memory_mb",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 with one line and a hint, 2 for a wrong command line."""
    arguments = parse(list(sys.argv[1:] if argv is None else argv))
    try:
        result = _run(arguments)
        _print(result, as_json=arguments.json)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `kennel jobs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KennelError as error:
        return _fail(error, arguments)
    except Exception as error:
        lack = _lack(error)
        if lack:
            return _fail(lack, arguments)
        traceback.print_exc()
        print(f"kennel: {type(error).__name__}: {error}. This is a fault of Kennel.", file=sys.stderr)
        return 1
    return result.code


def _lack(error: BaseException) -> DriverError | None:
    """What this machine has run out of, if that is why something failed; nobody can do without it."""
    if not isinstance(error, OSError) or error.errno not in _LACKS:
        return None
    place = f" ({error.filename})" if error.filename else ""
    return DriverError(f"{os.strerror(error.errno)}{place}.", _LACKS[error.errno])


def _run(arguments: argparse.Namespace) -> Result:
    session = Session.from_file(arguments.project, for_terminal(), **_flags(arguments))
    if arguments.command in ("train", "tune"):
        session.project = session.project.with_flags({"hyperparameters": _hyperparameters(arguments, session)})
    if arguments.command == "tune":
        space = {**canonical(session.project.tune.space), **canonical(assignments(arguments.tune, "--tune"))}
        session.project = session.project.with_flags({"tune.space": space})
    return COMMANDS[arguments.command](Context(arguments, session, _line))


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that are settings, under the names of the project file."""
    given = vars(arguments)
    values = {dotted: given[flag] for flag, dotted in _FLAGS.items() if given.get(flag) is not None}
    section = _SECTIONS.get(arguments.command)
    for name in ("instance_type", "instance_count"):
        if section and given.get(name) is not None:
            values[f"{section}.{name}"] = given[name]
    if section and given.get("image"):
        values["images.train" if section == "train" else "images.serve"] = given["image"]
    if arguments.command in ("up", "down", "status", "env"):
        values["on"] = "local"
    return values


def _hyperparameters(arguments: argparse.Namespace, session: Session) -> dict[str, Any]:
    """Those of the project file, and over them those of the command line."""
    words = list(arguments.hyperparameters)
    if arguments.data and "=" in arguments.data and not is_uri(arguments.data) and not Path(arguments.data).exists():
        words.insert(0, arguments.data)  # `kennel train --channel train=… epochs=5` has no folder in front
        arguments.data = None
    given: dict[str, Any] = {}
    if getattr(arguments, "from_tuning", None):
        given.update(tuning.best_hyperparameters(session, arguments.from_tuning))
    said: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError([f"Unexpected argument '{word}'. Write hyperparameters as name=value."])
        said[name] = value
    return {**canonical(session.project.hyperparameters), **given, **canonical(said)}


def _print(result: Result, *, as_json: bool) -> None:
    if as_json and result.data is not None:
        _line(json.dumps(result.data, indent=2, ensure_ascii=False))
    elif result.text and not as_json:
        _line(result.text)


def _line(text: str) -> None:
    print(text, flush=True)


def _fail(error: KennelError, arguments: argparse.Namespace) -> int:
    if arguments.verbose:
        traceback.print_exc()
    print(f"kennel: {error}", file=sys.stderr)
    hint = getattr(error, "hint", "")
    if hint:
        print(f"        {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
