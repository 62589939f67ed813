"""What stays the same from the first line of a training to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from kennel.classifier.data.loader import default_workers
from kennel.classifier.data.preprocess import Preprocessing, normalise
from kennel.classifier.network.precision import Precision
from kennel.classifier.processes.distributed import World
from kennel.classifier.processes.stop import StopSignal
from kennel.classifier.profiler.profiler import OFF, Profiler
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths

_EVALUATION_BATCH = 256  # without gradients a larger one is no faster, and needs more memory


@dataclass(frozen=True)
class Job:
    """The configuration of a run, its folders, and the process that this is."""

    config: TrainConfig
    paths: ContainerPaths
    preprocessing: Preprocessing
    device: torch.device
    stop: StopSignal
    world: World
    profiler: Profiler = OFF

    @property
    def workers(self) -> int:
        """Loader processes of this process."""
        if self.config.num_workers >= 0:
            return self.config.num_workers
        return default_workers(self.device, self.world.local_size)[0]

    @property
    def pin(self) -> bool:
        """Whether batches go to page-locked memory, from which a GPU can fetch them by itself."""
        return self.device.type == "cuda"

    @property
    def evaluation_batch(self) -> int:
        """Images in a forward pass that learns nothing."""
        return min(_EVALUATION_BATCH, self.config.batch_size)

    def prepare(self, precision: Precision) -> Callable[[torch.Tensor], torch.Tensor]:
        """From the loader's uint8 images to the network's input."""

        def images_to_input(images: torch.Tensor) -> torch.Tensor:
            # Arranged first, while a pixel is a byte.
            return normalise(precision.arrange(images.to(self.device, non_blocking=True)), self.preprocessing)

        return images_to_input
