"""The processes that train together: who this one is, and what they tell each other.

torchrun describes a process in its environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE; source: torch's
"torchrun (Elastic Launch)", section "Environment Variables"). Without these variables a process is alone, and every
call here is a plain one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kennel.contract.errors import ConfigError, OtherProcessError

T = TypeVar("T")


@dataclass
class World:
    """This process among all that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this host
    local_size: int = 1
    _host_group: Any = None  # torch's handle of this host's processes, from `start` on

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> World:
        """Read torchrun's variables; a process alone where there are none."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in environ for name in names):
            return cls()
        return cls(*(int(environ[name]) for name in names))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports, saves and leaves the artifact."""
        return self.rank == 0

    @property
    def leads_host(self) -> bool:
        """Whether this is the process that reads its host's channels."""
        return self.local_rank == 0

    @property
    def hosts(self) -> int:
        """Number of machines; each runs as many processes."""
        return self.size // self.local_size

    def device(self) -> torch.device:
        """This process's own GPU, or the CPU.

        Raises:
            ConfigError: the host has fewer GPUs than processes.
        """
        gpus = torch.cuda.device_count()
        if gpus == 0:
            return torch.device("cpu")
        if self.local_size > gpus:
            raise ConfigError(
                [f"{self.local_size} processes on a host with {gpus} GPUs: each needs its own. Set processes={gpus}."]
            )
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def start(self, device: torch.device) -> None:
        """Meet the other processes: gloo carries what lies in main memory, nccl what lies on GPUs."""
        if self.size == 1:
            return
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        for first in range(0, self.size, self.local_size):  # every process takes part in making every group
            group = dist.new_group(list(range(first, first + self.local_size)), backend="gloo")
            if first == self.rank - self.local_rank:
                self._host_group = group

    def close(self) -> None:
        """Part from the others; each goes on alone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def sums(self, *values: float) -> list[float]:
        """The sum over all processes of each value, the same everywhere to the bit."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; everything that can be pickled."""
        return self._gather(value, self.size, None)

    def gather_on_host(self, value: T) -> list[T]:
        """The values of this host's processes, by local rank."""
        return self._gather(value, self.local_size, self._host_group)

    @staticmethod
    def _gather(value: T, size: int, group: Any) -> list[T]:
        if size == 1:
            return [value]
        values: list[Any] = [None] * size
        dist.all_gather_object(values, value, group=group)
        return values

    def first_does(self, work: Callable[[], T]) -> T:
        """The first process's result of `work`, everywhere; the others only wait.

        Raises:
            KennelError: from `work`, on the first process.
            OtherProcessError: the same, on the others.
        """
        return self._share(work, self.is_first, 0, None)

    def each_host_does(self, work: Callable[[], T]) -> T:
        """This host's result of `work`, which one process of every host runs.

        Raises:
            KennelError: from `work`, where it was raised.
            OtherProcessError: the same, on all the others.
        """
        return self._share(work, self.leads_host, self.rank - self.local_rank, self._host_group)

    def _share(self, work: Callable[[], T], is_mine: bool, source: int, group: Any) -> T:
        if self.size == 1:
            return work()
        result: list[Any] = [None]
        failure: Exception | None = None
        if is_mine:
            try:
                result = [work()]
            except Exception as error:
                failure = error
        problems = [p for p in self.gather(failure and f"{type(failure).__name__}: {failure}") if p]
        if failure is not None:
            raise failure
        if problems:
            raise OtherProcessError(problems[0])
        dist.broadcast_object_list(result, source, group=group)
        return result[0]  # type: ignore[no-any-return]

    def same_weights(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers, in place."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's batch statistics, in place."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """A network whose gradients are averaged over all processes in the backward pass; alone, the network itself."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


ALONE = World()
