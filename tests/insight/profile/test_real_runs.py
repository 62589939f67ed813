"""Real trainings slowed down on purpose, and what their reports say; what they advise is then done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kennel.insight.profile.analysis import Analysis, analyse
from kennel.insight.profile.reading import run, sources
from kennel.insight.profile.rules import build
from kennel.insight.profile.rules.base import ISSUES, QUIET
from tests.servers import free_port

PROGRAM = Path(__file__).with_name("training.py")
SLEEP_MS, BATCH = 50, 8
pytestmark = pytest.mark.slow


def command(base: Path, **options: float) -> list[str]:
    words = [sys.executable, str(PROGRAM), str(base)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def train(base: Path, **options: float) -> Analysis:
    subprocess.run(command(base, **options), check=True, timeout=250)
    return analysed(base)


def analysed(base: Path) -> Analysis:
    return analyse(run.read(sources.find(base), base.name))


def status(analysis: Analysis, rule: str, **parameters: object) -> str:
    rules = build({name: str(value) for name, value in parameters.items()}, rule)
    [verdict] = analyse(analysis.run, rules).verdicts
    return verdict.outcome.status


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    """A run whose images take 50 ms each, with nobody to load them but the training process."""
    base = tmp_path_factory.mktemp("slow")
    return base, train(base, workers=0, sleep_ms=SLEEP_MS, batch=BATCH, steps=24, epochs=2)


def test_following_the_first_advice_shortens_the_step_as_promised(slow: tuple[Path, Analysis], tmp_path: Path) -> None:
    base, before = slow
    report = base / "output/data/profiler-report.html"  # the trainer left it
    change = re.search(r'<p class="topic">(.*?)</p><code>(.*?)</code>', report.read_text())
    assert change
    assert change[1] == "data loading"
    name, _, workers = change[2].partition("=")
    assert name == "num_workers"
    promised = json.loads((base / "output/data/profiler-report/Report.json").read_text())["advice"][0]
    assert promised["speedup"] > 1.5
    after = train(tmp_path, workers=int(workers), sleep_ms=SLEEP_MS, batch=BATCH, steps=24, epochs=2)
    assert before.loading is not None
    assert after.loading is not None
    assert promised["step_s"] == pytest.approx(before.loading.step_s)
    assert after.loading.step_s == pytest.approx(promised["expected_step_s"], rel=0.25)


def test_the_slow_run_fires_dataloader_and_the_cured_one_does_not(slow: tuple[Path, Analysis], tmp_path: Path) -> None:
    _, before = slow
    assert status(before, "Dataloader") == ISSUES
    cured = train(tmp_path, workers=2, sleep_ms=0, batch=BATCH, steps=24, epochs=1)
    assert status(cured, "Dataloader") == QUIET


def test_a_late_first_step_is_measured_from_the_start_of_the_process(slow: tuple[Path, Analysis]) -> None:
    _, analysis = slow
    assert analysis.summary is not None
    minutes = analysis.summary.initialization_s / 60
    assert minutes > 0.01  # torch alone takes longer to import
    assert status(analysis, "MaxInitializationTime", threshold=minutes / 2) == ISSUES
    assert status(analysis, "MaxInitializationTime", threshold=minutes * 2) == QUIET


def test_steps_in_which_the_process_was_stopped_are_outliers(tmp_path: Path) -> None:
    """As by a neighbour that takes the machine: the whole process is stopped for a second, three times."""
    words = command(tmp_path, workers=0, sleep_ms=5, batch=BATCH, steps=200, epochs=1)
    with subprocess.Popen(words) as process:
        metrics = tmp_path / "output/data/profiler/run"
        while not metrics.is_dir():
            assert process.poll() is None
            time.sleep(0.1)
        wait_for_steps(tmp_path, process)
        for _ in range(3):
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(1.0)
            os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=200) == 0
    analysis = analysed(tmp_path)
    assert status(analysis, "StepOutlier", n_outliers=2) == ISSUES
    assert status(analysis, "StepOutlier", n_outliers=50) == QUIET
    stopped = [one for one in analysis.slow if one.duration_s > 0.9]
    assert len(stopped) == 3


def wait_for_steps(base: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the timeline that is being written has a training step."""
    while not any("Step:ModeKeys.TRAIN" in line and '"ph":"X"' in line for line in open_lines(base)):
        assert process.poll() is None, "the training ended before it could be stopped"
        time.sleep(0.1)


def open_lines(base: Path) -> list[str]:
    return [
        line
        for path in (base / "output/data/profiler/framework").glob("*.tmp")
        for line in path.read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Analysis]:
    """Two training processes that exchange gradients, once fed alike and once with a slow loader for the second."""
    found = {}
    for name, second_ms in (("even", 5.0), ("starved", 30.0)):
        base = tmp_path_factory.mktemp(name)
        together(base, [5.0, second_ms])
        found[name] = analysed(base)
    return found


def together(base: Path, sleeps_ms: list[float]) -> None:
    port = str(free_port())
    world: dict[str, Any] = {
        "WORLD_SIZE": len(sleeps_ms),
        "LOCAL_WORLD_SIZE": len(sleeps_ms),
        "MASTER_ADDR": "127.0.0.1",
    }
    processes = []
    for rank, sleep_ms in enumerate(sleeps_ms):
        words = command(base, workers=0, sleep_ms=sleep_ms, batch=8, steps=110, epochs=1)
        named = {**world, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
        environ = {**os.environ, **{name: str(value) for name, value in named.items()}}
        processes.append(subprocess.Popen(words, env=environ))
    assert [process.wait(timeout=250) for process in processes] == [0] * len(sleeps_ms)


def test_a_training_process_that_starves_fires_load_balancing(two_processes: dict[str, Analysis]) -> None:
    starved = two_processes["starved"]
    assert status(starved, "LoadBalancing") == ISSUES
    assert starved.balance is not None
    busy = sorted(starved.balance.means.values())
    assert busy[0] < 0.6 * busy[1]


def test_training_processes_that_are_fed_alike_leave_it_quiet(two_processes: dict[str, Analysis]) -> None:
    assert status(two_processes["even"], "LoadBalancing") == QUIET
