"""Photos that look the same, by a small perceptual hash.

Source: Neal Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013: dHash, whether each pixel of a tiny grey copy
is brighter than its neighbour. Here both directions are taken, 128 bits, which re-encoding and scaling hardly change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 8
BITS = 2 * SIDE_PX * SIDE_PX
# Of 128. Among 397 photos of ants and bees the nearest two are 29 apart; the same photo at half its size, or at JPEG
# quality 40, is at most 12 from itself.
MOST_BITS_APART = 16
_FLAT_RANGE = 24  # grey levels; a picture with less between its darkest and brightest has no hash that says anything
_ROWS = 512  # compared at a time: 512 x 100,000 photos are 400 MB

Hash = NDArray[np.uint64]  # two words


def hash_of(image: Image.Image) -> Hash | None:
    """The hash of a decoded photo, or None for one that is all but uniform."""
    side = SIDE_PX + 1
    grey = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    if int(grey.max()) - int(grey.min()) < _FLAT_RANGE:
        return None
    across = grey[:SIDE_PX, 1:] > grey[:SIDE_PX, :-1]
    down = grey[1:, :SIDE_PX] > grey[:-1, :SIDE_PX]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).view(np.uint64)


def near_pairs(first: Sequence[Hash], second: Sequence[Hash]) -> Iterator[tuple[int, int, int]]:
    """Pairs of places in the two lists whose hashes are near, with the number of bits that differ."""
    if not first or not second:
        return
    left, right = np.stack(first), np.stack(second)
    for start in range(0, len(left), _ROWS):
        block = left[start : start + _ROWS]
        apart = sum(np.bitwise_count(block[:, None, word] ^ right[None, :, word]).astype(np.uint16) for word in (0, 1))
        for row, column in zip(*np.nonzero(np.asarray(apart) <= MOST_BITS_APART), strict=True):
            yield start + int(row), int(column), int(np.asarray(apart)[row, column])
