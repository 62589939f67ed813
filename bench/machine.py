"""What a number was measured on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from kennel.classifier.network.revision import git_revision


def describe() -> dict[str, str]:
    """Processor, cores, GPU, versions and revision, as the header of a table."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    names = ("torch", "torchvision", "pillow")
    return {
        "cpu": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "load": f"{os.getloadavg()[0]:.1f} processes were running in the minute before the start",
        "gpu": gpu,
        "versions": f"python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names),
        "revision": git_revision(),
    }


def _cpu() -> str:
    """The model's name, and the arithmetic for half precision that tells models of one name apart."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag} " in text]
    return f"{name[1] if name else platform.processor() or platform.machine()} ({', '.join(features) or 'no AVX'})"
