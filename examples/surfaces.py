"""A small image folder that every machine can make: tiles of the CC0 surface photos in the scikit-image wheel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

SURFACES = ("brick", "grass", "gravel")  # 512x512 photos, greyscale
TILE_PX = 128
STRIDE_PX = 12
# Separate regions of each photo (left, upper, right, lower): no pixel is in two channels. They alternate, because the
# light changes from one side of a photo to the other, and a class should look the same in every channel.
REGIONS = {
    "train": ((0, 0, 512, 128), (0, 256, 512, 384)),
    "validation": ((0, 128, 256, 256), (256, 384, 512, 512)),
    "test": ((256, 128, 512, 256), (0, 384, 256, 512)),
}


def write_channels(folder: Path) -> dict[str, int]:
    """Cut each photo into overlapping tiles: `folder/<channel>/<surface>/*.png`.

    Returns:
        the number of tiles of each channel.
    """
    photos = Path(skimage.__file__).parent / "data"
    counts = dict.fromkeys(REGIONS, 0)
    for surface in SURFACES:
        pixels = np.asarray(Image.open(photos / f"{surface}.png").convert("RGB"))
        for channel, regions in REGIONS.items():
            target = folder / channel / surface
            target.mkdir(parents=True, exist_ok=True)
            for x, y in (corner for region in regions for corner in corners(region)):
                tile = pixels[y : y + TILE_PX, x : x + TILE_PX]
                Image.fromarray(tile).save(target / f"{surface}_{x:03}_{y:03}.png")
                counts[channel] += 1
    return counts


def corners(region: tuple[int, int, int, int]) -> Iterator[tuple[int, int]]:
    """Upper left corners of all tiles that lie inside a region."""
    left, upper, right, lower = region
    for y in range(upper, lower - TILE_PX + 1, STRIDE_PX):
        for x in range(left, right - TILE_PX + 1, STRIDE_PX):
            yield x, y


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.surfaces FOLDER")
    print(write_channels(Path(sys.argv[1])))
