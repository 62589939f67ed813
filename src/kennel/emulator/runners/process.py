"""Images as plain processes, for machines without docker.

An image stands for a command: Kennel's own images for this project's own entry points, others for what
KENNEL_HOME/images.json says: {"NAME": [COMMAND]}, or {"NAME": {"command": [COMMAND], "standby": ARGUMENT}} where a
further argument makes the program wait for its job (standbys.py). A private folder stands for SageMaker's base folder;
the program finds it in SAGEMAKER_BASE_DIR. What is mounted read-only cannot be written where the machine has
namespaces; elsewhere it is a symbolic link, which keeps nobody from writing, as is what may be written everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kennel.contract.files import write_private
from kennel.contract.paths import BASE_DIR, BASE_DIR_VARIABLE, ContainerPaths
from kennel.contract.presence import Process
from kennel.contract.programs import CHILD
from kennel.emulator.runners.base import Exited, Launch, Lost, Mount, RunnerError, Running, State, Usage, Waiting
from kennel.emulator.runners.child import EXIT, LAUNCH, PROCESS, raise_problem
from kennel.emulator.runners.commands import Commands, UnknownImageError
from kennel.emulator.runners.forking import ForkServers
from kennel.emulator.runners.namespaces import possible
from kennel.emulator.runners.ports import free_meeting_port, free_port
from kennel.emulator.runners.processes import descendants, memory_percent, processor_s
from kennel.emulator.state import open_files

_MEETINGS = 200  # whose ports are not given to others before somebody listens there
# Processes share the processors: OpenMP's threads spin while they wait, which halves the speed of two torch programs.
_COMPANY = {"OMP_WAIT_POLICY": "passive"}
_NOT_INHERITED = ("AWS_", "KENNEL_", "SAGEMAKER_", "SM_")  # the emulator's own, and what only the platform may say
_PORT_VARIABLES = ("SAGEMAKER_BIND_TO_PORT",)
_MEETING_VARIABLE = "MASTER_PORT"  # torchrun's name for the port on which the hosts of a job meet
_KILL_S = 5
_USAGE_S = 1.0  # between two readings


class ProcessRunner:
    """Starts programs of this machine. A handle is the folder with what is known about the run."""

    name = "process"

    def __init__(self, runs_dir: Path, images_file: Path) -> None:
        """Keep a folder for each run in `runs_dir`; `images_file` maps images to commands, if it exists."""
        self._runs_dir = runs_dir
        self._commands = Commands(images_file)
        self._forks = ForkServers(runs_dir / "fork-server.log")
        self._meetings: dict[str, int] = {}  # the port of each network
        self._lock = threading.Lock()

    def start(self, launch: Launch) -> str:
        """Start the image's command in a session of its own (see Runner)."""
        folder = self._runs_dir / launch.name
        self.remove(str(folder))
        folder.mkdir(parents=True, exist_ok=True)  # too few open files may have kept it
        port = free_port() if launch.port else None
        try:
            record = self._record(launch, folder, port)
            write_private(folder / LAUNCH, record)
            if not (launch.many and self._fork(launch, folder, record["environ"])):
                _run_child(folder, launch.image)
        except RunnerError:
            _forget(folder)
            raise
        except (OSError, ValueError) as error:
            _forget(folder)
            raise RunnerError(str(error)) from error
        return str(folder)

    def _fork(self, launch: Launch, folder: Path, environ: Mapping[str, str]) -> bool:
        """Start the run without its imports, where that can be."""
        command = None if launch.entrypoint else self._commands.find(launch.image)
        if command is None or command.preload is None:
            return False
        common = {name: value for name, value in environ.items() if name != BASE_DIR_VARIABLE}
        return self._forks.start(command.preload, command.identity(), common, folder)

    def _record(self, launch: Launch, folder: Path, port: int | None) -> dict[str, Any]:
        own = {BASE_DIR_VARIABLE: str(launch.base_dir)} | {name: str(port) for name in _PORT_VARIABLES if port}
        if launch.network and len(launch.hosts) > 1 and _MEETING_VARIABLE not in launch.environ:
            own[_MEETING_VARIABLE] = str(
                self._meeting_port(launch.network, is_first=launch.hostname == launch.hosts[0])
            )
        return {
            "command": [*(launch.entrypoint or self.command(launch.image)), *launch.arguments],
            "folder": str(launch.base_dir),
            "environ": {**_COMPANY, **_inherited(os.environ), **launch.environ, **own},
            "log_file": str(launch.log_file),
            "labels": dict(launch.labels),
            "port": port,
            "hosts_file": _hosts_file(folder, launch) if _needs_names(launch) else None,
            "isolated": launch.isolated,
            "read_only": _place_mounts(launch.base_dir, launch.mounts),
            "open_files": open_files.inherited(),
        }

    def _meeting_port(self, network: str, *, is_first: bool) -> int:
        """One for all hosts of a network: all networks share this machine's ports, unlike those of containers."""
        with self._lock:
            if is_first or network not in self._meetings:
                self._meetings.pop(network, None)
                for oldest in list(self._meetings)[: -_MEETINGS or None]:  # of jobs that have ended long ago
                    del self._meetings[oldest]
                self._meetings[network] = free_meeting_port(network, set(self._meetings.values()))
            return self._meetings[network]

    def command(self, image: str) -> list[str]:
        """What an image stands for, without its arguments.

        Raises:
            RunnerError: nobody has said it.
        """
        return self._commands.find(image).words

    def state(self, handle: str) -> State:
        """What the run's folder and the process table say."""
        folder = Path(handle)
        for _ in range(2):  # it may end between the two looks
            ended = _read(folder / EXIT)
            if ended:
                return Exited(ended["code"])
            if self._parent(folder):
                return Running()
        if not folder.is_dir():
            return Lost("Nothing is known about the process any more: its folder was removed.")
        return Lost(
            "The process is gone and its exit status was not kept: somebody killed it, or the machine restarted."
        )

    @staticmethod
    def _parent(folder: Path) -> int | None:
        """The process id of the living parent of the program."""
        process = _read(folder / PROCESS)
        with _looking(folder.name):
            alive = process and Process(process["pid"], process["started"]).is_alive
        return int(process["pid"]) if process and alive else None

    def signal(self, handle: str) -> None:
        """SIGTERM to the program alone: a whole group's data loaders would die before it could save."""
        self._send(Path(handle), signal.SIGTERM)

    def kill(self, handle: str) -> None:
        """SIGKILL to the program and all below it."""
        self._send(Path(handle), signal.SIGUSR1)

    def _send(self, folder: Path, number: int) -> None:
        parent = self._parent(folder)
        if parent:
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, number)

    def remove(self, handle: str) -> None:
        """Kill it and remove its folder."""
        folder = Path(handle)
        self.kill(handle)
        deadline = time.monotonic() + _KILL_S
        while self._parent(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        parent, process = self._parent(folder), _read(folder / PROCESS)
        if parent and process:  # it does not listen any more: without it the program ends as well
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process["program"], signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signal.SIGKILL)
        _forget(folder)

    def address(self, handle: str, port: int) -> tuple[str, int]:
        """The free port that the program was given in SAGEMAKER_BIND_TO_PORT."""
        launch = _read(Path(handle) / LAUNCH)
        if not launch or not launch["port"]:
            raise RunnerError(f"The process of {Path(handle).name} listens on no port (it was asked for {port}).")
        return "127.0.0.1", int(launch["port"])

    def usage(self, handles: Sequence[str]) -> dict[str, Usage]:
        """What /proc says of each program and all below it; nothing where there is none."""
        first = {handle: self._processor_s(handle) for handle in handles}
        begun = time.monotonic()
        time.sleep(_USAGE_S)
        found: dict[str, Usage] = {}
        for handle in handles:
            parent, spent = self._parent(Path(handle)), self._processor_s(handle)
            percent = 100 * sum(spent[pid] - first[handle].get(pid, 0) for pid in spent) / (time.monotonic() - begun)
            if parent and spent:
                found[handle] = Usage(percent, memory_percent(descendants(parent)))
        return found

    def _processor_s(self, handle: str) -> dict[int, float]:
        parent = self._parent(Path(handle))
        return processor_s(descendants(parent)) if parent else {}

    def program(self, handle: str) -> int | None:
        """The program's own, below the parent that notes its end."""
        process = _read(Path(handle) / PROCESS) if self._parent(Path(handle)) else None
        return int(process["program"]) if process else None

    def find(self, label: str, value: str | None = None) -> dict[str, str]:
        """Every folder whose launch has the label."""
        found: dict[str, str] = {}
        with _looking("all runs"):
            folders = sorted(self._runs_dir.glob("*/"))
        for folder in folders:
            labels = (_read(folder / LAUNCH) or {}).get("labels", {})
            if label in labels and value in (None, labels[label]):
                found[str(folder)] = labels[label]
        return found

    def waiting(self, image: str) -> Waiting | None:
        """Kennel's own trainer can wait, and what images.json says it of."""
        with contextlib.suppress(UnknownImageError):
            command = self._commands.find(image)
            if command.standby:
                return Waiting((command.standby,), command.identity(), _is_early)
        return None

    def assign(self, handle: str, labels: Mapping[str, str]) -> None:
        """Its launch.json has the labels."""
        folder = Path(handle)
        launch = _read(folder / LAUNCH)
        if launch is None or self._parent(folder) is None:
            raise RunnerError(f"The process of {folder.name} does not wait any more: it has ended.")
        write_private(folder / LAUNCH, {**launch, "labels": dict(labels)})

    def begin(self, handle: str, launch: Launch) -> None:
        """Its standby file tells it the new place of its base folder."""
        record = _read(Path(handle) / LAUNCH)
        if record is None:
            raise RunnerError(f"The process of {Path(handle).name} has ended.")
        record |= {"folder": str(launch.base_dir), "log_file": str(launch.log_file)}
        environ = {**launch.environ, BASE_DIR_VARIABLE: str(launch.base_dir)}
        try:
            _place_mounts(launch.base_dir, launch.mounts)  # what is mounted read-only is there; the rest is linked
            write_private(Path(handle) / LAUNCH, record)  # before the first line, which goes to that log
            write_private(ContainerPaths(launch.base_dir).standby_file, {"environ": environ})
            write_private(Path(handle) / LAUNCH, {**record, "labels": dict(launch.labels)})
        except (OSError, ValueError) as error:
            raise RunnerError(str(error)) from error

    def seen_path(self, base_dir: Path, container_path: str) -> str:
        """The place below the private folder that stands for a path below SageMaker's."""
        return str(_place(base_dir, container_path))

    def own(self, folder: Path, image: str) -> None:
        """Nothing: the program ran as the caller."""

    def multi_model_refusal(self, image: str) -> str | None:  # noqa: ARG002 - a command has no labels
        """None: a program that knows no POST /models says so when it is asked."""
        return None

    def refusal(self, launch_hosts: int, *, isolated: bool) -> str | None:
        """Names of hosts and isolation need namespaces."""
        if launch_hosts > 1 and isolated:
            return (
                "Plain processes cannot be isolated and still reach each other: use the docker runner for isolated "
                "jobs of several instances."
            )
        if (launch_hosts > 1 or isolated) and not possible():
            wanted = "Network isolation" if isolated else "The names of several instances"
            return (
                f"{wanted} of plain processes needs Linux and its user namespaces, which this machine does not allow. "
                "Use the docker runner, or allow them (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)."
            )
        return None


