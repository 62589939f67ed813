"""The scripts of local_test, run as people run them, on real photos."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]  # the first test builds the images

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [f"local_test/{script}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environ})


def test_e2e_on_real_photos_reaches_093_and_serves_what_was_trained(
    base_image: str, images: dict[str, str], test_data: Path, tmp_path: Path
) -> None:
    photos = test_data / "hymenoptera_data"
    data = tmp_path / "data"
    data.mkdir()
    for channel, folder in (("train", "train"), ("validation", "val"), ("test", "val")):
        (data / channel).symlink_to(photos / folder)
    done = run(
        "e2e.sh", "--data", str(data), "--pretrained", str(test_data / "weights"), "--out", str(tmp_path / "out"),
        "--min-accuracy", "0.93", "precision=fp32", "arch=mobilenet_v2", "train_layers=head", "epochs=3", "lr=0.003",
        BASE_IMAGE=base_image, TRAIN_IMAGE=images["train"], SERVE_IMAGE=images["serve"],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "e2e passed" in done.stderr
    assert "153 photos: accuracy over HTTP 0.9" in done.stdout


def test_a_failing_job_shows_its_reason_and_hands_its_files_over(images: dict[str, str], job: Path) -> None:
    out = job.parent / "out"
    done = run(
        "train_local.sh", "--train", str(job / "input/data/train"), "--out", str(out), "epocks=3",
        TRAIN_IMAGE=images["train"],
    )  # fmt: skip
    assert done.returncode == 1
    assert "failure: Unknown hyperparameter 'epocks'. Did you mean 'epochs'?" in done.stderr
    assert {path.stat().st_uid for path in out.rglob("*")} == {os.getuid()}


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("train_local.sh", ["--trian", "x"], "unknown option '--trian'"),
        ("train_local.sh", ["--train", "/nowhere"], "--train needs a folder; '/nowhere' is none."),
        ("serve_local.sh", ["/nowhere"], "MODEL is a model.tar.gz or a folder; '/nowhere' is neither."),
        ("predict.sh", [], "name at least one photo"),
        ("e2e.sh", ["--data", "/nowhere", "--no-build"], "has no folder"),
    ],
)
def test_a_wrong_argument_is_answered_with_one_sentence(script: str, arguments: list[str], sentence: str) -> None:
    done = run(script, *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr


@pytest.mark.parametrize("script", ["train_local.sh", "serve_local.sh", "predict.sh", "e2e.sh"])
def test_help_explains_every_option_and_ends_in_an_example(script: str) -> None:
    shown = run(script, "--help").stdout
    source = (ROOT / "local_test" / script).read_text()
    options = {word.strip("|)") for line in source.splitlines() for word in line.split() if word.startswith("--")}
    taken = {o for o in options if f"    {o} |" in source or f"| {o} " in source or f"{o})" in source} - {"--help"}
    assert taken
    assert not {option for option in taken if option not in shown}
    assert f"local_test/{script}" in shown.split("Example:")[1]
