"""GPU metrics through nvidia-ml-py: where there is no GPU, and with a stand-in for the library that the driver brings.

No machine here has a GPU. The stand-in is a shared library with the C interface of NVIDIA's; all of the Python that
asks it is what asks a real one. Its numbers are made up.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = """
struct utilization { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int result) { return "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(1UL + index); return 0; }
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *found) {
    found->gpu = device == (void *)1 ? 97 : 3; found->memory = 50; return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, struct memory *found) {
    found->total = 16ULL << 30; found->used = 4ULL << 30; found->free = 12ULL << 30; return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    if (device != (void *)1) return 3; /* NVML_ERROR_NOT_SUPPORTED */
    *milliwatts = 71250; return 0;
}
"""
ASK = """
import json
from kennel.classifier.gpus import Gpus
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
    (tmp_path / "nvml.c").write_text(LIBRARY)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    count, values = ask(LD_LIBRARY_PATH=str(tmp_path))
    assert count == 2
    assert values == [
        ["gpu", "gpu0", "GPUUtilization", 97.0],
        ["gpu", "gpu0", "GPUMemoryUtilization", 25.0],
        ["gpu", "gpu0", "GPUPowerWatts", 71.25],
        ["gpu", "gpu1", "GPUUtilization", 3.0],
        ["gpu", "gpu1", "GPUMemoryUtilization", 25.0],
    ]
