"""Decoded images, kept in memory that all loader processes of a training process share."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kennel.classifier.data.memory import available_bytes

_LOG = logging.getLogger(__name__)
_MEMORY_SHARE = 0.5  # of what is free, for all training processes of a host together
_ENTRY = np.dtype([("offset", np.int64), ("height", np.int32), ("width", np.int32)])


class ImageCache:
    """8-bit RGB images by their number, as many as fit into a limit; the first ones stay.

    Processes share it by fork, or by being started with it (multiprocessing's spawn and forkserver).
    """

    def __init__(self, images: int, limit_bytes: int, file: int | None = None) -> None:
        """Reserve room; memory is taken only as images come.

        Args:
            images: how many numbers there are.
            limit_bytes: of pixels; that of a file which is in use already stays.
            file: a descriptor of a file that other jobs use, too; None: memory of this job.
        """
        size = os.fstat(file).st_size - _begin(max(1, images)) if file is not None else 0
        limit = size if size > 0 else limit_bytes
        self._map(_shared_file() if file is None else file, max(1, images), max(1, limit), first=0)

    def _map(self, file: int, images: int, limit_bytes: int, first: int) -> None:
        self._file, self._images, self._limit_bytes, self._first = file, images, limit_bytes, first
        begin = _begin(images)
        os.ftruncate(file, begin + limit_bytes)
        memory = mmap.mmap(file, begin + limit_bytes)
        self._used = np.frombuffer(memory, np.int64, 1)
        self._index = np.frombuffer(memory, _ENTRY, images, offset=8)[first:]
        self._pixels = np.frombuffer(memory, np.uint8, limit_bytes, offset=begin)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": DupFd(self._file), "sizes": (self._images, self._limit_bytes, self._first)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._map(state["file"].detach(), *state["sizes"])

    def part(self, first: int) -> ImageCache:
        """The same room, with the numbers from `first` on counted from 0."""
        part = ImageCache.__new__(ImageCache)
        part._map(self._file, self._images, self._limit_bytes, self._first + first)
        return part

    @property
    def used_bytes(self) -> int:
        """Bytes of pixels that are kept."""
        return int(self._used[0])

    def get(self, image: int) -> npt.NDArray[np.uint8] | None:
        """An image of shape (height, width, 3), or None where it is not kept; not to be written to."""
        entry = self._index[image]
        if entry["height"] == 0:
            return None
        height, width, offset = int(entry["height"]), int(entry["width"]), int(entry["offset"])
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def put(self, image: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Keep an image of shape (height, width, 3), uint8, if there is room."""
        size, entry = pixels.size, self._index[image]
        with self._alone():
            offset = int(self._used[0])
            if entry["width"] or offset + size > self._limit_bytes:  # somebody keeps it, or is about to
                return
            self._used[0] = offset + size
            entry["offset"], entry["width"] = offset, pixels.shape[1]
        self._pixels[offset : offset + size] = pixels.reshape(-1)
        entry["height"] = pixels.shape[0]  # last: it says that all the rest is there

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _begin(images: int) -> int:
    """Bytes in front of the pixels."""
    return 8 + images * _ENTRY.itemsize


def _shared_file() -> int:
    # Not /dev/shm, which torch's shared tensors use and which holds 64 MB in a container.
    if hasattr(os, "memfd_create"):
        return os.memfd_create("kennel-images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def cache_for(images: int, choice: str, processes: int, shared: tuple[Path, int] | None = None) -> ImageCache | None:
    """The cache by the hyperparameter `image_cache`, or None.

    Args:
        images: how many there are.
        choice: "auto" or "off".
        processes: training processes of this host, which share the memory but not the images.
        shared: a file that other jobs with the same images use, too, and how many bytes it may take.
    """
    if choice == "off":
        return None
    limit_bytes = int(available_bytes() * _MEMORY_SHARE / processes)
    if shared is not None and (shared[1] > 0 or shared[0].exists()):
        place, room_bytes = shared
        file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        cache = ImageCache(images, min(limit_bytes, room_bytes), file)
        _LOG.info("Decoded images: shared with the other trials, %.3g GB so far", cache.used_bytes / 1e9)
        return cache
    _LOG.info("Decoded images: kept in memory as they come, up to %.3g GB", limit_bytes / 1e9)
    return ImageCache(images, limit_bytes)
