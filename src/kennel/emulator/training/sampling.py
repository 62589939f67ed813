"""System metrics of a job, sampled beside it by a process for each host: as on AWS, the program need not know of it.

What they hold and where they go is in docs/profiler.md. The processes outlive this server, as the job does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kennel.emulator.documents.training import life
from kennel.emulator.runners.base import JOB_LABEL, SAMPLER_LABEL, Runner, RunnerError, Running
from kennel.emulator.state.store import Document
from kennel.emulator.training.hosts import JobHost

_END_S = 5.0


def start(
    document: Document, hosts: Sequence[JobHost], runner: Runner, processes: Runner, warn: Callable[[str], None]
) -> None:
    """Sample every host of a request that has a ProfilerConfig; those that are sampled already go on.

    Args:
        document: the training job, whose hosts run.
        hosts: its hosts.
        runner: of the job.
        processes: what starts the samplers; they are this machine's programs, not the image's.
        warn: is told why a host cannot be sampled.
    """
    wanted = [host for host in hosts if host.is_sampled]
    if not wanted:
        return
    try:
        known = _handles(document["TrainingJobName"], processes)
        for host in wanted:
            if host.host.name not in known:
                _start(host, life(document).handles[host.host.name], runner, processes, warn)
    except RunnerError as error:  # metrics are worth less than the job
        warn(f"ProfilerConfig: no system metrics: {error}")


def _start(host: JobHost, handle: str, runner: Runner, processes: Runner, warn: Callable[[str], None]) -> None:
    pid = runner.program(handle)
    if pid is not None:
        processes.start(host.sampler(pid, container=runner.name == "docker"))
    elif isinstance(runner.state(handle), Running):
        warn(
            f"ProfilerConfig: no system metrics of {host.host.name}: they are read from Linux's /proc, and its program "
            "is not a process of this machine."
        )


def finish(name: str, processes: Runner) -> None:
    """The job has ended: wait until its samplers have noticed it and written their last line."""
    deadline = time.monotonic() + _END_S
    for handle in _handles(name, processes).values():
        processes.signal(handle)
        while isinstance(processes.state(handle), Running) and time.monotonic() < deadline:
            time.sleep(0.05)


def _handles(name: str, processes: Runner) -> dict[str, str]:
    """The samplers of a job by their hosts."""
    mine = processes.find(JOB_LABEL, name)
    return {host: handle for handle, host in processes.find(SAMPLER_LABEL).items() if handle in mine}
