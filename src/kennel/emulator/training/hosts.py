"""The hosts of a job as folders and launches: what lies below each base folder, and what is mounted where."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.paths import BASE_DIR, ContainerPaths
from kennel.contract.programs import FEEDER, SAMPLER
from kennel.emulator.runners.base import (
    FEEDER_LABEL,
    GIBIBYTE,
    HOST_LABEL,
    JOB_LABEL,
    SAMPLER_LABEL,
    Launch,
    Mount,
    Runner,
)
from kennel.emulator.state.sync import FolderSync
from kennel.emulator.training import shared as tuning_shared
from kennel.emulator.training.channels import PIPE, Channel, read_channels
from kennel.emulator.training.config_files import PROFILER, TENSORBOARD, TENSORS, Host, config_files, read_hosts
from kennel.emulator.training.feeder import Feed, write_feeds
from kennel.emulator.training.inputs import channel_mounts, deliver
from kennel.storage import FILE, Uri

_UNFINISHED = ".tmp"  # smdebug's, and Kennel's
_INTERVAL_MS = 500  # ProfilingIntervalInMilliseconds where the request has none
_CONTAINER = ContainerPaths(Path(BASE_DIR))
_UPLOADED = {  # member of the request: the default folder, and its place below S3OutputPath/JOB
    "DebugHookConfig": (TENSORS, "debug-output"),
    "TensorBoardOutputConfig": (TENSORBOARD, "tensorboard-output"),
    "ProfilerConfig": (PROFILER, "profiler-output"),
}


@dataclass(frozen=True)
class JobHost:
    """One host of one job on this machine."""

    host: Host
    document: Mapping[str, Any]
    hosts: tuple[Host, ...]
    folder: Path  # everything of this host
    region: str

    @property
    def paths(self) -> ContainerPaths:
        """What stands for SageMaker's base folder."""
        return ContainerPaths(self.folder / "ml")

    @property
    def run_name(self) -> str:
        """The name of the container; resource names have no dots, so no two can be the same."""
        return f"job.{self.document['TrainingJobName']}.{self.host.name}"

    @property
    def feeds_file(self) -> Path:
        """What the feeder of this host's pipes reads."""
        return self.folder / "feeds.json"

    @property
    def feeder_log(self) -> Path:
        """What that feeder has to say."""
        return self.folder / "feeder.log"

    def channels(self) -> list[Channel]:
        """Those that this host's group gets."""
        return [c for c in read_channels(self.document) if not c.groups or self.host.group in c.groups]

    def lay_out(self) -> None:
        """Make all folders that are mounted, as far as they are not there."""
        paths = self.paths
        for folder in (paths.config_dir, paths.channels_dir, paths.model_dir, paths.output_data_dir):
            folder.mkdir(parents=True, exist_ok=True)
        for channel in self._folder_channels():
            (paths.channels_dir / channel.name).mkdir(exist_ok=True)
        for mount in (*self._checkpoints(), *self._shared()):
            mount.source.mkdir(parents=True, exist_ok=True)

    def mounts(self) -> list[Mount]:
        """Everything of this machine that the program sees, known before the data is there."""
        paths = self.paths
        found = [
            Mount(paths.base / "input", str(_CONTAINER.base / "input")),
            Mount(paths.model_dir, str(_CONTAINER.model_dir)),
            Mount(paths.base / "output", str(_CONTAINER.base / "output")),
        ]
        for channel in self._folder_channels():
            target = str(_CONTAINER.channels_dir / channel.name)
            _, count = self._rank(channel)
            found += channel_mounts(channel, paths.channels_dir / channel.name, target, hosts=count)
        return found + self._checkpoints() + self._shared()

    def prepare(self, runner: Runner, stopped: Callable[[], bool], *, anew: bool = True) -> None:
        """Fill the folder with configuration and channels; it is not whole once the job is stopped.

        Args:
            runner: who will start the host.
            stopped: asked before each channel.
            anew: remove the folder first; not where somebody waits in it.

        Raises:
            StorageError: a channel cannot be brought.
            ValueError: a path that this runner cannot offer.
        """
        if anew:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.lay_out()
        self._write_config(runner)
        for mount in self._checkpoints():
            runner.seen_path(self.paths.base, mount.target)
        feeds: list[Feed] = []
        for channel in self.channels():
            if stopped():
                return
            rank, count = self._rank(channel)
            folder = self.paths.channels_dir / channel.name
            if channel.input_mode == PIPE:
                feeds.append(Feed(channel, f"{folder}_", rank, count))
            else:
                deliver(channel, folder, rank=rank, hosts=count)
        if feeds:
            write_feeds(feeds, self.feeds_file)

    def _folder_channels(self) -> list[Channel]:
        return [channel for channel in self.channels() if channel.input_mode != PIPE]

    def _shared(self) -> list[Mount]:
        """What the trials of a tuning job have in common; a job of several hosts would write it from each of them."""
        folder = tuning_shared.folder_of(self.document) if len(self.hosts) == 1 else None
        return [Mount(folder, str(_CONTAINER.shared_dir))] if folder else []

    def _rank(self, channel: Channel) -> tuple[int, int]:
        getting = [host for host in self.hosts if not channel.groups or host.group in channel.groups]
        return getting.index(self.host), len(getting)

    def _write_config(self, runner: Runner) -> None:
        files = config_files(
            self.document,
            self.channels(),
            self.host,
            list(self.hosts),
            interface="eth0" if runner.name == "docker" and not self._is_cut_off else "lo",
            seen=lambda path: runner.seen_path(self.paths.base, path),
            local_paths={member: self.local_path(member) for member in ("CheckpointConfig", *_UPLOADED)},
        )
        for name, content in files.items():
            (self.paths.config_dir / name).write_text(json.dumps(content), encoding="utf-8")

    @property
    def _is_cut_off(self) -> bool:
        return bool(self.document.get("EnableNetworkIsolation")) and len(self.hosts) == 1

    def local_path(self, member: str) -> str:
        """The container's folder for CheckpointConfig and its like."""
        default = str(_CONTAINER.checkpoints_dir)
        if member in _UPLOADED:
            default = str(_CONTAINER.base / _UPLOADED[member][0])
        config = self.document.get(member) or {}
        given = (config.get("ProfilingParameters") or {}) if member == "ProfilerConfig" else config
        return os.path.normpath(given.get("LocalPath") or default)

    def _checkpoints(self) -> list[Mount]:
        """A folder of this machine is mounted where it is; one of S3 has a folder here that is kept like it."""
        config = self.document.get("CheckpointConfig")
        if not config:
            return []
        uri, target = Uri.parse(config["S3Uri"]), self.local_path("CheckpointConfig")
        return [Mount(uri.file if uri.scheme == FILE else self.checkpoints_dir, target)]

    @property
    def checkpoints_dir(self) -> Path:
        """This host's copy of the checkpoints of S3; outside the base folder, since LocalPath may be anywhere."""
        return self.folder / "checkpoints"

    def written_folders(self) -> list[Path]:
        """The folders of this machine that the program can write into."""
        config = self.document.get("CheckpointConfig")
        uri = Uri.parse(config["S3Uri"]) if config else None
        places = [self.folder, *([uri.file] if uri and uri.scheme == FILE else [])]
        places += [mount.source for mount in self._shared()]
        return [place for place in places if place.is_dir()]

    def checkpoint_sync(self, warn: Callable[[str], None]) -> FolderSync | None:
        """Who keeps the checkpoints of S3; None where they are a folder of this machine."""
        config = self.document.get("CheckpointConfig")
        if not config or Uri.parse(config["S3Uri"]).scheme == FILE:
            return None
        return FolderSync(self.checkpoints_dir, Uri.parse(config["S3Uri"]), self.folder / "checkpoints.json", warn)

    def output_syncs(self, warn: Callable[[str], None]) -> Iterator[FolderSync]:
        """Who uploads tensors, TensorBoard's files and profiles while they come."""
        for member, (_, below) in _UPLOADED.items():
            config = self.document.get(member) or {}
            relative = os.path.relpath(self.local_path(member), _CONTAINER.base)
            if config.get("S3OutputPath") and not relative.startswith(".."):
                source, known = self.paths.base / relative, self.folder / f"{below}.json"
                yield FolderSync(source, self._uploaded_to(member), known, warn, unfinished=_UNFINISHED)
        if self.is_sampled:
            place = self._uploaded_to("ProfilerConfig")
            yield FolderSync(self.profile_dir, place, self.folder / "profile.json", warn)

    def _uploaded_to(self, member: str) -> Uri:
        """The job's place below the S3OutputPath of DebugHookConfig and its like."""
        place = Uri.parse(self.document[member]["S3OutputPath"])
        return place.join(self.document["TrainingJobName"], _UPLOADED[member][1])

    @property
    def is_sampled(self) -> bool:
        """Whether the request wants system metrics, and says where."""
        config = self.document.get("ProfilerConfig") or {}
        return bool(config.get("S3OutputPath")) and not config.get("DisableProfiler")

    @property
    def profile_dir(self) -> Path:
        """System metrics of this host until they are uploaded; where the program cannot reach them."""
        return self.folder / "profile"

    def sampler(self, pid: int, *, container: bool) -> Launch:
        """The process that samples this host from outside, whatever its image, beginning with the program `pid`."""
        interval_ms = self.document["ProfilerConfig"].get("ProfilingIntervalInMilliseconds") or _INTERVAL_MS
        options = ["--pid", str(pid), "--node", self.host.name, "--interval-ms", str(interval_ms)]
        return Launch(
            name=f"sampler.{self.document['TrainingJobName']}.{self.host.name}",
            image="",
            log_file=self.folder / "sampler.log",
            base_dir=self.folder,
            entrypoint=(sys.executable, "-m", SAMPLER, str(self.profile_dir), *options),
            arguments=("--account", "container" if container else "tree"),
            labels={JOB_LABEL: self.document["TrainingJobName"], SAMPLER_LABEL: self.host.name},
        )

    def launch(self, log_file: Path) -> Launch:
        """What the runner is told."""
        algorithm, name = self.document["AlgorithmSpecification"], self.document["TrainingJobName"]
        entrypoint = tuple(algorithm.get("ContainerEntrypoint") or ())
        arguments = tuple(algorithm.get("ContainerArguments") or (() if entrypoint else ("train",)))
        several = len(self.hosts) > 1
        return Launch(
            name=self.run_name,
            image=algorithm["TrainingImage"],
            log_file=log_file,
            base_dir=self.paths.base,
            arguments=arguments,
            entrypoint=entrypoint,
            environ=self._environ(),
            mounts=tuple(self.mounts()),
            hostname=self.host.name,
            hosts=tuple(host.name for host in self.hosts),
            network=f"job.{name}" if several else None,
            isolated=bool(self.document.get("EnableNetworkIsolation")),
            shm_size_bytes=max(2 * GIBIBYTE, _memory_bytes() // 2),
            labels={JOB_LABEL: name, HOST_LABEL: self.host.name},
        )

    def _environ(self) -> dict[str, str]:
        region = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        own = {
            "TRAINING_JOB_NAME": self.document["TrainingJobName"],
            "TRAINING_JOB_ARN": self.document["TrainingJobArn"],
        }
        return region | dict(self.document.get("Environment") or {}) | own

    def feeder(self) -> Launch | None:
        """The process that fills the pipes; it is not the image's, so it runs on this machine with either runner."""
        if not self.feeds_file.exists():
            return None
        return Launch(
            name=f"feeder.{self.document['TrainingJobName']}.{self.host.name}",
            image="",
            log_file=self.feeder_log,
            base_dir=self.folder,
            entrypoint=(sys.executable, "-m", FEEDER, str(self.feeds_file)),
            arguments=(),
            environ={name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            labels={JOB_LABEL: self.document["TrainingJobName"], FEEDER_LABEL: self.host.name},
        )


def job_hosts(document: Mapping[str, Any], folder: Path, region: str) -> list[JobHost]:
    """All hosts of a job, each with a folder below the job's own."""
    hosts = tuple(read_hosts(document))
    return [JobHost(host, document, hosts, folder / "hosts" / host.name, region) for host in hosts]


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
