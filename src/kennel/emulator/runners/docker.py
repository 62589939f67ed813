"""Images as containers, through the docker command line. A handle is the container's id."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kennel.contract.files import write_private
from kennel.contract.paths import ContainerPaths
from kennel.emulator.runners.base import (
    CAN_WAIT_LABEL,
    HOME_LABEL,
    STANDBY_LABEL,
    Launch,
    Lost,
    Mount,
    RunnerError,
    Running,
    State,
    Usage,
    Waiting,
)
from kennel.emulator.runners.container_log import Follower
from kennel.emulator.runners.docker_command import (
    MissingContainerError,
    docker,
    has_gpus,
    image_facts,
    image_labels,
    inspect,
)

MULTI_MODEL_LABEL = "com.amazonaws.sagemaker.capabilities.multi-models"
_LOG_LABEL = "kennel.log"
# The engine's own options do not matter then: nothing is dropped, and what is no UTF-8 is kept as it is.
_LOGGING = ["--log-driver=local"] + [
    f"--log-opt={option}" for option in ("mode=blocking", "max-size=1000000g", "max-file=1", "compress=false")
]
_INSPECT_S = 5.0  # how long a container counts as running because its log has not ended
_REMOVED_S = 10.0  # from a container's end to that of its log, when it is removed
_PULL_S = 3600.0
_ENV_LINE_BYTES = 60_000
_DOCKERS_OWN = re.compile(  # variables that change what docker, or a program that it starts, does
    r"(?i)(DOCKER|BUILD|COMPOSE|GO|LD_|SSH_|SSL_|OTEL_|XDG_|TMP|PATH$|HOME$|USER|LANG|LC_|NO_COLOR|\w+_PROXY$)"
)


class DockerRunner:
    """Starts containers and finds them again by their labels."""

    name = "docker"

    def __init__(self, home: Path, owner: tuple[int, int] | None = None) -> None:
        """Mark the containers as those of `home`; what they write is given to `owner`, or else to the caller.

        Raises:
            RunnerError: no engine answers.
        """
        self._home = str(home)
        self._assigned = home / "assigned"  # labels of containers that changed hands; docker's own cannot change
        self._owner = owner or (os.getuid(), os.getgid())
        self._gpus = has_gpus()
        self._followers: dict[str, Follower] = {}
        self._looks: dict[str, tuple[float, int]] = {}  # when the engine was asked, and how far the log was then
        self._told: set[str] = set()  # to end
        self._lock = threading.Lock()

    def _container_name(self, name: str) -> str:
        return f"kennel-{hashlib.sha256(self._home.encode()).hexdigest()[:8]}-{name}"

    def start(self, launch: Launch) -> str:
        """`docker run --detach`, pulling the image when it is not there (see Runner)."""
        name = self._container_name(launch.name)
        self.remove(name)
        if launch.network:
            self._make_network(launch.network, internal=launch.isolated)
        handle = self._run(launch, name)
        if STANDBY_LABEL not in launch.labels:  # its log is that of the job that will come
            self._follow(handle, launch.log_file)
        return handle

    def _run(self, launch: Launch, name: str, *, again: bool = True) -> str:
        try:
            with _environment(launch.environ) as (variables, lent):
                run = ["run", *self._options(launch, name), *variables, _image(launch.image), *self._command(launch)]
                return docker(*run, timeout_s=_PULL_S, environ=lent)
        except MissingContainerError as error:
            raise RunnerError(str(error)) from error
        except RunnerError as error:
            self.remove(name)
            if again and "is already in use by container" in str(error):  # begun by a server that was killed since
                return self._run(launch, name, again=False)
            raise

    def _options(self, launch: Launch, name: str) -> list[str]:
        labels = {**launch.labels, HOME_LABEL: self._home, _LOG_LABEL: str(launch.log_file)}
        options = [
            "--detach",
            f"--name={name}",
            f"--shm-size={launch.shm_size_bytes}",
            *_LOGGING,
            *self._network(launch),
        ]
        options += [f"--label={key}={value}" for key, value in labels.items()]
        options += [_mount(mount) for mount in launch.mounts]
        options += ["--gpus=all"] if self._gpus and launch.gpus else []
        options += [f"--user={launch.user}"] if launch.user else []
        options += [f"--entrypoint={launch.entrypoint[0]}"] if launch.entrypoint else []
        return options

    @staticmethod
    def _command(launch: Launch) -> list[str]:
        return [*launch.entrypoint[1:], *launch.arguments]

    def _network(self, launch: Launch) -> list[str]:
        options = [f"--hostname={launch.hostname}"] if launch.hostname else []
        if launch.network:
            options += [f"--network={self._container_name(launch.network)}"]
            options += [f"--network-alias={launch.hostname}"] if launch.hostname else []
        elif launch.isolated:
            options += ["--network=none", *([f"--add-host={launch.hostname}:127.0.0.1"] if launch.hostname else [])]
        elif sys.platform == "linux":
            options += ["--add-host=host.docker.internal:host-gateway"]  # where Docker Desktop has it, too
        if launch.port and not launch.isolated:
            options += [f"--publish=127.0.0.1::{launch.port}"]
        return options

    def _make_network(self, name: str, *, internal: bool) -> None:
        full = self._container_name(name)
        if docker("network", "ls", "--quiet", f"--filter=name=^{full}$"):
            return
        labels = [f"--label={HOME_LABEL}={self._home}"]
        docker("network", "create", *(["--internal"] if internal else []), *labels, full)

    def _follow(self, handle: str, log_file: Path) -> Follower:
        with self._lock:
            if handle not in self._followers:
                follower = self._followers[handle] = Follower(handle, log_file, self._lock_file(handle))
                follower.is_ours = handle in self._told
                follower.start()
                self._looks[handle] = (time.monotonic(), -1)
            return self._followers[handle]

    def _lock_file(self, handle: str) -> Path:
        return Path(self._home) / "followed" / handle

    def state(self, handle: str) -> State:
        """What is known from the copying of the log; the engine itself is asked now and then."""
        follower = self._followers.get(handle)
        if follower is None or time.monotonic() - self._looks.get(handle, (0.0, 0))[0] > _INSPECT_S:
            try:
                follower = self._look(handle, follower)
            except MissingContainerError:
                return Lost("The container is gone: somebody removed it.")
        if follower and follower.ended:
            return follower.ended
        if follower and follower.problem:
            raise RunnerError(follower.problem)
        return Running()

    def _look(self, handle: str, follower: Follower | None) -> Follower | None:
        """Who copies the log of a container that is there; None while it waits for a job that will have one."""
        found = inspect(handle)
        if follower is None:
            labels = self._new_labels(handle) or found["Config"]["Labels"]
            if STANDBY_LABEL in labels or _LOG_LABEL not in labels:
                return None
            follower = self._follow(handle, Path(labels[_LOG_LABEL]))
        if not found["State"]["Running"] and self._looks[handle][1] == follower.copied:
            follower.break_off()  # a dead connection does not say that nothing will come
        self._looks[handle] = (time.monotonic(), follower.copied)
        return follower

    def signal(self, handle: str) -> None:
        """`docker kill --signal TERM`."""
        self._kill(handle, "TERM")

    def kill(self, handle: str) -> None:
        """`docker kill`."""
        self._kill(handle, "KILL")

    def _kill(self, handle: str, signal_name: str) -> None:
        with self._lock:
            self._told.add(handle)
            if handle in self._followers:
                self._followers[handle].is_ours = True
        try:
            docker("kill", f"--signal={signal_name}", handle)
        except MissingContainerError:
            return
        except RunnerError as error:
            if "is not running" not in str(error):
                raise

    def remove(self, handle: str) -> None:
        """`docker rm --force`, and the network when this was its last container."""
        networks: list[str] = []
        try:
            networks = list(inspect(handle)["NetworkSettings"]["Networks"])
            if handle in self._followers:
                self.kill(handle)
                self._followers[handle].join(_REMOVED_S)  # its last lines are gone with it
            docker("rm", "--force", "--volumes", handle)
        except MissingContainerError:
            pass
        except RunnerError as error:
            if "already in progress" not in str(error):
                raise
        self._forget(handle)
        self._record(handle).unlink(missing_ok=True)
        self._lock_file(handle).unlink(missing_ok=True)
        for network in networks:
            if network.startswith(self._container_name("")):
                _remove_network(network)

    def _forget(self, handle: str) -> None:
        with self._lock:
            follower = self._followers.pop(handle, None)
            self._looks.pop(handle, None)
            self._told.discard(handle)
        if follower:
            follower.leave()

    def address(self, handle: str, port: int) -> tuple[str, int]:
        """The published port on 127.0.0.1; of an isolated container its own address, which Linux reaches."""
        try:
            found = inspect(handle)
        except MissingContainerError:
            raise RunnerError(f"The container {handle[:12]} is gone: somebody removed it.") from None
        settings = found["NetworkSettings"]
        published = (settings["Ports"] or {}).get(f"{port}/tcp")
        if published:
            return "127.0.0.1", int(published[0]["HostPort"])
        addresses = [network["IPAddress"] for network in settings["Networks"].values() if network["IPAddress"]]
        if not addresses:
            raise RunnerError(f"The container {handle[:12]} does not run, or is on no network; it has no port {port}.")
        return addresses[0], port

    def usage(self, handles: Sequence[str]) -> dict[str, Usage]:
        """`docker stats`, which asks for two readings."""
        form = "{{.ID}}\t{{.CPUPerc}}\t{{.MemPerc}}"
        try:
            listing = docker("stats", "--no-stream", "--no-trunc", f"--format={form}", *handles)
        except MissingContainerError:
            return {}
        found: dict[str, Usage] = {}
        for handle, *percents in (line.split("\t") for line in listing.splitlines()):
            with contextlib.suppress(ValueError):  # "--": it has ended
                found[handle] = Usage(*(float(percent.removesuffix("%")) for percent in percents))
        return found

    def program(self, handle: str) -> int | None:
        """What the engine says, if a process of this machine is in that container: the engine may be on another one."""
        try:
            pid = int(inspect(handle)["State"]["Pid"])
            return pid if handle in Path(f"/proc/{pid}/cgroup").read_text() else None
        except (MissingContainerError, OSError):
            return None

    def find(self, label: str, value: str | None = None) -> dict[str, str]:
        """All containers of this home with the label."""
        found = self._listed(label)
        changed = {path.stem: self._new_labels(path.stem) for path in self._assigned.glob("*.json")}
        if changed:
            waited = self._listed(STANDBY_LABEL)
            found = {handle: text for handle, text in found.items() if handle not in changed}
            found |= {one: labels[label] for one, labels in changed.items() if one in waited and label in labels}
        return {handle: text for handle, text in found.items() if value in (None, text)}

    def _listed(self, label: str) -> dict[str, str]:
        form = '{{.ID}}\t{{.Label "' + label + '"}}'
        mine = f"--filter=label={HOME_LABEL}={self._home}"
        listing = docker("ps", "--all", "--no-trunc", f"--filter=label={label}", mine, f"--format={form}")
        return dict(line.split("\t", 1) for line in listing.splitlines())

    def _record(self, handle: str) -> Path:
        return self._assigned / f"{handle}.json"

    def _new_labels(self, handle: str) -> dict[str, str]:
        try:
            labels: dict[str, str] = json.loads(self._record(handle).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return labels

    def waiting(self, image: str) -> Waiting | None:
        """An image that can wait says so by its label; bind mounts outlast a new name of their folder on Linux only."""
        facts = image_facts(image)
        argument = (facts["Config"].get("Labels") or {}).get(CAN_WAIT_LABEL) if facts else None
        if not facts or not argument or sys.platform != "linux":
            return None
        return Waiting((argument,), facts["Id"], early=lambda _: True)

    def assign(self, handle: str, labels: Mapping[str, str]) -> None:
        """Labels in a file, which is there as long as the container is."""
        try:
            status = inspect(handle)["State"]["Status"]
        except MissingContainerError:
            status = "gone"
        if status != "running":
            raise RunnerError(f"The container {handle[:12]} does not wait any more: it is {status}.")
        write_private(self._record(handle), labels)

    def begin(self, handle: str, launch: Launch) -> None:
        """Its standby file is in its own folder."""
        write_private(ContainerPaths(launch.base_dir).standby_file, {"environ": dict(launch.environ)})
        write_private(self._record(handle), {**launch.labels, _LOG_LABEL: str(launch.log_file)})
        self._follow(handle, launch.log_file)  # from its beginning: what it has said while it waited is in it

    def seen_path(self, base_dir: Path, container_path: str) -> str:  # noqa: ARG002 - a container has its own paths
        """The same path."""
        return container_path

    def own(self, folder: Path, image: str) -> None:
        """chown in a container of the image, since that needs root; nothing for root itself."""
        if self._owner == (0, 0):
            return
        owner = f"{self._owner[0]}:{self._owner[1]}"
        mount = _mount(Mount(folder, "/handover"))
        options = ["--rm", "--network=none", "--user=0", "--log-driver=none", "--entrypoint=chown", mount]
        docker("run", *options, _image(image), "-R", owner, "/handover")

    def multi_model_refusal(self, image: str) -> str | None:
        """The image must have SageMaker's label for it; it is pulled when it is not there."""
        labels = image_labels(_image(image), pull_s=_PULL_S)
        if labels.get(MULTI_MODEL_LABEL) == "true":
            return None
        return f"The image '{image}' cannot serve several models: it lacks the label {MULTI_MODEL_LABEL}=true."

    def refusal(self, launch_hosts: int, *, isolated: bool) -> str | None:  # noqa: ARG002 - docker can do all of it
        """None: containers have names and can be isolated."""
        return None


