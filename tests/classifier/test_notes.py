"""How a photo lies, from whatever its EXIF holds: a number, or none, and never an error."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kennel.classifier.data.folder import check_image
from kennel.classifier.data.images import decode, is_turned, read_header, upright_size
from kennel.classifier.data.preprocess import Preprocessing, evaluation_tensor
from kennel.contract.errors import ImageError
from kennel.driver.checks.datacheck import inspect
from tests.difficult import (
    broken_exif,
    chunk,
    encode,
    exif,
    orientation,
    picture,
    png,
    segment,
    tiff,
    tiff_head,
    unwritable,
    with_chunks,
    with_segments,
)

SMALL = Preprocessing(resize_px=24, crop_px=20)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
CASES = 2000  # of the fuzz: 5 s
Place = Callable[[Image.Image, bytes], bytes]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(read_header(data))).astype(int)


def in_jpeg(image: Image.Image, note: bytes) -> bytes:
    return with_segments(encode(image, "JPEG", quality=95), segment(0xE1, note))


def in_png(image: Image.Image, note: bytes) -> bytes:
    return with_chunks(encode(image, "PNG"), chunk(b"eXIf", note.removeprefix(b"Exif\0\0")))


def behind_the_pixels(image: Image.Image, note: bytes) -> bytes:
    return with_chunks(encode(image, "PNG"), chunk(b"eXIf", note.removeprefix(b"Exif\0\0")), at_end=True)


def in_webp(image: Image.Image, note: bytes) -> bytes:
    return encode(image, "WEBP", lossless=True, exif=note)


def as_hexadecimals(image: Image.Image, note: bytes) -> bytes:
    text = b"\nexif\n%8d\n%s\n" % (len(note), note.hex().encode())
    return with_chunks(encode(image, "PNG"), chunk(b"tEXt", b"Raw profile type exif\0" + text))


PLACES: dict[str, Place] = {
    "jpeg": in_jpeg,
    "png": in_png,
    "png, behind the pixels": behind_the_pixels,
    "png, hexadecimals": as_hexadecimals,
    "webp": in_webp,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", broken_exif())
def test_exif_gives_its_number_and_costs_no_photo(place: str, fault: str) -> None:
    note, number = broken_exif()[fault]
    plain, noted = PLACES[place](picture(), b"Exif\0\0"), PLACES[place](picture(), note)
    expected = {1: pixels(plain), 6: np.rot90(pixels(plain), -1)}[number]
    assert (pixels(noted) == expected).all()
    with read_header(noted) as image:
        assert upright_size(image) == (expected.shape[1], expected.shape[0])
        assert is_turned(image) == (number != 1)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_tiff_is_turned_once(number: int) -> None:
    """Pillow swaps its sides before it is decoded, and turns it afterwards."""
    wide = picture()
    own = tiff(wide.size, wide.tobytes(), 3, orientation(number))
    elsewhere = in_jpeg(wide, exif(orientation(number)))
    with read_header(own) as image, read_header(elsewhere) as other:
        assert upright_size(image) == upright_size(other) == decode(image).size == decode(other).size
    assert abs(pixels(own) - pixels(elsewhere)).mean() < 3
    assert (evaluation_tensor(own, SMALL).int() - evaluation_tensor(elsewhere, SMALL).int()).abs().float().mean() < 3
    whole = encode(wide, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: number})  # another way through Pillow
    assert (pixels(whole) == pixels(own)).all()


@pytest.mark.parametrize("fault", ["directory behind the end", "endless directories", "gigantic count"])
def test_a_tiff_with_broken_entries_is_a_photo(fault: str) -> None:
    entries = {
        "directory behind the end": (0x8769, 4, 1, b"\xf0\xff\xff\x00"),
        "endless directories": (0x8769, 4, 1, b"\x08\0\0\0"),
        "gigantic count": (0x8769, 4, 0x7FFFFFFF, b"\x08\0\0\0"),
    }
    plain = picture()
    assert (pixels(tiff(plain.size, plain.tobytes(), 3, entries[fault])) == np.asarray(plain)).all()


def test_a_tiff_of_two_orientations_lies_as_it_is() -> None:
    plain = picture()
    data = tiff(plain.size, plain.tobytes(), 3, orientation(6, count=2))
    with read_header(data) as image:
        assert upright_size(image) == plain.size
    assert (pixels(data) == np.asarray(plain)).all()
    assert evaluation_tensor(data, SMALL).equal(evaluation_tensor(tiff(plain.size, plain.tobytes(), 3), SMALL))


def test_a_bigtiff_is_turned() -> None:
    wide = picture()
    with read_header(encode(wide, "TIFF", big_tiff=True, tiffinfo={0x0112: 6})) as image:
        assert upright_size(image) == decode(image).size == (32, 48)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_xmp_counts_where_exif_says_nothing(kind: str) -> None:
    def with_xmp(number: int, note: bytes) -> bytes:
        xmp = XMP % number
        if kind == "webp":
            return encode(picture(), "WEBP", lossless=True, xmp=xmp, exif=note)
        if kind == "png":
            text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
            return with_chunks(in_png(picture(), note), text)
        return with_segments(in_jpeg(picture(), note), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))

    turned = {}
    for name, number, note in (
        ("alone", 6, b"Exif\0\0"),
        ("beside broken", 6, b"Exif\0\0no tiff at all"),
        ("against exif", 6, exif(orientation(1))),
        ("senseless", 9, b"Exif\0\0"),
    ):
        with read_header(with_xmp(number, note)) as image:
            turned[name] = is_turned(image)
    assert turned == {"alone": True, "beside broken": True, "against exif": False, "senseless": False}


def test_exif_of_more_than_one_segment_goes_on_in_the_next() -> None:
    note = exif(*[(0x9000 + n, 1, 1, b"abcd") for n in range(40)], orientation(6))
    halves = [segment(0xE1, b"Exif\0\0" + half) for half in (note[6:200], note[200:])]
    with read_header(with_segments(encode(picture(), "JPEG"), *halves)) as image:
        assert is_turned(image)


def test_a_phones_pair_of_pictures_opens_as_its_first(tmp_path: Path) -> None:
    path = tmp_path / "pair.jpg"
    picture().save(path, "MPO", save_all=True, append_images=[picture(seed=6)], quality=95)
    with Image.open(path) as pair:
        assert pair.format == "MPO"
    assert abs(pixels(path.read_bytes()) - np.asarray(picture()).astype(int)).mean() < 3


def damaged(note: bytes, chance: random.Random) -> bytes:
    data = bytearray(note)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(data))
        change = chance.randrange(5)
        if change == 0:
            data[place] = chance.randrange(256)
        elif change == 1:
            data[place : place + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x08\0\0\0", b"\x7f\xff\xff\xff")
            )
        elif change == 2:
            del data[place : place + chance.randint(1, 12)]
        elif change == 3:
            data[place:place] = chance.randbytes(chance.randint(1, 12))
        else:
            data[place : place + 2] = struct.pack("<H", chance.choice((0x0112, 2, 5, 10, 13, 0x8769, 0x8825, 0x010F)))
        data = data or bytearray(b"\0")
    return bytes(data)


def test_damaged_exif_ends_in_the_same_picture_for_everybody(tmp_path: Path) -> None:
    """Whatever stands in it, a photo comes out, or a refusal by name; data check and trainer say the same."""
    chance = random.Random(14)  # noqa: S311 for tests
    small, path = picture(12, 8), tmp_path / "photo"
    rational = struct.pack("<ii", -3, 7)
    notes = [unwritable(rational), *(note for note, _ in broken_exif().values())]
    plain = {name: pixels(place(small, b"Exif\0\0")) for name, place in PLACES.items()}
    seen = set()
    for case in range(CASES):
        name = chance.choice(list(PLACES))
        data = PLACES[name](small, b"Exif\0\0" + damaged(chance.choice(notes)[6:] or b"\0", chance))
        turned = pixels(data)
        assert sorted(turned.ravel()) == sorted(plain[name].ravel()), (case, name)  # the same pixels, however they lie
        seen.add(turned.shape)
        if case % 20 == 0:
            path.write_bytes(data)
            assert check_image(path)[1] is inspect(path).reason is None
    assert seen == {(8, 12, 3), (12, 8, 3)}


def test_a_damaged_tiff_is_a_photo_or_a_named_refusal(tmp_path: Path) -> None:
    """Its entries and its EXIF are the same list, so damage may cost the pixels."""
    chance = random.Random(15)  # noqa: S311 for tests
    small, path = picture(12, 8), tmp_path / "photo.tif"
    whole = tiff(small.size, small.tobytes(), 3, orientation(6), (0x8769, 4, 1, b"\x08\0\0\0"))
    read = refused = 0
    for case in range(CASES // 2):
        data = damaged(whole[: 8 + 2 + 12 * 12], chance) + whole[8 + 2 + 12 * 12 :]
        try:
            with read_header(data) as image:
                size = upright_size(image)
                assert decode(image).size == size, case
            read += 1
        except ImageError:  # any other error ends the test
            refused += 1
        if case % 20 == 0:
            path.write_bytes(data)
            assert check_image(path)[1] == inspect(path).reason
    assert read > 50
    assert refused > 50


def test_pixels_of_numpy_have_no_notes() -> None:
    with read_header(np.asarray(picture())) as image:
        assert upright_size(image) == (48, 32)
        assert not is_turned(image)


def test_an_orientation_that_stands_in_a_text_is_none() -> None:
    data = png(8, 0, [b"\1\2"], chunk(b"tEXt", b"Comment\0" + tiff_head([orientation(6)])))
    with read_header(data) as image:
        assert not is_turned(image)
