"""What is to be served: a job's artifact, one in S3, or one on this machine."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kennel.driver import training, tuning
from kennel.driver.errors import DriverError
from kennel.driver.refusals import is_missing
from kennel.driver.session import Session
from kennel.driver.upload import upload_file
from kennel.driver.uris import file_uri, is_uri, path_of

ARCHIVE = "model.tar.gz"


@dataclass(frozen=True)
class Artifact:
    """Where the endpoint finds the model, and what must be put there first."""

    uri: str
    local: Path | None = None  # an archive to upload, or a folder to pack


def resolve(session: Session, what: str, name: str) -> Artifact:
    """Find an artifact by a job's name, a URI or a path.

    Args:
        session: where to ask for a job.
        what: the job, URI or path.
        name: what it shall be called where it has to be copied to.

    Raises:
        DriverError: there is none.
    """
    if is_uri(what):
        return Artifact(what)
    path = Path(what).expanduser()
    if path.exists():
        return _of_path(session, path.absolute(), name)
    if os.sep in what or what.endswith((".gz", ".tar")):
        raise DriverError(f"{what} is not there.", "Give a job's name, model.tar.gz, a model folder, or an s3:// URI.")
    state = training.describe(session, _job(session, what))
    if not state.artifact:
        raise DriverError(
            f"Job {what} is {state.status} and has no artifact{f': {state.failure}' if state.failure else ''}.",
            f"kennel logs {what}",
        )
    return Artifact(state.artifact)


def _job(session: Session, name: str) -> str:
    """A training job's name: the one that was given, or the best one of the tuning job that has it."""
    try:
        training.describe(session, name)
    except DriverError as error:
        if error.__cause__ is None or not is_missing(error.__cause__):
            raise
        try:
            best = tuning.best_trial(session, name)
        except DriverError as other:
            if other.__cause__ is not None and is_missing(other.__cause__):
                raise error from None  # it is neither
            raise
        session.reporter.say(f"The best trial of {name} is {best}")
        return best
    return name


def _of_path(session: Session, path: Path, name: str) -> Artifact:
    if path.is_file() and session.is_local:
        return Artifact(file_uri(path))
    if path.is_dir() and not (path / "meta.json").is_file():
        raise DriverError(f"{path} has no meta.json, so it is no artifact.", "Give the folder that training wrote.")
    if session.is_local:
        return Artifact(file_uri(session.home.uploads_dir / name / ARCHIVE), path)
    return Artifact(f"{session.base_uri}/models/{name}/{ARCHIVE}", path)


def provide(session: Session, artifact: Artifact) -> None:
    """Put the artifact where its URI says, if it is not there already.

    Raises:
        DriverError: it cannot be written there.
    """
    if artifact.local is None:
        return
    archive = artifact.local
    if archive.is_dir():
        is_file = artifact.uri.startswith("file://")
        target = path_of(artifact.uri) if is_file else session.home.uploads_dir / artifact.uri.split("/")[-2] / ARCHIVE
        archive = pack(archive, target)
    entry = session.begin("data", artifact.uri)
    if artifact.uri.startswith("s3://"):
        session.reporter.say(f"Uploading {archive} to {artifact.uri}")
        upload_file(archive, artifact.uri, session.clients("s3"), kms_key=session.project.kms.output)
    session.record.confirm(entry)


def pack(folder: Path, archive: Path) -> Path:
    """Pack a model folder as SageMaker packs it: its files at the top of a gzipped tar."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    with tarfile.open(temporary, "w:gz", compresslevel=1) as tar:  # weights hardly shrink
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    temporary.replace(archive)
    return archive
