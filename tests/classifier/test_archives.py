"""Archives are unpacked into their folder and nowhere else, with tarfile's filter and on a Python without it."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kennel.contract.archives import UnsafeMemberError, unpack, unpack_by_hand
from tests.images import docker

pytestmark = pytest.mark.pure

Way = Callable[[Path, Path], None]


def by_hand(archive: Path, folder: Path) -> None:
    """As Python 3.11.2 of Debian 12 has it."""
    with tarfile.open(archive) as tar:
        unpack_by_hand(tar, folder)


ways = pytest.mark.parametrize("way", [unpack, by_hand])


def packed(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Members of a name, a type and a link's target, or else a file's content."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                tar.addfile(info)
    return path


@ways
def test_files_folders_and_links_inside_are_unpacked(tmp_path: Path, way: Way) -> None:
    members = [("a", tarfile.DIRTYPE, ""), ("a/b.txt", tarfile.REGTYPE, "hello"), ("c", tarfile.SYMTYPE, "a/b.txt")]
    members += [("a/d", tarfile.LNKTYPE, "a/b.txt"), ("/e", tarfile.REGTYPE, "rooted")]
    way(packed(tmp_path / "x.tar.gz", *members), tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert found == {"a", "a/b.txt", "a/d", "c", "e"}
    assert {(tmp_path / "out" / name).read_text() for name in ("c", "a/d", "a/b.txt")} == {"hello"}
    assert (tmp_path / "out/a/b.txt").stat().st_mode & 0o777 == 0o755


@ways
@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "x")],
        [("a/../../evil", tarfile.REGTYPE, "x")],
        [("out", tarfile.SYMTYPE, ".."), ("out/evil", tarfile.REGTYPE, "x")],
        [("out", tarfile.SYMTYPE, "/tmp")],  # noqa: S108 - must not be followed
        [("out", tarfile.LNKTYPE, "../secret")],
        [("pipe", tarfile.FIFOTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
    ],
    ids=lambda members: " ".join(name for name, *_ in members),
)
def test_nothing_leaves_the_folder(tmp_path: Path, way: Way, members: list[tuple[str, bytes, str]]) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(UnsafeMemberError):
        way(packed(tmp_path / "x.tar.gz", *members), tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.docker
def test_debians_own_python_unpacks(base_image: str, tmp_path: Path) -> None:
    """It is 3.11.2, without the filter."""
    packed(tmp_path / "x.tar.gz", ("a.txt", tarfile.REGTYPE, "hello"))
    source = Path(__file__).parents[2] / "src"
    line = "from kennel.contract.archives import *; unpack(Path('/x/x.tar.gz'), Path('/o'))"
    mounts = [f"--volume={source}:/src:ro", f"--volume={tmp_path}:/x:ro", "--env=PYTHONPATH=/src"]
    shell = f'python3.11 -c "{line}" && cat /o/a.txt'
    assert docker("run", "--rm", "--network=none", *mounts, base_image, "sh", "-c", shell).stdout == "hello"


def test_this_python_has_the_filter_that_is_compared_with() -> None:
    assert hasattr(tarfile, "data_filter") or sys.version_info < (3, 11, 4)
