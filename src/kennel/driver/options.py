"""What the keyword arguments of a notebook mean: settings of the project file, hyperparameters, or a slip."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from kennel.contract.errors import ConfigError
from kennel.contract.hyperparameters import HYPERPARAMETERS, canonical
from kennel.driver.session.project import DeploySettings, TrainSettings, TransformSettings, TuneSettings
from kennel.driver.session.reporting import for_terminal
from kennel.driver.session.session import Session
from kennel.driver.transfers.uris import is_uri

Place = str | Path
_COMMON = {name: name for name in ("on", "region", "role", "bucket", "network_isolation")}
# Name of the argument -> dotted name in the project file.
TRAIN = _COMMON | {field.name: f"train.{field.name}" for field in fields(TrainSettings)}
TUNE = TRAIN | {
    **{field.name: f"tune.{field.name}" for field in fields(TuneSettings) if field.name != "space"},
    "max_runtime_minutes": "train.max_runtime_minutes", "max_total_minutes": "tune.max_runtime_minutes",
}  # fmt: skip
DEPLOY = _COMMON | {field.name: f"deploy.{field.name}" for field in fields(DeploySettings)}
TRANSFORM = _COMMON | {field.name: f"transform.{field.name}" for field in fields(TransformSettings)}


def session_with(given: Session | None, settings: Mapping[str, Any]) -> Session:
    """The session that is given, or one of the nearest project file, with settings by their dotted names.

    Raises:
        ConfigError: the file or the settings are wrong.
    """
    own = given or Session.from_file(None, for_terminal())
    if not settings:
        return own
    return Session(own.project.with_flags(settings), own.home, own.reporter)


def told(
    given: Session | None,
    options: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    beside: Iterable[str] | None = None,
    trains: bool = False,
) -> Session:
    """A session with the options that are settings by these names; of a training, all others are hyperparameters.

    Args:
        given: the session to start from; one of the nearest project file unless given.
        options: by the names that the user wrote.
        names: of settings, each with its dotted name.
        beside: other names that the function takes, to guess from.
        trains: whether hyperparameters are options, too.

    Raises:
        ConfigError: options that are neither, each with a guess; values that are wrong.
    """
    others = {key: value for key, value in options.items() if key not in names}
    known = [*names, *(HYPERPARAMETERS if trains else ())]
    unknown = [key for key in others if key not in known]
    if unknown:
        raise ConfigError([_unknown(key, [*(beside or ()), *known]) for key in unknown])
    own = session_with(given, {names[key]: value for key, value in options.items() if key in names})
    if not others:
        return own
    return session_with(own, {"hyperparameters": {**canonical(own.project.hyperparameters), **others}})


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Unknown option '{name}'. " + (f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}.")


def place(value: Place) -> str:
    """A URI as it is, a path with its `~` spelt out."""
    return value if isinstance(value, str) and is_uri(value) else str(Path(value).expanduser())
