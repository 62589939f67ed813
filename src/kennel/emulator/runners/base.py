"""What starts the images: a runner, and what it is told.

The two runners do the same job, one with containers and one with plain processes. What they start does not end with the
emulator: a handle is a string that can be stored, and after a restart the same handle finds the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

GIBIBYTE = 1 << 30
HOME_LABEL, JOB_LABEL, HOST_LABEL, ENDPOINT_LABEL = "kennel.home", "kennel.job", "kennel.host", "kennel.endpoint"
TRANSFORM_LABEL = "kennel.transform"  # holds the name of a transform job
RULE_LABEL = "kennel.rule"  # a process that judges the training job which the label names
SAMPLER_LABEL = "kennel.sampler"  # a process that samples the host that the label names
FEEDER_LABEL = "kennel.feeder"  # a process that fills the pipes of the host that the label names
STANDBY_LABEL = "kennel.waits"  # a run that waits for its job
CAN_WAIT_LABEL = "kennel.standby"  # of an image, not of a run: the argument that makes it wait


class RunnerError(Exception):
    """Something could not be started, or the engine does not answer. The message says what to do."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that a run sees under a path of its own."""

    source: Path
    target: str  # absolute, in the container
    read_only: bool = False


@dataclass(frozen=True)
class Launch:
    """One container, or what stands for it."""

    name: str  # unique among all runs of a home; a run of the same name is replaced
    image: str
    log_file: Path  # JSON lines {"timestamp": ms, "message": text} are appended, stdout and stderr together
    base_dir: Path  # without containers, this folder stands for SageMaker's own base folder
    arguments: tuple[str, ...] = ("train",)
    entrypoint: tuple[str, ...] = ()  # empty: the image's own
    environ: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    hostname: str | None = None
    hosts: tuple[str, ...] = ()  # of several that must find each other by name
    network: str | None = None  # that joins them; made when it is missing
    isolated: bool = False  # reaches nothing but these hosts
    port: int | None = None  # what it listens on; `address` tells where to find it from here
    shm_size_bytes: int = 2 * GIBIBYTE
    gpus: bool = True  # all that there are
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None  # None: the image's own
    many: bool = False  # others like it will follow soon


@dataclass(frozen=True)
class Waiting:
    """How an image is started before its job comes."""

    arguments: tuple[str, ...]  # instead of the job's own; the seconds to wait follow
    identity: str  # what is started, to the bit
    early: Callable[[Mount], bool]  # whether a mount must be known when it is started; others can come with the job


@dataclass(frozen=True)
class Running:
    """It has not ended."""


@dataclass(frozen=True)
class Exited:
    """It has ended, and its whole log is in the file."""

    code: int  # 128 + n when signal n ended it
    reason: str = ""  # what the engine knows beyond the code, such as that memory ran out


@dataclass(frozen=True)
class Lost:
    """It is gone and nobody knows how it ended."""

    reason: str


State = Running | Exited | Lost


@dataclass(frozen=True)
class Usage:
    """What one run uses of this machine."""

    cpu_percent: float  # 100 for each core
    memory_percent: float  # of this machine's


class Runner(Protocol):
    """Starts images and looks after what it started. All methods may be called from any thread."""

    name: str

    def start(self, launch: Launch) -> str:
        """Start and return the handle. A run of the same name that is left from before is removed first.

        Raises:
            RunnerError: it could not be started; nothing is left of it.
        """

    def state(self, handle: str) -> State:
        """How it is now. After a restart of the emulator the first call takes up the log where it ended.

        Raises:
            RunnerError: the engine does not answer.
        """

    def signal(self, handle: str) -> None:
        """Send SIGTERM to the program, as StopTrainingJob and DeleteEndpoint do; nothing when it has ended."""

    def kill(self, handle: str) -> None:
        """Send SIGKILL to everything in it; nothing when it has ended."""

    def remove(self, handle: str) -> None:
        """Kill it, and forget all that is left of it but its log and its mounts."""

    def address(self, handle: str, port: int) -> tuple[str, int]:
        """Host and port from which this machine reaches what listens on `Launch.port`.

        Raises:
            RunnerError: it does not run, or has no such port.
        """

    def usage(self, handles: Sequence[str]) -> dict[str, Usage]:
        """What those of them use that run, measured over about a second.

        Raises:
            RunnerError: the engine does not answer.
        """

    def program(self, handle: str) -> int | None:
        """The process id of its first program, as this machine sees it; None where that is not running or not here."""

    def find(self, label: str, value: str | None = None) -> dict[str, str]:
        """The label's value for each handle of this home, running or ended, that has the label (with that value)."""

    def seen_path(self, base_dir: Path, container_path: str) -> str:
        """What a path of the container is called by the program itself.

        Raises:
            ValueError: the program cannot have such a path.
        """

    def own(self, folder: Path, image: str) -> None:
        """Hand a folder that containers wrote into, as root, over to who runs the emulator."""

    def waiting(self, image: str) -> Waiting | None:
        """How to start an image before its job comes; None when it cannot wait.

        Raises:
            RunnerError: the engine does not answer.
        """

    def assign(self, handle: str, labels: Mapping[str, str]) -> None:
        """Give a run that waits other labels: whoever looks for them finds it from now on, and no more for the old.

        Raises:
            RunnerError: it does not wait any more.
        """

    def begin(self, handle: str, launch: Launch) -> None:
        """Let a run that waits, and was assigned, begin with its job, whose base folder is laid out.

        It has the launch's labels only when it has begun.

        Raises:
            RunnerError: it cannot be told.
        """

    def multi_model_refusal(self, image: str) -> str | None:
        """Why an image cannot serve several models, as a sentence; None when it can, or when nobody can know.

        Raises:
            RunnerError: the image cannot be had.
        """

    def refusal(self, launch_hosts: int, *, isolated: bool) -> str | None:
        """Why this machine cannot run so many hosts or isolate them, as a sentence; None when it can."""
