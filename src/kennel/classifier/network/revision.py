"""Which source made an artifact."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

REVISION_VARIABLE = "KENNEL_GIT_REVISION"  # set at image build, where there is no git tree


def git_revision(environ: Mapping[str, str] = os.environ) -> str:
    """The image's revision, or that of the working tree this file is in, or "unknown"."""
    if environ.get(REVISION_VARIABLE):
        return environ[REVISION_VARIABLE]
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
