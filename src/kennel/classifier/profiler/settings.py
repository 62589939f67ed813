"""What the profiler is told: the request's ProfilerConfig, or hyperparameters where the request had none.

Source: smdebug 1.0.34, profiler/profiler_config_parser.py and profiler/profiler_config.py, for profilerconfig.json and
the members of its ProfilingParameters, which are texts of Python dictionaries.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.classifier.profiler.timeline import Rotation
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """The training steps whose operators are recorded; counted from 0 over all epochs."""

    first_step: int
    steps: int
    not_before_s: float = 0.0  # since 1970; the window begins with the first step after both


@dataclass(frozen=True)
class ProfileSettings:
    """A profiler that is on."""

    folder: Path  # of spans and operators
    system_folder: Path | None  # of system metrics; None: the platform writes them
    interval_ms: int
    rotation: Rotation
    window: Window | None
    source: str  # who asked for it


def node_name(paths: ContainerPaths) -> str:
    """`algo-1` and so on, by the host's rank where SageMaker has not named it: readers know no other names."""
    hosts = paths.read_hosts()
    return hosts.current if re.fullmatch(r"algo-\d+", hosts.current) else f"algo-{hosts.rank + 1}"


def profile_settings(config: TrainConfig, paths: ContainerPaths) -> ProfileSettings | None:
    """What to measure and where to write it; None for a profiler that is off."""
    own = paths.output_data_dir / "profiler"
    window = Window(config.profiler_start_step, config.profiler_steps) if config.profiler_steps else None
    if config.profiler == "off":
        return None
    if not paths.profiler_config_file.exists():
        return ProfileSettings(own, own, config.profiler_interval_ms, Rotation(), window, f"profiler={config.profiler}")
    try:
        request = _lower(json.loads(paths.profiler_config_file.read_text(encoding="utf-8")))
        if request.get("disableprofiler"):
            return None
        parameters = _lower(request.get("profilingparameters") or {})
        return ProfileSettings(
            Path(parameters.get("localpath") or paths.profiler_dir),
            own if config.profiler == "full" else None,
            int(request.get("profilingintervalinmilliseconds") or config.profiler_interval_ms),
            _rotation(parameters),
            _window(parameters) or window,
            paths.profiler_config_file.name,
        )
    except (ValueError, TypeError, AttributeError, SyntaxError, OSError) as error:  # it must never end a training
        _LOG.warning("The profiler is off: %s cannot be used: %s", paths.profiler_config_file, error)
        return None


def _lower(members: Mapping[str, Any]) -> dict[str, Any]:
    """smdebug does not look at the case of names."""
    return {name.lower(): value for name, value in members.items()}


def _rotation(parameters: Mapping[str, Any]) -> Rotation:
    return Rotation(
        int(float(parameters.get("rotatemaxfilesizeinbytes") or Rotation.max_bytes)),
        float(parameters.get("rotatefilecloseintervalinseconds") or Rotation.max_s),
        int(float(parameters.get("fileopenfailthreshold") or Rotation.failures)),
    )


def _window(parameters: Mapping[str, Any]) -> Window | None:
    """DetailedProfilingConfig; `StartStep` counts as the trainer's steps do, `DurationInSeconds` is passed over."""
    text = str(parameters.get("detailedprofilingconfig") or "")
    members = _lower(ast.literal_eval(text)) if text.strip() else {}
    if not members:
        return None
    return Window(
        int(members.get("startstep") or 0),
        int(members.get("numsteps") or 1),
        float(members.get("starttimeinsecsinceepoch") or 0.0),
    )
