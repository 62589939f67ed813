from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kennel.classifier.data.images import MAX_PIXELS, decode, read_header
from kennel.classifier.data.preprocess import (
    Preprocessing,
    crop_to_tensor,
    evaluation_tensor,
    normalise,
    scale_to_square,
)
from kennel.contract.errors import ConfigError, ImageError

Encode = Callable[..., bytes]
SMALL = Preprocessing(resize_px=64, crop_px=56)


def ramp(width: int = 160, height: int = 120) -> Image.Image:
    """A smooth picture in which every place has its own colour."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def rgb(data: bytes) -> np.ndarray:
    return np.asarray(decode(read_header(data))).astype(int)


def test_the_centre_crop_is_that_of_torchvision(encoded: Encode) -> None:
    data = encoded(ramp(), "png")
    theirs = v2.functional.pil_to_tensor(v2.CenterCrop(56)(v2.Resize(64)(ramp())))
    difference = (evaluation_tensor(data, SMALL).int() - theirs.int()).abs()
    one_pixel = 255 / 160 * (120 / 64)  # the ramp's slope: torchvision rounds 85.3 columns and the crop's 14.5
    assert difference.max() <= one_pixel + 1
    assert difference.float().mean() < one_pixel / 2


def test_a_large_jpeg_decoded_small_looks_the_same(encoded: Encode) -> None:
    big = ramp(1600, 1200)
    from_jpeg = evaluation_tensor(encoded(big, "jpeg", quality=95), SMALL)
    from_png = evaluation_tensor(encoded(big, "png"), SMALL)  # PNG has no scaled decoding
    assert (from_jpeg.int() - from_png.int()).abs().float().mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(encoded: Encode, orientation: int) -> None:
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = ramp()
    if orientation in undo:
        stored = stored.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = evaluation_tensor(encoded(ramp(), "jpeg", quality=98), SMALL)
    turned = evaluation_tensor(encoded(stored, "jpeg", quality=98, exif=exif), SMALL)
    assert (turned.int() - upright.int()).abs().float().mean() < 2


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr", "LAB"])
def test_other_colour_modes_keep_the_picture(encoded: Encode, mode: str) -> None:
    if mode == "LAB":
        pytest.importorskip("PIL.ImageCms")
    kind = {"CMYK": "jpeg", "YCbCr": "jpeg", "LAB": "tiff"}.get(mode, "png")
    source = ramp() if mode != "LAB" else Image.new("LAB", (160, 120), (128, 0, 0))
    data = encoded(source.convert(mode), kind)
    assert rgb(data).shape == (120, 160, 3)
    if mode in ("P", "CMYK", "YCbCr"):
        assert abs(rgb(data) - np.asarray(ramp()).astype(int)).mean() < 25


def test_sixteen_bit_grey_keeps_its_upper_bits(encoded: Encode) -> None:
    values = (np.linspace(0, 65535, 160 * 120).reshape(120, 160)).astype(np.uint16)
    assert abs(rgb(encoded(Image.fromarray(values), "png"))[..., 0] - values // 257).max() <= 1


def test_transparency_shows_white(encoded: Encode) -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (rgb(encoded(clear, "png")) == 255).all()
    grey = Image.new("LA", (64, 64), (0, 0))
    assert (rgb(encoded(grey, "png")) == 255).all()
    palette = Image.new("P", (64, 64), 0)
    assert (rgb(encoded(palette, "png", transparency=0)) == 255).all()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff", "ppm"])
def test_every_listed_format_is_read(encoded: Encode, kind: str) -> None:
    assert evaluation_tensor(encoded(ramp(), kind), SMALL).shape == (3, 56, 56)


def test_a_gif_is_not_taken(encoded: Encode) -> None:
    with pytest.raises(ImageError, match="not an image of a known format"):
        evaluation_tensor(encoded(ramp(), "gif"), SMALL)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_a_truncated_file_is_refused(encoded: Encode, kind: str) -> None:
    whole = encoded(ramp(), kind)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(ImageError):
            evaluation_tensor(whole[: int(len(whole) * share)], SMALL)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        evaluation_tensor(data, SMALL)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(encoded: Encode) -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "png")
    assert len(bomb) < 100_000
    with pytest.raises(ImageError, match=f"20000x20000 pixels are more than the limit of {MAX_PIXELS}"):
        evaluation_tensor(bomb, SMALL)


def test_extreme_shapes_give_the_same_square(encoded: Encode) -> None:
    for size in ((1, 1), (1, 500), (3000, 2)):
        assert evaluation_tensor(encoded(ramp(*size), "png"), SMALL).shape == (3, 56, 56)


def test_normalising_matches_the_formula() -> None:
    batch = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = torch.tensor(SMALL.mean).view(3, 1, 1), torch.tensor(SMALL.std).view(3, 1, 1)
    torch.testing.assert_close(normalise(batch, SMALL), (batch / 255 - mean) / std)


def test_the_published_preprocessing_is_the_default() -> None:
    assert Preprocessing.for_arch("resnet18") == Preprocessing(256, 224)
    assert Preprocessing.for_arch("inception_v3").crop_px == 299
    assert Preprocessing.for_arch("resnet18", crop_px=96) == Preprocessing(110, 96)
    assert Preprocessing.for_arch("resnet18", resize_px=64) == Preprocessing(64, 64)
    with pytest.raises(ConfigError, match="crop_px is 96, more than resize_px, 64"):
        Preprocessing.for_arch("resnet18", resize_px=64, crop_px=96)


def test_real_photos_are_read_from_path_and_from_bytes_alike(test_data: Path) -> None:
    for photo in sorted((test_data / "dogs").glob("*.jpg")):
        assert torch.equal(evaluation_tensor(photo, SMALL), evaluation_tensor(photo.read_bytes(), SMALL))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_training_scales_as_evaluation_does(interpolation: str, photos: Path) -> None:
    """Not to the bit: torch's filters have other weights in the eighth bit."""
    values = Preprocessing(64, 48, interpolation=interpolation)
    image = Image.open(next(photos.rglob("*.jpg"))).convert("RGB")
    fast = scale_to_square(torch.from_numpy(np.array(image)[4:60, 8:68]), values)
    slow = crop_to_tensor(image, (8, 4, 68, 60), values)
    assert fast.shape == slow.shape == (3, 48, 48)
    difference = (fast.int() - slow.int()).abs().float()
    if interpolation in ("bilinear", "bicubic"):  # the other two are not the same filter
        assert difference.mean() < 0.5
    assert difference.mean() < 30
