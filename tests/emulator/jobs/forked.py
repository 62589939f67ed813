"""A program for the fork server; what it is to do stands in its arguments."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from pathlib import Path

seen: list[str] = []  # a program that found another's entry here would not be a new one


def preload() -> None:
    """What takes time, once."""
    seen.append("preloaded")


def main(word: str) -> None:
    """Say who this is, and do as the word says."""
    import forked  # this file as the server has imported it

    atexit.register(sys.stdout.write, "bye\n")
    forked.seen.append(word)
    files = [path.name for path in Path("/proc/self/fd").iterdir()]
    sys.stdout.write(f"{forked.seen} {Path.cwd().name} {os.environ['WHO']} {threading.active_count()}\n")
    sys.stderr.write(f"{sys.stdin.read() or 'no input'} {os.getpgid(0) == os.getpid()} {len(files)}\n")
    if word == "fail":
        sys.exit(3)
    if word == "raise":
        raise ValueError("told to")
    if word == "sleep":
        time.sleep(1000)


if __name__ == "__main__":
    main(sys.argv[1])
