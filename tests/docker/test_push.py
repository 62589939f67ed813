"""Pushing for real: Debian's docker-registry on loopback takes the images, moto answers for ECR."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import make_photos
from tests.docker.conftest import ECR_PASSWORD, Registry
from tests.images import ROOT, build_and_push, digests, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def call(registry: Registry, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    """One request to the registry's own API; the response, read to its end."""
    token = base64.b64encode(f"AWS:{ECR_PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    url = path if path.startswith("http") else f"http://{registry.host}/v2/{path}"
    with urllib.request.urlopen(
        urllib.request.Request(url, data=body or None, method=method, headers=headers), timeout=60
    ) as response:
        response.body = response.read()
        return response


@pytest.fixture(scope="session")
def ecr(moto: dict[str, str]) -> Any:
    return boto3.client(
        "ecr",
        endpoint_url=moto["AWS_ENDPOINT_URL"],
        region_name=moto["AWS_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
    )


@pytest.fixture(scope="session")
def pushed(
    tree: Path,
    base_image: str,
    registry: Registry,
    moto: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """Digests by image, as the script printed them after a push to "ECR"."""
    logged_out = tmp_path_factory.mktemp("docker")  # so that the script has to log in
    done = build_and_push(
        tree, "--base-image", base_image, **moto, KENNEL_ECR_HOST=registry.host, DOCKER_CONFIG=str(logged_out)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    yield digests(done.stdout)
    docker("rmi", "--force", *digests(done.stdout))  # the names that hold this session's port


def test_digest_printed_is_the_registrys_own(pushed: dict[str, str], registry: Registry) -> None:
    assert len(pushed) == 2
    for image, digest in pushed.items():
        repository, tag = image.removeprefix(f"{registry.host}/").split(":")
        head = call(registry, "HEAD", f"{repository}/manifests/{tag}", Accept=DOCKER)
        assert head.headers["Docker-Content-Digest"] == digest
        assert head.headers["Content-Type"] == DOCKER
        known = json.loads(docker("image", "inspect", "--format={{json .RepoDigests}}", image).stdout)
        assert f"{registry.host}/{repository}@{digest}" in known


def test_latest_is_never_pushed(pushed: dict[str, str], registry: Registry) -> None:
    for image in pushed:
        repository, tag = image.removeprefix(f"{registry.host}/").split(":")
        assert json.loads(call(registry, "GET", f"{repository}/tags/list").body)["tags"] == [tag]


def test_registry_holds_torch_once(pushed: dict[str, str], registry: Registry) -> None:
    layers = []
    for image in pushed:
        repository, tag = image.removeprefix(f"{registry.host}/").split(":")
        manifest = json.loads(call(registry, "GET", f"{repository}/manifests/{tag}", Accept=DOCKER).body)
        layers.append({layer["digest"]: layer["size"] for layer in manifest["layers"]})
    shared = sum(size for digest, size in layers[0].items() if digest in layers[1])
    assert all(shared > 0.8 * sum(sizes.values()) for sizes in layers)


def test_repositories_scan_on_push_and_keep_their_tags(pushed: dict[str, str], ecr: Any) -> None:
    assert pushed
    found = {one["repositoryName"]: one for one in ecr.describe_repositories()["repositories"]}
    assert found.keys() >= {"kennel-train", "kennel-serve"}
    for name in ("kennel-train", "kennel-serve"):
        assert found[name]["imageScanningConfiguration"] == {"scanOnPush": True}
        assert found[name]["imageTagMutability"] == "IMMUTABLE"


def test_tag_that_ecr_has_already_is_reused(  # noqa: PLR0917 - fixtures
    tree: Path, pushed: dict[str, str], base_image: str, registry: Registry, moto: dict[str, str], ecr: Any
) -> None:
    image = next(image for image in pushed if "serve" in image)
    repository, tag = image.removeprefix(f"{registry.host}/").split(":")
    manifest = call(registry, "GET", f"{repository}/manifests/{tag}", Accept=DOCKER).body.decode()
    ecr.put_image(repositoryName=repository, imageManifest=manifest, imageManifestMediaType=DOCKER, imageTag=tag)
    (stored,) = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    arguments = ["--only", "serve", "--base-image", base_image]
    again = build_and_push(tree, *arguments, **moto, KENNEL_ECR_HOST=registry.host, **registry.environ)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "is in ECR already and tags are immutable there" in again.stderr
    assert "pushing" not in again.stderr
    assert digests(again.stdout) == {image: stored["imageDigest"]}  # moto hashes manifests in a way of its own


def test_image_pulled_back_by_digest_is_the_one_that_was_pushed(
    pushed: dict[str, str], registry: Registry, tmp_path: Path
) -> None:
    image, digest = next((image, digest) for image, digest in pushed.items() if "train" in image)
    by_digest = f"{image.rpartition(':')[0]}@{digest}"
    built = docker("image", "inspect", "--format={{.Id}}", image).stdout.strip()
    tags = docker("image", "inspect", '--format={{join .RepoTags " "}}', image).stdout.split()
    docker("rmi", "--force", *tags, by_digest)  # its own layers go; those below belong to the serve image, too
    assert docker("image", "inspect", built, check=False).returncode != 0
    docker("--config", str(registry.credentials), "pull", by_digest)
    try:
        assert docker("image", "inspect", "--format={{.Id}}", by_digest).stdout.strip() == built
        assert_trains(by_digest, tmp_path)
    finally:
        for tag in tags:
            docker("tag", by_digest, tag)


def assert_trains(image: str, folder: Path) -> None:
    """One epoch on photos made here, as a job: its folders are mounted where SageMaker puts them."""
    make_photos(folder / "input/data/train", images=8)
    make_photos(folder / "input/data/validation", images=4, seed=1)
    (folder / "input/config").mkdir()
    hyperparameters = {"arch": "resnet18", "pretrained": "none", "epochs": "1", "resize_px": "64", "crop_px": "64"}
    (folder / "input/config/hyperparameters.json").write_text(json.dumps(hyperparameters | {"batch_size": "8"}))
    (folder / "model").mkdir()
    done = docker(
        "run", "--rm", "--network=none", "--shm-size=1g", f"--volume={folder}/input:/opt/ml/input",
        f"--volume={folder}/model:/opt/ml/model", image, "train", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    meta = json.loads((folder / "model/meta.json").read_text())
    assert (meta["arch"], meta["classes"]) == ("resnet18", ["blue", "red"])
    assert (folder / "model/model.safetensors").stat().st_size > 40_000_000


def put_blob(registry: Registry, repository: str, data: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    upload = call(registry, "POST", f"{repository}/blobs/uploads/").headers["Location"]
    call(registry, "PUT", f"{upload}&digest={digest}", data, Content_Type="application/octet-stream")
    return {"digest": digest, "size": len(data)}


@pytest.fixture(scope="session")
def oci_image(registry: Registry) -> str:
    """An image as a build with provenance makes it: an OCI manifest below an OCI index."""
    config = put_blob(
        registry, "oci", b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [],
    }
    body = json.dumps(manifest).encode()
    call(registry, "PUT", "oci/manifests/single", body, Content_Type=OCI)
    entry = {
        "mediaType": OCI,
        "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
        "size": len(body),
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    call(registry, "PUT", "oci/manifests/list", json.dumps(index).encode(), Content_Type=OCI_INDEX)
    return f"{registry.host}/oci"


def test_check_accepts_what_was_pushed(pushed: dict[str, str], registry: Registry) -> None:
    for image, digest in pushed.items():
        done = build_and_push(ROOT, "--check", image, **registry.environ)
        assert (done.returncode, done.stdout) == (0, f"{image} {digest}\n"), done.stderr


def test_check_refuses_an_oci_manifest(oci_image: str, registry: Registry) -> None:
    done = build_and_push(ROOT, "--check", f"{oci_image}:single", **registry.environ)
    assert done.returncode == 1
    assert f"has a manifest of type '{OCI}', which SageMaker refuses" in done.stderr


def test_check_refuses_a_list_of_manifests(oci_image: str, registry: Registry) -> None:
    done = build_and_push(ROOT, "--check", f"{oci_image}:list", **registry.environ)
    assert done.returncode == 1
    assert "is a list of manifests, which SageMaker refuses" in done.stderr


def test_push_without_a_login_says_so(
    tree: Path, images: dict[str, str], base_image: str, registry: Registry, tmp_path: Path
) -> None:
    assert images
    done = build_and_push(
        tree, "--only", "serve", "--base-image", base_image, "--registry", registry.host, DOCKER_CONFIG=str(tmp_path)
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no basic auth credentials" in done.stderr
    assert f"pushing {registry.host}/kennel-serve" in done.stderr
