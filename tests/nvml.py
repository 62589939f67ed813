"""A stand-in for the library that NVIDIA's driver brings: the same C interface, and values that a test chooses.

No machine here has a GPU. All of the Python that asks the stand-in is what asks a real one; its numbers are made up.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

_LIBRARY = """
#include <stdlib.h>
#include <string.h>
struct utilization { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
static const char *use = "@USE@", *taken = "@MEMORY@";  /* per cent, a GPU after the other */
static unsigned of(const char *list, void *device) {
    for (unsigned long left = (unsigned long)device; left > 1; left--) list = strchr(list, ',') + 1;
    return atoi(list);
}
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int result) { return "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 1;
    for (const char *each = use; *each; each++) *count += *each == ',';
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(1UL + index); return 0; }
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *found) {
    found->gpu = of(use, device); found->memory = 50; return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, struct memory *found) {
    found->total = 100ULL << 28; found->used = (unsigned long long)of(taken, device) << 28;
    found->free = found->total - found->used; return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    if (device != (void *)1) return 3; /* NVML_ERROR_NOT_SUPPORTED */
    *milliwatts = 71250; return 0;
}
"""


def stand_in(folder: Path, *, use: Sequence[int], memory: Sequence[int]) -> dict[str, str]:
    """Compile it with gcc.

    Args:
        folder: for the library.
        use: per cent of the time that a kernel runs, of each GPU.
        memory: per cent that is taken, of each.

    Returns:
        the environment in which programs find it instead of the driver's.
    """
    text = _LIBRARY.replace("@USE@", ",".join(map(str, use))).replace("@MEMORY@", ",".join(map(str, memory)))
    (folder / "nvml.c").write_text(text)
    command = ["gcc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", folder / "nvml.c"]
    subprocess.run(command, check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


def main() -> None:
    """The same from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--use", type=int, nargs="+", required=True)
    parser.add_argument("--memory", type=int, nargs="+", required=True)
    given = parser.parse_args()
    stand_in(given.folder, use=given.use, memory=given.memory)


if __name__ == "__main__":
    main()
