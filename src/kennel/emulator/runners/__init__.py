"""What starts the images: containers where there is docker, plain processes where there is none."""

from __future__ import annotations

from kennel.emulator.runners.base import Runner, RunnerError
from kennel.emulator.runners.docker import DockerRunner
from kennel.emulator.runners.process import ProcessRunner
from kennel.emulator.state.home import Home

CHOICES = ("auto", "docker", "process")


def make_runner(choice: str, home: Home) -> Runner:
    """The runner of that name; auto is docker where an engine answers, and plain processes elsewhere.

    Raises:
        RunnerError: docker was asked for, but no engine answers.
        ValueError: there is no such runner.
    """
    if choice not in CHOICES:
        raise ValueError(f"There is no runner '{choice}'; choose one of {', '.join(CHOICES)}.")
    if choice != "process":
        try:
            return DockerRunner(home.path.resolve())  # containers are found again whatever path leads to the home
        except RunnerError:
            if choice == "docker":
                raise
    return ProcessRunner(home.path / "runs", home.images_file)
