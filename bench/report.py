"""How fast a report is made: `python -m bench.report`. A ratio a row: seconds depend on who else has the processor.

A timeline of the trainer's own layout with `--events` events is written, read, analysed and drawn. What is measured is
processor time, and its ratio to that of `json.loads` over the same files, which no reader can do without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import describe
from kennel.classifier.profiler.timeline import TRAIN, Clock, Timeline
from kennel.insight.profile import contents
from kennel.insight.profile.analysis import analyse
from kennel.insight.profile.reading import run, sources
from kennel.insight.report.html import page
from kennel.insight.report.pdf import pdf

_PARTS = ("DataLoaderIter", "HostToDevice", "Forward", "Backward(post-forward)", "Optimizer", "Synchronize")
_EVENTS_A_STEP = len(_PARTS) + 2
_MS = 1_000_000


@dataclass
class Row:
    """A stage: its seconds of processor time, one a round."""

    name: str
    seconds: list[float]


def write_timeline(folder: Path, events: int) -> None:
    """A run of so many events, in files as the trainer turns them over."""
    timeline, now = Timeline(folder, "algo-1", clock=Clock(1_764_036_000_000_000, 0)), 0
    for step in range(events // _EVENTS_A_STEP):
        about, begun = {"step_num": str(step), "mode": "TRAIN"}, now
        for number, part in enumerate(_PARTS):
            timeline.add(part, now, now := now + (5 + number) * _MS, about)
        timeline.add("DataLoaderWorker", begun, now, {**about, "worker_id": 0, "images": 32}, tid=0)
        timeline.add(TRAIN, begun, now, {**about, "epoch": 1, "images": 32})
        if step % 1000 == 999:
            timeline.flush()
    timeline.close()


def stages(folder: Path, rows: dict[str, Row]) -> int:
    """One round; returns the size of the HTML file in bytes."""
    files = sorted((folder / "framework/pevents").rglob("*.json"))
    timed(rows, "json.loads of the files", lambda: [json.loads(path.read_text()) for path in files])
    read = timed(rows, "read into a table", lambda: run.read(sources.find(folder), "bench"))
    analysis = timed(rows, "analysis and rules", lambda: analyse(read))
    document = timed(rows, "charts and tables", lambda: contents.report(analysis))
    html = timed(rows, "HTML", lambda: page(document))
    timed(rows, "PDF", lambda: pdf(document))
    return len(html.encode())


def timed(rows: dict[str, Row], name: str, work: Callable[[], Any]) -> Any:
    """Do the work and note its processor time, that of all threads."""
    started_s = time.process_time()
    result = work()
    rows.setdefault(name, Row(name, [])).seconds.append(time.process_time() - started_s)
    return result


def whole_program(folder: Path, output: Path) -> tuple[float, float]:
    """Seconds that `python -m kennel.insight report` takes from its start to its end, and processor time of them."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.monotonic()
    command = [sys.executable, "-m", "kennel.insight", "report", str(folder), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    passed_s = time.monotonic() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How fast a profiler report is made.")
    parser.add_argument("--events", type=int, default=100_000, help="of the timeline (default 100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    given = parser.parse_args()
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "profile"
        write_timeline(folder, given.events)
        size = max(stages(folder, rows) for _ in range(given.rounds))
        runs = [whole_program(folder, Path(scratch) / "out") for _ in range(given.rounds)]
    print("\n".join(f"- {name}: {text}" for name, text in describe().items()))
    floor = statistics.median(rows["json.loads of the files"].seconds)
    print("\n| stage | processor s | of json.loads | n | events/s |\n|---|---|---|---|---|")
    for row in rows.values():
        middle = statistics.median(row.seconds)
        spread = f"{middle:.2f} ({min(row.seconds):.2f} to {max(row.seconds):.2f})"
        print(f"| {row.name} | {spread} | {middle / floor:.1f} x | {len(row.seconds)} | {given.events / middle:,.0f} |")
    walls, own = [wall for wall, _ in runs], [cpu for _, cpu in runs]
    print(
        f"\nThe whole program, HTML, PDF and JSON: {statistics.median(own):.1f} s of processor time "
        f"({min(own):.1f} to {max(own):.1f}), {min(walls):.1f} to {max(walls):.1f} s by the clock; "
        f"the HTML has {size:,} bytes."
    )


if __name__ == "__main__":
    main()
