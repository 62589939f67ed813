"""What is to be served: a job's artifact, one in S3, or one on this machine."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kennel.driver.errors import DriverError
from kennel.driver.jobs import training, tuning
from kennel.driver.session.session import Session
from kennel.driver.transfers.upload import upload_file
from kennel.driver.transfers.uris import file_uri, is_uri, path_of

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
    state = training.find(session, what) or _best_trial(session, what)
    if state is None:
        raise DriverError(
            f"There is no job '{what}' on {session.project.on}, and no file or folder of that name.",
            "kennel jobs lists the jobs; a model.tar.gz, a model folder or a URI does as well.",
        )
    if not state.artifact:
        raise DriverError(
            f"Job {what} is {state.status} and has no artifact{f': {state.failure}' if state.failure else ''}.",
            f"kennel logs {what}",
        )
    return Artifact(state.artifact)


def _best_trial(session: Session, name: str) -> training.JobState | None:
    """The best training job of a tuning job; None when there is none of this name."""
    if tuning.find(session, name) is None:
        return None
    best = tuning.best_trial(session, name)
    session.reporter.say(f"The best trial of {name} is {best}")
    return training.describe(session, best)


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
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=1) as tar:  # weights hardly shrink
            for path in sorted(folder.iterdir()):
                tar.add(path, arcname=path.name)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)  # on a full disk
    return archive
