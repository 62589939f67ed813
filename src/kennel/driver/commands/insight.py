"""Commands about what a run left; the program `kennel.insight` reads it."""

from __future__ import annotations

import json
from pathlib import Path

from kennel.driver.commands.context import Context, Result
from kennel.driver.errors import DriverError
from kennel.driver.jobs.profiles import describe_job, run_insight
from kennel.driver.session.session import Session
from kennel.driver.transfers.uris import is_uri


def rules(context: Context) -> Result:
    """Judge a run by rules."""
    arguments = context.arguments
    options = ["--rules", arguments.rules] if arguments.rules else []
    if arguments.custom:
        options += ["--custom", str(arguments.custom)]
    if arguments.json:
        options.append("--json")
    printed = run_insight(["rules", places(context.session, arguments.what), *options], context.session)
    return Result("", json.loads(printed)) if arguments.json else Result(printed.rstrip(), None)


def places(session: Session, what: str) -> str:
    """Where the tensors of a path, a URI or a job are.

    Raises:
        DriverError: no such job, or it saved none where they could be fetched.
    """
    path = Path(what).expanduser()
    if is_uri(what) or path.exists():
        return what if is_uri(what) else str(path.absolute())
    if "/" in what:
        raise DriverError(f"{what} is not there.", "Give a job's name, a folder, an output.tar.gz, or an s3:// URI.")
    job = describe_job(session, what)
    hook = job.get("DebugHookConfig") or {}
    if hook.get("S3OutputPath"):
        return f"{hook['S3OutputPath'].rstrip('/')}/{what}/debug-output"
    output = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{what}/output"
    is_packed = job["OutputDataConfig"].get("CompressionType") != "NONE"
    if job["TrainingJobStatus"] not in ("Completed", "Failed", "Stopped"):
        raise DriverError(
            f"Job {what} is {job['TrainingJobStatus']}; without a DebugHookConfig its tensors come with its output.",
            f"Its log has its findings: kennel logs {what}",
        )
    return f"{output}/output.tar.gz" if is_packed else f"{output}/data"
