"""The photos that a bench trains on: a folder of real ones, or JPEGs made from a wheel's surface photos."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"}
_SIZE_PX = (500, 375)  # the usual size of ImageNet's and Flickr's photos
_QUALITY = 90
_TINTS = {"brick": (1.0, 0.8, 0.7), "grass": (0.8, 1.0, 0.7), "gravel": (0.9, 0.9, 1.0)}


def default_source(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The real photos of `KENNEL_TEST_DATA`, where it is set."""
    root = environ.get("KENNEL_TEST_DATA")
    return Path(root) / "hymenoptera_data" if root else None


def prepare(target: Path, source: Path | None, images: int) -> str:
    """Make `target/train/<class>` and `target/validation/<class>` of links or generated photos.

    Args:
        target: an empty folder.
        source: holds train/<class> and val/ or validation/<class>; None: photos are generated.
        images: training images, spread evenly over the classes; a fifth as many are for validation.

    Returns:
        a sentence about the photos.
    """
    if source is None:
        generate(target / "train", images, seed=0)
        generate(target / "validation", images // 5, seed=1)
        kind = f"generated JPEGs of {_SIZE_PX[0]}x{_SIZE_PX[1]} px"
    else:
        judged = next((source / name for name in ("validation", "val", "valid") if (source / name).is_dir()), None)
        if judged is None or not (source / "train").is_dir():
            raise SystemExit(f"{source} needs the folders train and validation (or val). Give another --data.")
        link(source / "train", target / "train", images)
        link(judged, target / "validation", images // 5)
        kind = f"photos of {source.name}"
    counts = [sum(1 for path in (target / part).rglob("*.*")) for part in ("train", "validation")]
    return f"{counts[0]} training and {counts[1]} validation images, {kind}"


def link(source: Path, target: Path, images: int) -> None:
    """Links to the first files of each class, evenly many of each until `images` are reached."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    for number, folder in enumerate(folders):
        (target / folder.name).mkdir(parents=True)
        share = (images + len(folders) - 1 - number) // len(folders)
        photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        for photo in photos[:share]:
            (target / folder.name / photo.name).symlink_to(photo.resolve())


def generate(target: Path, images: int, seed: int) -> None:
    """Random tinted parts of scikit-image's CC0 surfaces, enlarged and saved as JPEG."""
    import skimage
    from PIL import Image

    rng = np.random.default_rng(seed)
    for number in range(images):
        surface = list(_TINTS)[number % len(_TINTS)]
        with Image.open(Path(skimage.__file__).parent / "data" / f"{surface}.png") as photo:
            width = int(rng.integers(300, 501))
            height = width * _SIZE_PX[1] // _SIZE_PX[0]
            left, upper = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
            part = photo.convert("RGB").crop((left, upper, left + width, upper + height)).resize(_SIZE_PX)
        tinted = (np.asarray(part) * np.array(_TINTS[surface])).astype(np.uint8)
        (target / surface).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tinted).save(target / surface / f"{number:05}.jpg", quality=_QUALITY)
