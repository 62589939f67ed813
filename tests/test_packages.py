"""What is installed without a compiler: each package of the lock file has a wheel for CPython 3.11 on Linux x86-64."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
GLIBC = 36  # 2.36, of Debian 12
PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)),
    "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64",
]  # fmt: skip
TAGS = {
    *cpython_tags((3, 11), platforms=PLATFORMS),
    *compatible_tags((3, 11), interpreter="cp311", platforms=PLATFORMS),
}
MACHINE = {
    "implementation_name": "cpython", "implementation_version": "3.11.2", "os_name": "posix",
    "platform_machine": "x86_64", "platform_python_implementation": "CPython", "platform_system": "Linux",
    "python_full_version": "3.11.2", "python_version": "3.11", "sys_platform": "linux", "extra": "",
}  # fmt: skip
WHEELS_ONLY = ("driver", "emulator", "insight", "model", "train", "serve", "pack")
GROUPS = ("demo", "dev")
SOURCES = {  # what has no wheel, by the extra that needs it: the images have a compiler while they are built
    "toolkit": {
        "sagemaker-training": "the toolkit that starts a user's script; releases are source distributions",
        "inotify-simple": "of sagemaker-training; pure Python without a wheel in the pinned version",
    },
    "mms": {
        "sagemaker-inference": "the toolkit around multi-model-server; releases are source distributions",
    },
}


def packages() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        found.setdefault(package["name"], []).append(package)
    return found


def applies(dependency: dict[str, Any]) -> bool:
    return "marker" not in dependency or Marker(dependency["marker"]).evaluate(MACHINE)


def reachable(dependencies: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Packages that these dependencies bring, each once."""
    known, seen, waiting = packages(), set(), list(dependencies)
    while waiting:
        dependency = waiting.pop()
        extras = tuple(dependency.get("extra", ()))
        key = (dependency["name"], dependency.get("version"), extras)
        if key in seen or not applies(dependency):
            continue
        seen.add(key)
        [package] = [one for one in known[key[0]] if key[1] in (None, one["version"])]
        waiting += package.get("dependencies", [])
        waiting += [more for extra in extras for more in package.get("optional-dependencies", {}).get(extra, [])]
        yield package


def has_wheel(package: dict[str, Any]) -> bool:
    names = (unquote(wheel.get("filename") or wheel["url"].rpartition("/")[2]) for wheel in package.get("wheels", ()))
    return any(parse_wheel_filename(name)[3] & TAGS for name in names)


def without_wheel(dependencies: Iterable[dict[str, Any]]) -> set[str]:
    return {package["name"] for package in reachable(dependencies) if not has_wheel(package)}


def ours() -> dict[str, Any]:
    [package] = packages()["kennel"]
    return package


@pytest.mark.parametrize("extra", WHEELS_ONLY)
def test_an_extra_of_a_users_machine_needs_no_compiler(extra: str) -> None:
    found = list(reachable(ours()["optional-dependencies"][extra]))
    assert len(found) > 5
    assert without_wheel(ours()["optional-dependencies"][extra]) == set()


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_needs_no_compiler(group: str) -> None:
    assert without_wheel(ours()["dev-dependencies"][group]) == set()


@pytest.mark.parametrize("extra", SOURCES)
def test_what_has_to_be_built_is_known_with_its_reason(extra: str) -> None:
    assert without_wheel(ours()["optional-dependencies"][extra]) == set(SOURCES[extra])


def test_what_has_no_wheel_is_found() -> None:
    """A check that finds nothing proves nothing: other systems' wheels do not count, and ways through packages do."""
    names = ["x-1.0-cp311-cp311-macosx_11_0_arm64.whl", "x-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
             "x-1.0-cp311-cp311-manylinux_2_39_x86_64.whl", "x-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"]  # fmt: skip
    assert not any(has_wheel({"wheels": [{"url": f"https://host/{name}"}]}) for name in names)
    fine = [
        "x-1.0-py3-none-any.whl",
        "x-1.0-cp39-abi3-manylinux2014_x86_64.whl",
        "x-1.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
    ]
    assert all(has_wheel({"wheels": [{"url": f"https://host/{name}"}]}) for name in fine)
    assert "botocore" in {package["name"] for package in reachable([{"name": "boto3"}])}
