"""The project file, `kennel.toml`: what the flags need not repeat. Every key, its type and its default are here."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from kennel.contract.errors import ConfigError
from kennel.driver.requests.training import hyperparameter_strings

FILE_NAME = "kennel.toml"
LOCAL, AWS = "local", "aws"


@dataclass(frozen=True)
class Images:
    """The two images; for AWS, URIs in ECR as build_and_push.sh prints them."""

    train: str = "kennel-train:latest"
    serve: str = "kennel-serve:latest"


@dataclass(frozen=True)
class TrainSettings:
    """What `kennel train` asks for."""

    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    volume_gb: int = 30
    max_runtime_minutes: int = 1440
    max_wait_minutes: int = 0  # with spot: runtime and wait together; 0: twice the runtime
    keep_alive_minutes: int = 0  # a warm pool for the next job
    input_mode: str = "File"  # or FastFile
    spot: bool = False
    checkpoint_uri: str = ""  # or "auto" for one of the job's own; spot implies auto


@dataclass(frozen=True)
class TuneSettings:
    """What `kennel tune` asks for beside what its trials are, which are `train`'s settings."""

    objective: str = "validation:accuracy"
    strategy: str = "Bayesian"  # or Random, Hyperband, Grid
    max_jobs: int = 20  # of a grid: all of its combinations
    parallel: int = 2
    max_runtime_minutes: int = 0  # of the whole; 0: no limit
    early_stopping: bool = False
    seed: int = -1  # -1: another one each time
    min_epochs: int = 1  # Hyperband gives a trial from so many epochs to the hyperparameter `epochs`
    target: float = 0.0  # enough when the objective is so good; 0: never
    not_improving: int = 0  # enough after so many trials without a better one; 0: never
    converged: bool = False  # enough when SageMaker expects nothing better
    prune_on: tuple[str, ...] = ()  # debugger rules that end a trial
    space: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeploySettings:
    """What `kennel deploy` asks for."""

    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    serverless_memory_mb: int = 4096
    serverless_concurrency: int = 5
    startup_timeout_s: int = 240


@dataclass(frozen=True)
class TransformSettings:
    """What `kennel transform` asks for."""

    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    max_concurrent: int = 4


