"""What this machine has and lacks: every line ok, a warning or a failure, with what to do."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator

from kennel.driver.checks import aws
from kennel.driver.checks.findings import FAIL, OK, WARN, Finding
from kennel.driver.errors import DriverError
from kennel.driver.session.home import Home
from kennel.driver.session.project import AWS, Project
from kennel.driver.session.session import Session
from kennel.driver.session.whereabouts import look, read_state

_PYTHON = (3, 11)
_DISK_WARN_GB, _DISK_FAIL_GB = 15, 2  # two images take 5 GB together, their layers again as much while they are built
_COMMAND_TIMEOUT_S = 20
_PACKAGES = ("boto3", "rich", "PIL", "starlette", "uvicorn")


def examine(session: Session) -> list[Finding]:
    """Look at everything that a session needs; starts and creates nothing."""
    project, home = session.project, session.home
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        lambda: _docker(project),
        lambda: _disk(home),
        lambda: _emulator(home),
        lambda: _credentials(home),
        _gpu,
    ]
    found = [finding for check in checks for finding in check()]
    if project.on == AWS:
        found += _aws(session)
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == _PYTHON:
        yield Finding(OK, "python", version)
    else:
        yield Finding(WARN, "python", f"{version}; Kennel is tested with 3.11.", "Use Python 3.11.")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(FAIL, "packages", f"{', '.join(missing)} missing.", "pip install 'kennel[driver]'")
    else:
        yield Finding(OK, "packages", "all of the driver's and of the local SageMaker's")


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _docker(project: Project) -> Iterator[Finding]:
    if not shutil.which("docker"):
        yield Finding(WARN, "docker", "not on PATH; jobs run as plain processes.", "Install docker to run the images.")
        return
    done = _run("docker", "version", "--format", "{{.Server.Version}}")
    if done is None or done.returncode:
        said = done.stderr.strip().splitlines()[-1] if done and done.stderr.strip() else "no answer"
        yield Finding(
            WARN,
            "docker",
            f"no daemon answers ({said}); jobs run as plain processes.",
            "Start docker, or join its group.",
        )
        return
    yield Finding(OK, "docker", f"server {done.stdout.strip()}")
    for name in dict.fromkeys((project.images.train, project.images.serve)):
        if ".dkr.ecr." in name:
            continue  # AWS pulls it, not this machine
        there = _run("docker", "image", "inspect", "--format", "{{.Size}}", name)
        if there is None or there.returncode:
            yield Finding(WARN, f"image {name}", "not built here.", "./build_and_push.sh --no-push")
        else:
            yield Finding(OK, f"image {name}", f"{int(there.stdout) / 1e9:.1f} GB")


def _disk(home: Home) -> Iterator[Finding]:
    folder = next(path for path in (home.path, *home.path.parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    level = FAIL if free_gb < _DISK_FAIL_GB else WARN if free_gb < _DISK_WARN_GB else OK
    hint = (
        ""
        if level == OK
        else f"Free some, or set KENNEL_HOME to another disk; kennel clean --data helps ({home.path})."
    )
    yield Finding(level, "disk", f"{free_gb:.0f} GB free at {folder}", hint)


def _emulator(home: Home) -> Iterator[Finding]:
    try:
        seen = look(home)
    except DriverError as error:
        yield Finding(FAIL, "local SageMaker", str(error), error.hint)
        return
    if seen.emulator:
        yield Finding(OK, "local SageMaker", f"process {seen.emulator.pid} at {seen.emulator.url}")
    elif seen.is_held:
        yield Finding(FAIL, "local SageMaker", seen.problem, seen.hint)
    elif home.emulator_file.exists():
        was = read_state(home).get("pid", "unknown")
        yield Finding(
            WARN,
            "local SageMaker",
            f"not running; it was killed (process {was}) and left {home.emulator_file}, which nobody believes.",
            "kennel up starts it again; nothing is lost.",
        )
    else:
        yield Finding(OK, "local SageMaker", "not running; it starts by itself on first use")


def _credentials(home: Home) -> Iterator[Finding]:
    file = home.credentials_file
    if not file.exists():
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield Finding(FAIL, "local credentials", f"{file} can be read by others (mode {mode:o}).", f"chmod 600 {file}")
    else:
        yield Finding(OK, "local credentials", f"{file}, for you alone")


def _gpu() -> Iterator[Finding]:
    done = (
        _run("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
        if shutil.which("nvidia-smi")
        else None
    )
    if done is None or done.returncode or not done.stdout.strip():
        yield Finding(OK, "gpu", "none; jobs on this machine use the processor")
        return
    names = "; ".join(done.stdout.strip().splitlines())
    info = _run("docker", "info", "--format", "{{json .Runtimes}}") if shutil.which("docker") else None
    if info and info.returncode == 0 and "nvidia" not in info.stdout:
        yield Finding(WARN, "gpu", f"{names}, but docker has no nvidia runtime.", "Install nvidia-container-toolkit.")
    else:
        yield Finding(OK, "gpu", names)


def _aws(session: Session) -> Iterator[Finding]:
    identity = aws.check_identity(session.clients)
    yield identity
    if identity.level == FAIL:
        return
    project = session.project
    for setting in ("bucket", "role"):
        if not getattr(project, setting):
            yield Finding(FAIL, setting, "not set.", f"Set {setting} in kennel.toml, or give --{setting}.")
    if project.bucket:
        yield aws.check_bucket(session.clients, project.bucket)
    if project.bucket and project.role:
        yield from aws.check_role(
            session.clients,
            project.role,
            project.bucket,
            images=[project.images.train, project.images.serve],
            kms=project.kms,
            vpc=project.vpc,
        )
