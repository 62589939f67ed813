"""What `uv build` makes, used in an environment of its own, outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import make_photos

ROOT = Path(__file__).parents[1]
SMALL = (
    "pretrained=none",
    "arch=mobilenet_v3_small",
    "crop_px=64",
    "epochs=1",
    "batch_size=4",
    "debugger=off",
    "profiler=off",
)


def uv() -> str:
    own = ROOT / ".uv/bin/uv"
    return str(own) if own.exists() else shutil.which("uv") or pytest.fail("there is no uv; make setup brings it")


def run(*command: object, folder: Path, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv(), "build", "--quiet", "--out-dir", folder, folder=ROOT)
    return folder


@pytest.mark.slow
def test_both_archives_carry_the_code_and_the_wheel_nothing_else(built: Path) -> None:
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"kennel", "serving"}
    for name in ("kennel/driver/session/prices.json", "kennel/insight/report/page/report.css", "serving/app.py"):
        assert name in names
    with tarfile.open(sdist) as archive:
        assert {"serving", "src", "tests", "docs"} <= {name.split("/")[1] for name in archive.getnames() if "/" in name}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_installed_wheel_trains_deploys_and_answers(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    environment = tmp_path / "venv"
    run(uv(), "venv", "--quiet", "--python", sys.executable, environment, folder=tmp_path)
    # As smdebug's own pin has no wheel for this Python (see tool.uv in pyproject.toml).
    (tmp_path / "overrides.txt").write_text("pyinstrument>=5\n")
    versions = run(
        uv(), "export", "--quiet", "--locked", "--all-extras", "--no-hashes", "--no-emit-project", folder=ROOT
    )
    (tmp_path / "constraints.txt").write_text(versions)
    install = [uv(), "pip", "install", "--quiet", "--python", environment / "bin/python", f"{wheel}[all]"]
    run(*install, "--overrides", "overrides.txt", "--constraints", "constraints.txt", folder=tmp_path)
    make_photos(tmp_path / "photos/train", images=4)
    make_photos(tmp_path / "photos/validation", images=2, seed=1)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KENNEL_", "AWS_"))}
    environ["KENNEL_HOME"] = str(tmp_path / "home")

    def kennel(*words: object) -> str:
        return run(environment / "bin/kennel", *words, folder=tmp_path, environ=environ)

    where = [environment / "bin/python", "-c", "import kennel, serving; print(kennel.__file__, serving.__file__)"]
    assert run(*where, folder=tmp_path, environ=environ).count(str(environment)) == 2
    kennel("up", "--runner", "process")
    try:
        kennel("train", "photos", *SMALL, "--name", "job")
        kennel("deploy", "job", "--name", "pets")
        [photo] = sorted((tmp_path / "photos/validation").glob("*/*"))[:1]
        [answer] = json.loads(kennel("predict", "pets", "--json", photo))
        assert sum(one["probability"] for one in answer["predictions"]) == pytest.approx(1, abs=1e-3)
        kennel("clean")
    finally:
        kennel("down")