@dataclass(frozen=True)
class Vpc:
    """Subnets and security groups of jobs and models."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kms:
    """Keys by id, ARN or alias."""

    volume: str = ""
    output: str = ""


@dataclass(frozen=True)
class Project:
    """A whole project file; without one, its defaults are enough for the local SageMaker."""

    on: str = LOCAL
    runner: str = "auto"  # of the local SageMaker when it starts: docker, process, or docker where it is (auto)
    region: str = ""
    role: str = ""
    bucket: str = ""
    prefix: str = "kennel"  # everything in the bucket lies below it
    network_isolation: bool = False
    encrypt_traffic: bool = False
    images: Images = Images()
    train: TrainSettings = TrainSettings()
    tune: TuneSettings = TuneSettings()
    deploy: DeploySettings = DeploySettings()
    transform: TransformSettings = TransformSettings()
    vpc: Vpc = Vpc()
    kms: Kms = Kms()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def with_flags(self, flags: Mapping[str, Any]) -> Project:
        """The same with other values, by dotted name (`train.spot`); flags that are None change nothing.

        Raises:
            ConfigError: unknown names (with a guess), values of the wrong type or out of range.
        """
        problems: list[str] = []
        project = self
        for dotted, value in flags.items():
            if value is not None:
                project = _with(project, dotted, value, problems)
        problems += _judge(project)
        if problems:
            raise ConfigError(problems)
        return project


def find(folder: Path) -> Path | None:
    """The project file of a folder or of the nearest one above it."""
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    return None


def load(path: Path | None) -> Project:
    """Read a project file; the defaults when there is none.

    Raises:
        ConfigError: not TOML, unknown keys (with a guess), values of the wrong type: all of them.
    """
    if path is None:
        return Project()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}."]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} is not TOML: {error}."]) from error
    problems: list[str] = []
    project: Project = _build(Project, values, "", problems)
    problems += _judge(project)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return project


def _build(kind: type[Any], values: Mapping[str, Any], place: str, problems: list[str]) -> Any:
    hints = get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            problems.append(_unknown(f"{place}{name}", name, list(hints)))
            continue
        try:
            made[name] = _value(hints[name], value, f"{place}{name}", problems)
        except TypeError as error:
            problems.append(str(error))
    return kind(**made)


def _unknown(dotted: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(known)}."
    return f"unknown key '{dotted}'. {hint}"


def _value(hint: Any, value: Any, dotted: str, problems: list[str]) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise TypeError(f"'{dotted}' is {value!r}; write a table, [{dotted}].")
        return _build(hint, value, f"{dotted}.", problems)  # type: ignore[arg-type]
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (str, int, bool, float):
        if type(value) is not hint:
            words = {str: "text in quotes", int: "a whole number", bool: "true or false", float: "a number"}
            raise TypeError(f"'{dotted}' is {value!r}; write {words[hint]}.")
        return value
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise TypeError(f"'{dotted}' is {value!r}; write a list of texts.")
        return tuple(value)
    return _mapping(value, dotted, only_text=hint == Mapping[str, str])


def _mapping(value: Any, dotted: str, *, only_text: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"'{dotted}' is {value!r}; write a table, [{dotted}].")
    kinds = str if only_text else (str, int, float, bool)
    wrong = [name for name, inner in value.items() if not isinstance(inner, kinds)]
    if wrong:
        raise TypeError(f"'{dotted}.{wrong[0]}' is {value[wrong[0]]!r}; write {'text' if only_text else 'one value'}.")
    return dict(value)


def _with(project: Project, dotted: str, value: Any, problems: list[str]) -> Project:
    if dotted not in setting_names():
        problems.append(_unknown(dotted, dotted, setting_names()))
        return project
    *tables, name = dotted.split(".")
    owner = _get(project, ".".join(tables)) if tables else project
    given = list(value) if isinstance(value, tuple) else value
    try:
        return _set(project, [*tables, name], _value(get_type_hints(type(owner))[name], given, dotted, problems))  # type: ignore[no-any-return]
    except TypeError as error:
        problems.append(str(error))
        return project


def _set(owner: Any, path: list[str], value: Any) -> Any:
    if len(path) == 1:
        return replace(owner, **{path[0]: value})
    return replace(owner, **{path[0]: _set(getattr(owner, path[0]), path[1:], value)})


_CHOICES = {
    "on": (LOCAL, AWS),
    "runner": ("auto", "docker", "process"),
    "train.input_mode": ("File", "FastFile"),
    "tune.strategy": ("Bayesian", "Random", "Hyperband", "Grid"),
}
_AT_LEAST_ONE = (
    "train.instance_count", "train.volume_gb", "train.max_runtime_minutes", "tune.max_jobs", "tune.parallel",
    "tune.min_epochs", "deploy.instance_count", "deploy.serverless_concurrency", "transform.instance_count",
    "transform.max_concurrent",
)  # fmt: skip


def _judge(project: Project) -> Iterator[str]:
    for dotted, allowed in _CHOICES.items():
        if _get(project, dotted) not in allowed:
            yield f"'{dotted}' is '{_get(project, dotted)}'; use {' or '.join(allowed)}."
    for dotted in _AT_LEAST_ONE:
        if _get(project, dotted) < 1:
            yield f"'{dotted}' is {_get(project, dotted)}; use at least 1."
    if 0 < project.tune.not_improving < 3:
        yield f"'tune.not_improving' is {project.tune.not_improving}; use at least 3, or 0 for never."
    memory = project.deploy.serverless_memory_mb
    if memory not in range(1024, 6145, 1024):
        yield f"'deploy.serverless_memory_mb' is {memory}; use 1024 to 6144 in steps of 1024."
    if bool(project.vpc.subnets) != bool(project.vpc.security_groups):
        yield "'vpc' needs both subnets and security_groups, or neither."
    try:
        hyperparameter_strings(project.hyperparameters)
    except ConfigError as error:
        yield from error.problems


def _get(project: Project, dotted: str) -> Any:
    value: Any = project
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def setting_names() -> list[str]:
    """Every key of a project file by its dotted name, for the documentation."""
    found: list[str] = []
    for part in fields(Project):
        default = getattr(Project(), part.name)
        inner = fields(default) if is_dataclass(default) else ()
        found += [f"{part.name}.{own.name}" for own in inner] or [part.name]
    return found
