"""Starts the processes of a job on this host by torch's own launcher, which is what `torchrun` runs.

Every host does the same: resourceconfig.json tells it who it is and where the first one is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kennel.classifier.data.loader import available_cores
from kennel.contract.errors import ConfigError, TrainingError
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import Hosts
from kennel.contract.programs import TRAINER

_LOG = logging.getLogger(__name__)
_PORT_VARIABLE = "MASTER_PORT"  # torchrun's, too; for hosts that share the ports of one machine
_PORT = 29_500  # torchrun's own default; hosts that have not spoken yet have to agree on one
_MEET_S = 900  # a host's name may resolve minutes after the container starts


@dataclass(frozen=True)
class Plan:
    """The processes of a job, as this host sees them."""

    hosts: Hosts
    processes: int  # on each host

    @property
    def size(self) -> int:
        """Processes of all hosts."""
        return len(self.hosts.names) * self.processes


def plan(config: TrainConfig, hosts: Hosts, *, gpus: int | None = None) -> Plan:
    """How many processes train.

    Args:
        config: `processes`.
        hosts: from resourceconfig.json.
        gpus: of this host; None counts them.

    Raises:
        ConfigError: more processes than GPUs.
    """
    gpus = torch.cuda.device_count() if gpus is None else gpus
    if gpus and config.processes > gpus:
        raise ConfigError([f"processes is {config.processes}, but each needs a GPU of its own and there are {gpus}."])
    return Plan(hosts, config.processes or max(1, gpus))


def is_started(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of those that a launcher started."""
    return "RANK" in environ and "WORLD_SIZE" in environ


def launch(plan: Plan, arguments: Sequence[str]) -> int:
    """Run the command line in every process of this host and return an exit status.

    SIGTERM goes to each process by itself, not to their data loaders, and nothing is killed after it: they agree on a
    step to stop after and leave.

    Args:
        plan: the processes.
        arguments: of `python -m kennel.classifier`.

    Raises:
        TrainingError: one of the processes was killed.
    """
    names = plan.hosts.names
    _LOG.info("Processes: %d, on each of: %s", plan.processes, ", ".join(names))
    os.environ.update(_environment(plan, os.environ))
    _forward_sigterm()
    worker = [sys.executable, "-u", "-m", TRAINER, *arguments]
    try:
        elastic_launch(_launch_config(plan), worker[0])(*worker[1:])
    except ChildFailedError as error:
        ranks = ", ".join(f"{rank} (exit status {failure.exitcode})" for rank, failure in error.failures.items())
        _LOG.error("Processes that failed: %s.", ranks)
        rank, first = error.get_first_failure()
        if first.exitcode < 0:  # it could not say why; what the others say comes of its death
            raise TrainingError(
                f"Process {rank} was ended by {signal.Signals(-first.exitcode).name}. If nobody sent that, memory ran "
                "out: lower batch_size, num_workers or processes."
            ) from None
        return 1
    return 0


def _launch_config(plan: Plan) -> LaunchConfig:
    names = plan.hosts.names
    alone = len(names) == 1
    return LaunchConfig(
        min_nodes=len(names),
        max_nodes=len(names),
        nproc_per_node=plan.processes,
        run_id="kennel",
        role="trainer",
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else f"{names[0]}:{meeting_port()}",
        rdzv_configs={"timeout": _MEET_S} | ({} if alone else {"rank": plan.hosts.rank}),
        local_addr="localhost" if alone else plan.hosts.current,
        max_restarts=0,
        signals_to_handle="SIGINT",
    )


def meeting_port(environ: Mapping[str, str] = os.environ) -> int:
    """Where the hosts of a job meet on the first one: MASTER_PORT, or else torchrun's default.

    Raises:
        ConfigError: the variable is no port.
    """
    text = environ.get(_PORT_VARIABLE) or str(_PORT)
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ConfigError([f"{_PORT_VARIABLE} is '{text}'; set it to a port from 1 to 65535, or leave it out."])
    return int(text)


def _environment(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for the processes, where the user has not set them."""
    wanted = {"OMP_NUM_THREADS": str(max(1, available_cores() // plan.processes))}
    interface = plan.hosts.network_interface
    if len(plan.hosts.names) > 1 and interface and Path("/sys/class/net", interface).exists():
        wanted |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    return {name: value for name, value in wanted.items() if name not in environ}


def _forward_sigterm() -> None:
    """Hand SIGTERM on from a thread: while hosts wait for each other, the main one is in C++ and runs no handler."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, lambda *_: None)  # what is to be done, the thread does
    signal.set_wakeup_fd(writer)
    threading.Thread(target=_tell_children, args=(reader,), daemon=True).start()


def _tell_children(signals: int) -> None:
    started = False  # once they were there, an end without them is the job's own
    while True:
        received = select.select([signals], [], [], None if started else 0.1)[0] and os.read(signals, 1)[0]
        children = psutil.Process().children()
        started = started or bool(children)
        if received != signal.SIGTERM:
            continue
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(received)
        if not started:
            _LOG.error("SIGTERM before the processes were started: nothing has been learnt, nothing is kept.")
            os._exit(128 + received)  # the main thread may not come back for minutes
