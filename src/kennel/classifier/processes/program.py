"""The user's own program in the place of Kennel's trainer: script mode, as SageMaker's SDKs ask for it.

Sources: sagemaker-training 4.9.0, environment.py, entry_point.py, files.py and mapping.py; sagemaker SDK, `Framework`:
the hyperparameters `sagemaker_program` and `sagemaker_submit_directory`, whose values are JSON. In the image the
toolkit starts the program; without one, as a plain process, `become` does what the toolkit would. Standard library
only.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shlex
import shutil
import stat
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from kennel.contract.archives import unpack
from kennel.contract.errors import ConfigError
from kennel.contract.paths import BASE_DIR, ContainerPaths

_LOG = logging.getLogger(__name__)
PROGRAM_VARIABLE, DIRECTORY_VARIABLE = "SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY"
_STARTED_VARIABLE = "SM_USER_ENTRY_POINT"  # set by the toolkit for what it starts
_PLATFORM = ("sagemaker_", "_tuning_objective_metric", "default_user_module_name")
_SHOWN = 10
_NO_PIP = (
    "The program's requirements.txt asks for packages, and there is no pip to install them here. Install them in an "
    "image built FROM this one, and leave the file out."
)


@dataclass(frozen=True)
class Program:
    """A program that a job names."""

    name: str  # below /opt/ml/code
    source: str | None  # where its files are: a folder, an archive, file:// or s3://; None: at their place already

    @property
    def is_remote(self) -> bool:
        """Whether the files have to be fetched."""
        return (self.source or "").startswith("s3://")


def find_program(hyperparameters: Mapping[str, str], environ: Mapping[str, str]) -> Program | None:
    """The program that a job names, or None: the trainer is meant. A variable counts more than a hyperparameter.

    What a program starts is no job any more, so that it may start the trainer itself.

    Raises:
        ConfigError: a folder of files, and no program in it.
    """
    if environ.get(_STARTED_VARIABLE):
        return None
    values = {name: _decode(text) for name, text in hyperparameters.items()}
    name = environ.get(PROGRAM_VARIABLE) or values.get(PROGRAM_VARIABLE.lower())
    source = values.get(DIRECTORY_VARIABLE.lower()) or environ.get(DIRECTORY_VARIABLE)
    if not name and values.get(DIRECTORY_VARIABLE.lower()):
        raise ConfigError(
            [f"sagemaker_submit_directory is '{source}', and no sagemaker_program says which of its files to run."]
        )
    return Program(str(name), str(source) if source else None) if name else None


def place(program: Program, paths: ContainerPaths) -> None:
    """Bring the program's files to the folder that it runs in. One that holds something stays as it is.

    Raises:
        ConfigError: there are no such files, or the program is not among them.
    """
    code = paths.code_dir
    code.mkdir(parents=True, exist_ok=True)
    if program.source and not program.is_remote and not any(code.iterdir()):
        _fetch(program.source, paths)
    if program.is_remote and not any(code.iterdir()):
        return  # the toolkit fetches it
    if not (code / program.name).is_file():
        there = sorted(path.name for path in code.iterdir())
        held = f"it holds {', '.join(there[:_SHOWN])}" if there else "it is empty"
        raise ConfigError(
            [f"sagemaker_program is '{program.name}', and {code} has no such file ({held}). Send its folder or archive "
             "as sagemaker_submit_directory."]
        )  # fmt: skip
    if (code / "requirements.txt").exists() and importlib.util.find_spec("pip") is None:
        raise ConfigError([_NO_PIP])


def _fetch(source: str, paths: ContainerPaths) -> None:
    local = unquote(urlsplit(source).path) if source.startswith("file://") else source
    path, code = paths.seen(local), paths.code_dir
    try:
        if path == code:
            return
        if path.is_dir():
            shutil.copytree(path, code, dirs_exist_ok=True)
        elif path.is_file() and tarfile.is_tarfile(path):
            unpack(path, code)
        elif path.is_file():
            shutil.copy2(path, code)
        else:
            raise ConfigError([f"sagemaker_submit_directory is '{source}', and there is no such file or folder."])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConfigError([f"sagemaker_submit_directory is '{source}', which cannot be unpacked: {error}."]) from error


def become(program: Program, paths: ContainerPaths, hyperparameters: Mapping[str, str]) -> NoReturn:
    """Run the program in the place of this process, with the arguments and variables that the toolkit gives it.

    Raises:
        ConfigError: its files are not there, or only the image can fetch or install what it needs.
    """
    if program.is_remote:
        raise ConfigError(
            [f"sagemaker_submit_directory is '{program.source}'. A plain process cannot fetch it: send the files as a "
             f"channel and name their place, such as {BASE_DIR}/input/data/code, or use the docker runner."]
        )  # fmt: skip
    place(program, paths)
    if (paths.code_dir / "requirements.txt").exists():
        raise ConfigError([_NO_PIP.replace("there is no pip to install them here", "a plain process installs nothing")])
    file = paths.code_dir / program.name
    own = {name: _decode(text) for name, text in hyperparameters.items() if not name.startswith(_PLATFORM)}
    command = [sys.executable] if file.suffix == ".py" else []
    if not command:
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    command += [str(file), *arguments(own)]
    _LOG.info("Running %s", shlex.join(command))
    sys.stdout.flush()
    os.chdir(paths.code_dir)
    os.execve(command[0], command, {**os.environ, **_variables(program, paths, own, hyperparameters)})  # noqa: S606


def arguments(values: Mapping[str, Any]) -> list[str]:
    """Hyperparameters as the toolkit passes them: sorted, names as they were given, values as Python prints them."""
    found: list[str] = []
    for name in sorted(values):
        value = values[name]
        if isinstance(value, dict):
            value = ",".join(f"{key}={one}" for key, one in sorted(value.items()))
        found += [f"--{name}" if len(name) > 1 else f"-{name}", "" if value is None else str(value)]
    return found


def _variables(
    program: Program, paths: ContainerPaths, own: Mapping[str, Any], hyperparameters: Mapping[str, str]
) -> dict[str, str]:
    """The toolkit's SM_ variables that a script reads."""
    hosts = paths.read_hosts()
    channels = {name: str(paths.channels_dir / name) for name in sorted(paths.read_channel_configs())}
    framework = {name: _decode(text) for name, text in hyperparameters.items() if name.startswith("sagemaker_")}
    values: dict[str, Any] = {
        "hosts": list(hosts.names),
        "current_host": hosts.current,
        "network_interface_name": hosts.network_interface or "eth0",
        "hps": dict(own),
        "user_args": arguments(own),
        "user_entry_point": program.name,
        "module_name": Path(program.name).stem,
        "module_dir": program.source or str(paths.code_dir),
        "framework_params": framework,
        "channels": list(channels),
        "input_dir": str(paths.base / "input"),
        "input_config_dir": str(paths.config_dir),
        "output_dir": str(paths.output_data_dir.parent),
        "output_data_dir": str(paths.output_data_dir),
        "output_intermediate_dir": str(paths.output_data_dir.parent / "intermediate"),
        "model_dir": str(paths.model_dir),
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
        "log_level": framework.get("sagemaker_container_log_level", 20),
        **{f"channel_{name}": folder for name, folder in channels.items()},
        **{f"hp_{name}": value for name, value in own.items()},
    }
    return {f"SM_{name.upper()}": _text(value) for name, value in values.items()}


def _decode(text: str) -> Any:
    """The SDKs send JSON, people and the console plain words."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
