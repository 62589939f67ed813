"""Decoded images, kept in memory that all loader processes of a training process share."""

from __future__ import annotations

import logging
import mmap
import multiprocessing
from copy import copy
from multiprocessing.sharedctypes import Synchronized

import numpy as np
import numpy.typing as npt

from kennel.classifier.memory import available_bytes

_LOG = logging.getLogger(__name__)
_MEMORY_SHARE = 0.5  # of what is free, for all training processes of a host together
_ENTRY = np.dtype([("offset", np.int64), ("height", np.int32), ("width", np.int32)])


class ImageCache:
    """8-bit RGB images by their number, as many as fit into a limit; the first ones stay.

    Processes share it by inheritance (fork), never by sending it.
    """

    def __init__(self, images: int, limit_bytes: int) -> None:
        """Reserve room; memory is taken only as images come.

        Args:
            images: how many numbers there are.
            limit_bytes: of pixels; must be more than 0.
        """
        # Anonymous shared memory: /dev/shm, which torch's shared tensors use, holds 64 MB in a container.
        self._index = np.frombuffer(mmap.mmap(-1, max(1, images) * _ENTRY.itemsize), dtype=_ENTRY)
        self._pixels = np.frombuffer(mmap.mmap(-1, limit_bytes), dtype=np.uint8)
        self._used: Synchronized[int] = multiprocessing.Value("q", 0)

    def part(self, first: int) -> ImageCache:
        """The same room, with the numbers from `first` on counted from 0."""
        part = copy(self)
        part._index = self._index[first:]
        return part

    @property
    def used_bytes(self) -> int:
        """Bytes of pixels that are kept."""
        return self._used.value

    def get(self, image: int) -> npt.NDArray[np.uint8] | None:
        """An image of shape (height, width, 3), or None where it is not kept; not to be written to."""
        entry = self._index[image]
        if entry["height"] == 0:
            return None
        height, width, offset = int(entry["height"]), int(entry["width"]), int(entry["offset"])
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def put(self, image: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Keep an image of shape (height, width, 3), uint8, if there is room."""
        size = pixels.size
        with self._used.get_lock():
            offset = self._used.value
            if offset + size > len(self._pixels):
                return
            self._used.value = offset + size
        self._pixels[offset : offset + size] = pixels.reshape(-1)
        # The height last: it says that all the rest is there.
        self._index[image]["offset"], self._index[image]["width"] = offset, pixels.shape[1]
        self._index[image]["height"] = pixels.shape[0]


def cache_for(images: int, choice: str, processes: int) -> ImageCache | None:
    """The cache by the hyperparameter `image_cache`, or None.

    Args:
        images: how many there are.
        choice: "auto" or "off".
        processes: training processes of this host, which share the memory but not the images.
    """
    if choice == "off":
        return None
    if multiprocessing.get_start_method() != "fork":
        _LOG.info("Decoded images: not kept (loader processes are not forked on this platform)")
        return None
    limit = int(available_bytes() * _MEMORY_SHARE / processes)
    _LOG.info("Decoded images: kept in memory as they come, up to %.3g GB", limit / 1e9)
    return ImageCache(images, max(1, limit))
