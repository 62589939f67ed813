"""Process 1 of the train image: starts sagemaker-training, hands stop signals to the program, reaps orphans.

The kernel drops a signal that process 1 has no handler for, and sagemaker-training installs none. Started directly,
it would never hear of StopTrainingJob, nor would the program below it: after 120 s both would be killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from kennel.classifier.processes.program import PROGRAM_VARIABLE, find_program, place
from kennel.contract.errors import ConfigError
from kennel.contract.paths import ContainerPaths

TOOLKIT = "train"  # sagemaker-training's console script, on PATH
TRAINER = str(
    Path(__file__).parent / "bin/train.py"
)  # not in /opt/ml/code: the toolkit brings nothing to a full folder
STANDBY = "standby"  # the label kennel.standby of the image says so to the local SageMaker


def write_missing_config(paths: ContainerPaths) -> None:
    """Write what the toolkit cannot start without, as for one host; SageMaker has written all of it already."""
    channels = sorted(folder.name for folder in paths.channels_dir.glob("*")) if paths.channels_dir.is_dir() else []
    host = "localhost"  # the toolkit waits 15 minutes for a name to resolve, and without a network no other does
    group = {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": [host]}
    defaults = {
        "hyperparameters.json": {},
        "inputdataconfig.json": {name: {"TrainingInputMode": "File"} for name in channels},
        "resourceconfig.json": {
            "current_host": host,
            "hosts": [host],
            "current_group_name": group["instance_group_name"],
            "instance_groups": [group],
        },
    }
    paths.config_dir.mkdir(parents=True, exist_ok=True)
    for name, content in defaults.items():
        if not (paths.config_dir / name).exists():
            (paths.config_dir / name).write_text(json.dumps(content), encoding="utf-8")
    for folder in (paths.model_dir, paths.output_data_dir):
        folder.mkdir(parents=True, exist_ok=True)


def choose_program(paths: ContainerPaths) -> None:
    """Tell the toolkit which program to start: the job's own, brought to its place, or else Kennel's trainer.

    Raises:
        ConfigError: see `find_program` and `place`.
    """
    program = find_program(paths.read_hyperparameters(), os.environ)
    if program:
        place(program, paths)
    os.environ[PROGRAM_VARIABLE] = program.name if program else TRAINER


def children(parent: int) -> Iterator[int]:
    """Process ids of a process's own children."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        if int(state.rpartition(")")[2].split()[1]) == parent:  # the name in front may hold spaces and brackets
            yield int(folder.name)


def command_line(pid: int) -> bytes:
    """What a process was started as; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def program_below(toolkit: int) -> list[int]:
    """The training program: the toolkit's children, but not its forks, which upload intermediate output."""
    own = command_line(toolkit)
    return [pid for pid in children(toolkit) if command_line(pid) not in (own, b"")]


def run(command: list[str], programs: Callable[[int], list[int]] = program_below) -> int:
    """Run a command as process 1 must, and return its exit status; 128 + n when signal n ended it.

    Args:
        command: what is run.
        programs: given its process, those that stop signals are for; itself when there are none.
    """
    toolkit = subprocess.Popen(command, start_new_session=True).pid

    def forward(signum: int, _frame: FrameType | None) -> None:
        # To the program alone, as if it were process 1. A whole group would take the data loader's workers with it,
        # and the program would die of their death instead of saving its model.
        for pid in programs(toolkit) or [toolkit]:  # no program yet: nothing to save, the toolkit ends
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, forward)
    while True:
        pid, status = os.wait()  # orphans come to process 1 as well
        if pid == toolkit:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    """Start training, or say what this image can do."""
    paths = ContainerPaths.from_environ()
    if arguments[:1] == [STANDBY]:  # the trainer itself: the toolkit would read the configuration before there is one
        os.chdir(paths.base)
        return run([sys.executable, "-m", "kennel.classifier", *arguments], lambda _: [])
    if arguments != ["train"]:
        given = f"'{' '.join(arguments)}'" if arguments else "nothing"
        print(
            f"This image takes the one argument 'train', not {given}. "
            "For a shell: docker run -it --entrypoint bash IMAGE. Hyperparameters are read from "
            f"{paths.hyperparameters_file}.",
            file=sys.stderr,
        )
        return 2
    write_missing_config(paths)
    try:
        choose_program(paths)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        paths.write_failure(str(error))
        return 1
    return run([TOOLKIT])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