def _forget(folder: Path) -> None:
    """Remove a run's folder: first what is known of the run, for which no file need be opened, unlike for the rest."""
    for name in (LAUNCH, PROCESS, EXIT):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _run_child(folder: Path, image: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", CHILD, str(folder)],  # stderr is its answer
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise_problem(done.stderr.strip(), f"The command of the image '{image}' could not be started: ")


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}
    return kept | {"PYTHONUNBUFFERED": "1"}


def _needs_names(launch: Launch) -> bool:
    """Several hosts and isolated ones cannot do without; one by itself has a name where the machine allows it."""
    return bool(launch.hosts) and (len(launch.hosts) > 1 or launch.isolated or possible())


def _hosts_file(folder: Path, launch: Launch) -> str:
    """This machine's /etc/hosts with an address of 127.0.0.0/8 for each host, the same for all hosts of a job."""
    digest = hashlib.sha256((launch.network or launch.name).encode()).digest()
    prefix = f"127.{digest[0] or 1}.{digest[1]}"
    lines = [f"{prefix}.{number} {name}" for number, name in enumerate(launch.hosts, 1)]
    path = folder / "hosts"
    path.write_text(Path("/etc/hosts").read_text(encoding="utf-8") + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def _place(base_dir: Path, container_path: str) -> Path:
    relative = os.path.relpath(os.path.normpath(container_path), BASE_DIR)
    if Path(relative).parts[:1] == ("..",):
        raise ValueError(
            f"'{container_path}' is not below {BASE_DIR}, and a plain process has no other folders of its own. Choose "
            "a path below it, or use the docker runner."
        )
    return base_dir / relative


def _place_mounts(base_dir: Path, mounts: tuple[Mount, ...]) -> list[tuple[str, str]]:
    """Make the place of every mount; those that are read-only are returned, and mounted in the program's namespace."""
    read_only: list[tuple[str, str]] = []
    for mount in mounts:
        place = _place(base_dir, mount.target)
        if mount.read_only and possible():
            _make_place(mount.source, place)
            read_only.append((str(mount.source), str(place)))
        elif place != mount.source:
            _link(mount.source, place)
    return read_only


def _is_early(mount: Mount) -> bool:
    """Whether a mount is made before the program starts; others are links."""
    return mount.read_only and possible()


def _make_place(source: Path, place: Path) -> None:
    """An empty file or folder for one to be mounted on; what a link left of an earlier run is removed."""
    if place.is_symlink():
        place.unlink()
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir():
        place.rmdir()  # made for the mount; one that holds something is not replaced
    place.symlink_to(source)


@contextlib.contextmanager
def _looking(at: str) -> Iterator[None]:
    """What cannot be looked at, as with too many open files, is neither there nor gone."""
    try:
        yield
    except OSError as error:
        raise RunnerError(f"The process of {at} cannot be looked at: {error.strerror}.") from error


def _read(path: Path) -> dict[str, Any] | None:
    """None when there is no such file, or nothing in it yet.

    Raises:
        RunnerError: it cannot be read now.
    """
    with _looking(path.parent.name):
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return value
