"""Begins to measure a training process: what it is told, where it writes, and the sampler beside it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from kennel.classifier.processes.distributed import World
from kennel.classifier.profiler.cuda_clock import CudaClock
from kennel.classifier.profiler.operators import Operators
from kennel.classifier.profiler.profiler import OFF, Profiler
from kennel.classifier.profiler.settings import ProfileSettings, node_name, profile_settings
from kennel.classifier.profiler.system import Machine
from kennel.classifier.profiler.timeline import Clock, Timeline, finish
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths
from kennel.contract.programs import SAMPLER

_LOG = logging.getLogger(__name__)


def start(config: TrainConfig, paths: ContainerPaths, world: World, device: torch.device) -> Profiler:
    """Begin to measure this process, as early as can be; the first process of a host also starts the sampler.

    Args:
        config: `profiler` and its like.
        paths: where the request's ProfilerConfig may be, and where files go without one.
        world: the processes that train together.
        device: where the network will be.
    """
    settings = profile_settings(config, paths)
    if settings is None:
        return OFF
    node = node_name(paths)
    if world.leads_host:
        for left in finish(settings.folder, node):
            _LOG.info("Profiler: finished %s of an earlier run", left.name)
    timeline = Timeline(settings.folder, node, rotation=settings.rotation)
    operators = None
    if settings.window and world.leads_host:
        writer = f"{timeline.pid}-{node}"
        operators = Operators(settings.window, settings.folder, writer, device)
    clock = CudaClock() if device.type == "cuda" else None
    profiler = Profiler(timeline, operators=operators, clock=clock, sampler=_sampler(settings, node, world))
    start_us = int(psutil.Process().create_time() * 1e6)
    started_ns = _monotonic_ns(start_us, timeline.clock)
    timeline.add("Initialization", started_ns, time.monotonic_ns(), {}, name="Imports")
    profiler.describe(**_facts(settings, node, world, device), start_us=start_us)
    timeline.flush()
    if world.is_first:
        _LOG.info("Profiler: by %s, in %s", settings.source, settings.folder)
    return profiler


def _monotonic_ns(wall_us: int, clock: Clock) -> int:
    return clock.monotonic_ns + (wall_us - clock.wall_us) * 1000


def _sampler(settings: ProfileSettings, node: str, world: World) -> subprocess.Popen[bytes] | None:
    if settings.system_folder is None or not world.leads_host or not Path("/proc/self/stat").exists():
        return None
    command = [sys.executable, "-m", SAMPLER, str(settings.system_folder), "--node", node]
    command += ["--pid", str(os.getpid()), "--interval-ms", str(settings.interval_ms)]
    try:
        # A session of its own: what a terminal sends to the training, the training tells it.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        _LOG.warning("No system metrics: their sampler cannot be started: %s", error)
        return None


def _facts(settings: ProfileSettings, node: str, world: World, device: torch.device) -> dict[str, Any]:
    pid = os.getpid()
    machine = Machine(pid, container=False)
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "node": node, "pid": pid, "rank": world.rank, "processes": world.size, "local_rank": world.local_rank,
        "local_processes": world.local_size, "hosts": world.hosts, "device": device.type,
        "device_name": gpu.name if gpu else "", "gpus": torch.cuda.device_count(),
        "gpu_memory_bytes": gpu.total_memory if gpu else 0, "threads": torch.get_num_threads(),
        "cores": machine.cores, "cpu_limit": machine.cpu_limit, "memory_limit_bytes": machine.memory_limit_bytes,
        "interval_ms": settings.interval_ms, "system": settings.system_folder is not None, "torch": torch.__version__,
        "operators": [settings.window.first_step, settings.window.steps] if settings.window else None,
    }  # fmt: skip
