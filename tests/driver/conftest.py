"""AWS as moto plays it, and the command as a process with an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import make_photos
from tests.servers import moto_server

ACCOUNT = "123456789012"  # moto's
REGION = "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/kennel"
TRAIN_IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel-train:1"
SERVE_IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/kennel-serve:1"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What --json printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Kennel:
    """The command in a folder and a home of its own."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def __call__(self, *words: object, **environ: str) -> Done:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KENNEL_"))}
        done = subprocess.run(
            [sys.executable, "-m", "kennel.driver", *map(str, words)],
            cwd=self.folder,
            env={**clean, "KENNEL_HOME": str(self.home), "AWS_CONFIG_FILE": "/nowhere", **self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def interrupted(self, *words: object, after: str) -> str:
        """Ctrl-C for a command that has printed this to stderr; it must end with status 130.

        Returns:
            what it printed to stderr afterwards.
        """
        child = subprocess.Popen(
            [sys.executable, "-m", "kennel.driver", *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "KENNEL_HOME": str(self.home)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stderr is not None
        with child.stderr:
            assert any(after in line for line in child.stderr), f"it ended before {after!r}"
            child.send_signal(signal.SIGINT)
            rest = child.stderr.read()
        assert child.wait(timeout=30) == 130, rest
        return rest

    def write_project(self, text: str) -> None:
        (self.folder / "kennel.toml").write_text(text)


@pytest.fixture
def kennel(tmp_path: Path) -> Kennel:
    return Kennel(tmp_path)


@dataclass(frozen=True)
class Aws:
    """moto's server, emptied before each test."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - moto's
        )


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's server for the whole session."""
    with moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def aws(moto: str) -> Aws:
    """An account with a bucket and a role."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"), timeout=30).close()
    account = Aws(moto)
    account.client("s3").create_bucket(Bucket="dogs", CreateBucketConfiguration={"LocationConstraint": REGION})
    account.client("iam").create_role(RoleName="kennel", AssumeRolePolicyDocument=json.dumps(TRUST))
    return account


@pytest.fixture
def on_aws(tmp_path: Path, aws: Aws) -> Kennel:
    """The command in a project that runs on that account."""
    made = Kennel(tmp_path, aws.environ)
    made.write_project(
        f'on = "aws"\nregion = "{REGION}"\nrole = "{ROLE}"\nbucket = "dogs"\n'
        f'[images]\ntrain = "{TRAIN_IMAGE}"\nserve = "{SERVE_IMAGE}"\n'
    )
    return made


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Train, validation and test, in the layout in which data sets are downloaded."""
    root = tmp_path / "dataset"
    for seed, (part, images) in enumerate({"train": 12, "valid": 4, "test": 4}.items()):
        make_photos(root / part, images=images, seed=seed)
    return root
