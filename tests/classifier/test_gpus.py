"""GPU metrics through nvidia-ml-py: where there is no GPU, and with a stand-in for the driver's library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvml import stand_in

ASK = """
import json
from kennel.classifier.profiler.gpus import Gpus
gpus = Gpus()
print(json.dumps([gpus.count, [[v.type, v.name, v.dimension, v.value] for v in gpus.values()]]))
gpus.close()
"""


def ask(**environ: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | environ, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_without_a_driver_there_are_no_gpus_and_no_error() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has NVIDIA's driver")
    assert ask() == [0, []]


def test_each_gpu_tells_what_it_can(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not on PATH; the stand-in is made with it")
    count, values = ask(**stand_in(tmp_path, use=[97, 3], memory=[25, 25]))
    assert count == 2
    assert values == [
        ["gpu", "gpu0", "GPUUtilization", 97.0],
        ["gpu", "gpu0", "GPUMemoryUtilization", 25.0],
        ["gpu", "gpu0", "GPUPowerWatts", 71.25],
        ["gpu", "gpu1", "GPUUtilization", 3.0],
        ["gpu", "gpu1", "GPUMemoryUtilization", 25.0],
    ]
