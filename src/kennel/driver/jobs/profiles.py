"""What a job left for reports: found on this machine, fetched from S3, and handed to `kennel.insight` as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.programs import INSIGHT
from kennel.driver.errors import DriverError
from kennel.driver.jobs.training import KIND
from kennel.driver.requests import training as requests
from kennel.driver.session import connection, prices
from kennel.driver.session.refusals import explained
from kennel.driver.session.session import Session
from kennel.driver.transfers import uris
from kennel.driver.transfers.upload import list_objects

_LIMIT_S = 600.0


@dataclass(frozen=True)
class Left:
    """What a run left, on this machine."""

    name: str
    folder: Path  # or an archive
    usd_per_hour: float | None = None
    price_source: str = ""


def resolve(session: Session, what: str, scratch: Path) -> Left:
    """Find what a run left by a job's name, a path or an s3:// prefix; S3's objects are fetched into `scratch`.

    Raises:
        DriverError: there is nothing of that name, or it cannot be read.
    """
    if uris.is_uri(what):
        folder = uris.path_of(what) if what.startswith("file://") else _fetched(session, [what], scratch)
        return Left(what.rstrip("/").rpartition("/")[2], folder)
    path = Path(what).expanduser()
    if path.exists():
        return Left(path.resolve().name, path)
    if os.sep in what:
        raise DriverError(f"{what} is not there.", "Give a job's name, its folder, output.tar.gz, or an s3:// URI.")
    return _of_job(session, what, scratch)


def describe_job(session: Session, name: str) -> Any:
    """DescribeTrainingJob's answer about a word that is no path.

    The local SageMaker is started only when it has a job of this name; one that runs is asked.

    Raises:
        DriverError: no such job, or it was refused.
    """
    is_known = not session.is_local or connection.find(session.home) or session.home.job_dir(name).is_dir()
    answer = session.find("DescribeTrainingJob", requests.by_name(KIND, name)) if is_known else None
    if answer is None:
        raise DriverError(
            f"There is no file or folder '{name}' here, and no training job of this name on {session.project.on}.",
            "Give a job's name (kennel jobs lists them), its folder, output.tar.gz, or an s3:// URI.",
        )
    return answer


def _of_job(session: Session, name: str, scratch: Path) -> Left:
    answer = describe_job(session, name)
    places = _places(answer)
    local = [uris.path_of(place) for place in places if place.startswith("file://")]
    remote = [place for place in places if place.startswith("s3://")]
    folder = _gathered(local, scratch) if local else _fetched(session, remote, scratch)
    estimate = _price(answer)
    if session.is_local or estimate.usd_per_hour is None:  # at home an hour costs nothing
        return Left(name, folder)
    return Left(name, folder, estimate.usd_per_hour, str(estimate))


def _price(answer: dict[str, Any]) -> prices.Estimate:
    resources = answer.get("ResourceConfig", {})
    return prices.estimate(resources.get("InstanceType", ""), resources.get("InstanceCount", 1))


def _places(answer: dict[str, Any]) -> list[str]:
    """Where a job's output and its profile go: SageMaker's layout."""
    name, output = answer["TrainingJobName"], answer["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    profiler = (answer.get("ProfilerConfig") or {}).get("S3OutputPath", output).rstrip("/")
    return [f"{output}/{name}/output", f"{profiler}/{name}/profiler-output"]


def _gathered(folders: Sequence[Path], scratch: Path) -> Path:
    """One folder with what lies in several: archives unpacked by whoever reads it, folders as links."""
    for number, folder in enumerate(folder for folder in folders if folder.is_dir()):
        (scratch / str(number)).symlink_to(folder, target_is_directory=True)
    return scratch


def _fetched(session: Session, prefixes: Sequence[str], scratch: Path) -> Path:
    """Copy the objects below some prefixes, the weights left out."""
    s3 = session.clients("s3")
    for number, uri in enumerate(prefixes):
        bucket, prefix = uris.split_s3(uri)
        with explained(f"Reading {uri}"):
            for entry in list_objects(s3, bucket, prefix):
                target = scratch / str(number) / entry["Key"].removeprefix(prefix).lstrip("/")
                if target.name == "model.tar.gz" or not target.resolve().is_relative_to(scratch.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, entry["Key"], str(target))
    return scratch


def run_insight(words: Sequence[str], session: Session) -> str:
    """Run a subcommand of `kennel.insight` and return what it prints.

    Raises:
        DriverError: it failed; the message is its last line.
    """
    session.reporter.say("Reading what the run left")
    try:
        done = subprocess.run(
            [sys.executable, "-m", INSIGHT, *words],
            capture_output=True, text=True, check=False, timeout=_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DriverError(f"There is no result after {_LIMIT_S:.0f} s.", "Give a shorter run.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise DriverError(lines[-1].removeprefix("error: "), f"kennel {words[0]} --help")
    return done.stdout
