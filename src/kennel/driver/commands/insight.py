"""Commands about what a run left; the program `kennel.insight` reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kennel.driver import tables
from kennel.driver.commands.context import Context, Result
from kennel.driver.errors import DriverError
from kennel.driver.session import Session
from kennel.driver.uris import is_uri


def rules(context: Context) -> Result:
    """Judge a run by rules."""
    arguments = context.arguments
    options = ["--rules", arguments.rules] if arguments.rules else []
    if arguments.custom:
        options += ["--custom", str(arguments.custom)]
    source = places(context.session, arguments.what)
    return _shown(insight(["rules", source, *options, "--json"]))


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
    job = session.send("DescribeTrainingJob", {"TrainingJobName": what})
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


def insight(words: Sequence[str]) -> Any:
    """Run `kennel.insight` and return the JSON that it prints.

    Raises:
        DriverError: what it says it cannot do.
    """
    command = [sys.executable, "-m", "kennel.insight", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        known, separator, said = last.partition("error: ")
        raise DriverError(said if separator and not known else f"kennel.insight ended with {done.returncode}: {last}")
    return json.loads(done.stdout)


def _shown(result: Any) -> Result:
    rows = [(row["rule"], row["status"], row["triggered"], row["datapoints"], row["detail"]) for row in result["rules"]]
    parts = [tables.columns(rows, ("rule", "status", "times", "values", ""))]
    for one in result["findings"]:
        parts.append(f"{one['rule']}, {one['mode']} step {one['step']}: {one['sentence']}\n  {one['advice']}")
    parts += [f"note: {note}" for note in result["notes"]]
    return Result("\n\n".join(parts), result)
