"""What a machine does beside a training: `python tests/insight/profile/recording.py FILE.json.gz --beside disk`.

The training, the sampler and whatever runs beside them are real, so CPU and I/O wait of every core are as the kernel
counted them. The GPU is made up (tests/nvml.py): it idles, with little memory taken, in every sample.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROGRAM = Path(__file__).with_name("training.py")
STAND_IN = Path(__file__).parents[2] / "nvml.py"
GPU_PERCENT, GPU_MEMORY_PERCENT = 5, 15  # MADE UP
INTERVAL_MS = 100
BUSY = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"
WRITE = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT)
os.unlink(sys.argv[1])
block = mmap.mmap(-1, 32 << 20)
while True: os.pwrite(file, block, 0)
"""
BESIDE = ("nothing", "processor", "disk")


@contextlib.contextmanager
def neighbours(kind: str, folder: Path) -> Iterator[None]:
    """Programs that take the machine's processor (one a core) or its disk (eight a core, past the page cache)."""
    cores = sorted(os.sched_getaffinity(0))
    commands = {
        "nothing": [],
        "processor": [[sys.executable, "-c", BUSY, str(core)] for core in cores],
        "disk": [[sys.executable, "-c", WRITE, str(folder / f"{number}.bin")] for number in range(8 * len(cores))],
    }[kind]
    running = [subprocess.Popen(command) for command in commands]
    try:
        yield
        assert all(process.poll() is None for process in running), f"what takes the {kind} has ended by itself"
    finally:
        for process in running:
            process.kill()
            process.wait()


def record(base: Path, beside: str) -> None:
    """Train for ten seconds with a loader that sleeps, so that the training itself takes next to nothing.

    Args:
        base: of the job; its profile has a sample every 100 ms.
        beside: one of BESIDE.
    """
    base.mkdir(parents=True, exist_ok=True)
    gpu = ["--use", str(GPU_PERCENT), "--memory", str(GPU_MEMORY_PERCENT)]
    subprocess.run([sys.executable, str(STAND_IN), str(base), *gpu], check=True)
    environ = {**os.environ, "LD_LIBRARY_PATH": str(base)}
    words = ["--sleep-ms", "50", "--batch", "8", "--steps", "12", "--epochs", "2", "--interval-ms", str(INTERVAL_MS)]
    with neighbours(beside, base):
        subprocess.run([sys.executable, str(PROGRAM), str(base), *words], env=environ, check=True, timeout=250)


def main() -> None:
    """Keep the samples of one such training."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--beside", choices=BESIDE, default="nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.file.parent) as folder:
        record(Path(folder), given.beside)
        files = sorted(Path(folder).glob("output/data/profiler/system/incremental/*/*.json"))
        given.file.write_bytes(gzip.compress(b"".join(file.read_bytes() for file in files), mtime=0))


if __name__ == "__main__":
    main()
