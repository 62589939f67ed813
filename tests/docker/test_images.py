"""What is in the images, and what is not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

import kennel
from tests.images import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]  # the first test builds the images


@pytest.fixture(params=["train", "serve"])
def image(request: pytest.FixtureRequest, images: dict[str, str]) -> str:
    return images[request.param]


@pytest.fixture
def shell(image: str) -> Callable[[str], str]:
    """Run a shell line in the image and give back what it printed."""
    return lambda line: docker("run", "--rm", "--network=none", "--entrypoint=bash", image, "-c", line).stdout


def inspect(image: str) -> dict[str, Any]:
    return json.loads(docker("image", "inspect", image).stdout)[0]  # type: ignore[no-any-return]


def test_no_compiler_and_no_headers(shell: Callable[[str], str]) -> None:
    programs = "gcc cc g++ c++ clang ld as make pip pip3 uv"
    assert shell(f"for p in {programs}; do command -v $p; done; true") == ""
    assert shell("dpkg-query -W -f '${Package}\\n' | grep -E -- '-dev$|^gcc-[0-9]+$|^binutils' || true") == ""
    assert shell("find /opt /usr/include /usr/local -name '*.h' -o -name '*.a'") == ""


def test_no_installer_can_be_imported(shell: Callable[[str], str]) -> None:
    line = "python -c \"import importlib.util as u; print([m for m in ('pip', 'uv', 'ensurepip') if u.find_spec(m)])\""
    assert shell(line).strip() in ("[]", "['ensurepip']")  # Debian's ensurepip is a stub without wheels


def test_no_sagemaker_sdk_and_no_code_of_other_machines(shell: Callable[[str], str]) -> None:
    modules = ["sagemaker", "sagemaker_core", "kennel.driver", "kennel.emulator", "tests", "pytest", "moto", "triton"]
    line = f'python -c "import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"'
    assert shell(line).strip() == "[]"
    assert shell("find /opt/kennel -path '*test*' -o -name '*.md' -o -name '*.sh'") == ""


def test_train_image_holds_the_trainer_and_what_judges_a_run(train_image: str) -> None:
    listing = docker("run", "--rm", "--entrypoint=bash", train_image, "-c", "ls /opt/kennel /opt/kennel/kennel").stdout
    assert listing.split() == [
        "/opt/kennel:", "bin", "init.py", "kennel",
        "/opt/kennel/kennel:", "__init__.py", "classifier", "contract", "insight",
    ]  # fmt: skip


def test_serve_image_has_no_training_toolkit(serve_image: str) -> None:
    line = (
        "import importlib.util as u; print([m for m in ('sagemaker_training', 'smdebug', 'boto3') if u.find_spec(m)])"
    )
    assert docker("run", "--rm", "--entrypoint=python", serve_image, "-c", line).stdout.strip() == "[]"


def test_what_a_job_imports_can_be_imported_without_a_compiler(train_image: str) -> None:
    ours = "kennel.classifier.training.run, kennel.insight.commands.watch, kennel.insight.commands.report"
    line = f"import gethostname, smdebug.pytorch, sagemaker_training.trainer, torchvision, {ours}"
    docker("run", "--rm", "--network=none", "--entrypoint=python", train_image, "-W", "ignore", "-c", line)


def test_modules_were_compiled_at_build_time(shell: Callable[[str], str]) -> None:
    line = "python -c 'import torch, torchvision, PIL.Image'; find /opt/venv -name '*.pyc' -newer /opt/kennel/kennel"
    assert shell(line) == ""


def test_labels_say_what_it_was_built_from(image: str) -> None:
    labels = inspect(image)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == image.partition(":")[2]
    assert labels["org.opencontainers.image.version"] == kennel.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    source = labels["org.opencontainers.image.source"]
    assert source == "unknown" or source.startswith(("https://", "http://", "ssh://", "git@"))


def test_serve_image_lets_sagemaker_choose_the_port(serve_image: str) -> None:
    config = inspect(serve_image)["Config"]
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert config["ExposedPorts"] == {"8080/tcp": {}}


def test_entrypoints_are_in_exec_form_and_run_as_root(images: dict[str, str], shell: Callable[[str], str]) -> None:
    assert inspect(images["train"])["Config"]["Entrypoint"] == ["python", "/opt/kennel/init.py"]
    assert inspect(images["serve"])["Config"]["Entrypoint"] == ["python", "-m", "serving"]
    assert shell("id -u").strip() == "0"


def test_platform_is_what_sagemaker_runs(image: str) -> None:
    found = inspect(image)
    assert (found["Os"], found["Architecture"]) == ("linux", "amd64")


def test_serve_image_fits_a_serverless_endpoint(serve_image: str) -> None:
    assert inspect(serve_image)["Size"] < 10e9  # serverless endpoints take images of up to 10 GB


def history(image: str) -> list[tuple[str, int]]:
    """The steps that made an image, from the base up, with the bytes that each added."""
    lines = docker("history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image).stdout
    rows = [line.partition(" ") for line in reversed(lines.splitlines())]
    return [(step, int(size)) for size, _, step in rows]


def common(ours: list[Any], theirs: list[Any]) -> list[Any]:
    """The longest common beginning."""
    pairs = zip(ours, theirs, strict=False)
    return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]


def test_both_images_share_torch(images: dict[str, str]) -> None:
    layers = common(*(inspect(images[target])["RootFS"]["Layers"] for target in ("train", "serve")))
    steps = common(*(history(images[target]) for target in ("train", "serve")))
    assert len(layers) >= sum(size > 0 for _, size in steps), "the same steps made different layers"
    shared = sum(size for _, size in steps)
    for target in ("train", "serve"):
        total = inspect(images[target])["Size"]
        assert shared > 0.8 * total, f"{target}: {shared} of {total} bytes are shared"