def _remove_network(name: str) -> None:
    try:
        docker("network", "rm", name)
    except (RunnerError, MissingContainerError):
        return  # another container is still in it; its removal ends the network


def _image(name: str) -> str:
    """A request's image, which must not become an option: --volume=/:/machine would mount what no URI names."""
    if name.startswith("-"):
        raise RunnerError(f"'{name}' is no image's name: it begins with a hyphen. Correct the request.")
    return name


def _mount(mount: Mount) -> str:
    """Not --volume: that would make a missing source, and split a path that holds a colon."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"] + ["readonly"] * mount.read_only
    line = io.StringIO()
    csv.writer(line, lineterminator="", quoting=csv.QUOTE_ALL).writerow(fields)  # a path may hold a comma
    return f"--mount={line.getvalue()}"


@contextlib.contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Options that set the variables, and what docker itself must have in its environment for that.

    In a file of our own, because everybody may read a process's arguments. A line of it cannot hold all: what does not
    fit docker takes from its own variables, unless it would itself obey them.
    """
    if any("\0" in text for pair in environ.items() for text in pair):
        raise RunnerError("A variable of the Environment holds the character NUL, which no program can be given.")
    odd = {name: value for name, value in environ.items() if not _is_a_line(f"{name}={value}")}
    lent = {name: value for name, value in odd.items() if not _DOCKERS_OWN.match(name)}
    with tempfile.NamedTemporaryFile("w", prefix="kennel-env-", encoding="utf-8", newline="") as file:  # mode 600
        file.writelines(f"{name}={value}\n" for name, value in environ.items() if name not in odd)
        file.flush()
        options = [f"--env={name}" if name in lent else f"--env={name}={value}" for name, value in odd.items()]
        yield [f"--env-file={file.name}", *options], lent


def _is_a_line(text: str) -> bool:
    """Whether docker reads it as it was written: it drops a carriage return at the end, and reads 64 KiB at most."""
    return not {"\n", "\r"} & set(text) and len(text.encode()) < _ENV_LINE_BYTES
