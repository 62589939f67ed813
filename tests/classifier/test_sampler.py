"""The program that samples the machine: what smdebug's reader makes of its files, and when it ends."""

import collections
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

from kennel.classifier.profiler.sampler import SystemLog
from kennel.classifier.profiler.system import Value
from tests.images import ROOT, docker

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def sampler(folder: Path, pid: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kennel.classifier.profiler.sampler", str(folder), "--pid", str(pid), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@contextmanager
def sampled(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A job that sleeps, and its sampler."""
    with subprocess.Popen(SLEEP) as job, sampler(folder, job.pid, *options) as watching:
        try:
            yield job, watching
        finally:
            job.kill()
            job.wait()  # until then its sampler takes it for one that has ended, too
            watching.kill()


def lines(folder: Path) -> list[dict]:
    files = sorted((folder / "system/incremental").rglob("*.json"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def wait_for(folder: Path, samples: int) -> list[float]:
    """The times of the samples, when there are so many."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        times = sorted({line["Timestamp"] for line in lines(folder)})
        if len(times) >= samples:
            return times
        time.sleep(0.05)
    raise AssertionError(f"no {samples} samples in 120 s: {times}")


def test_smdebugs_reader_finds_the_samples_under_sagemakers_names(tmp_path: Path) -> None:
    with sampled(tmp_path, "--interval-ms", "100") as (_, watching):
        wait_for(tmp_path, 3)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(60) == 0
    events = LocalSystemMetricsReader(str(tmp_path)).get_events(0, 4_000_000_000_000_000)
    assert {event.node_id for event in events} == {"algo-1"}
    assert {(event.type, event.dimension) for event in events} == {
        ("cpu", "CPUUtilization"), ("cpu", "I/OWaitPercentage"), ("cpu", "ContainerCPUUtilization"), ("memory", ""),
        ("i/o", ""), ("network", "Algorithm"),
    }  # fmt: skip
    counted = collections.Counter(event.name for event in events)
    assert len(set(counted.values()) - {counted["cpu0"], counted["cpu0"] // 2}) == 0  # each once a sample, cores twice
    assert counted["MemoryUsedPercent"] >= 3


def test_files_are_named_by_hour_minute_and_node(tmp_path: Path) -> None:
    log = SystemLog(tmp_path, "algo-2")
    for at_s in (1_764_036_059.5, 1_764_036_060.0, 1_764_036_061.0):
        log.write([Value("memory", "MemoryUsedPercent", "", 12.3456)], at_s)
    log.close()
    folder = tmp_path / "system/incremental/2025112502"
    assert sorted(path.name for path in folder.iterdir()) == ["1764036000.algo-2.json", "1764036060.algo-2.json"]
    assert (folder / "1764036000.algo-2.json").read_text() == (
        '{"Type":"memory","Name":"MemoryUsedPercent","Dimension":"","Value":12.35,"NodeId":"algo-2",'
        '"Timestamp":1764036059.5}\n'
    )
    assert len(lines(tmp_path)) == 3


def test_the_interval_is_kept(tmp_path: Path) -> None:
    with sampled(tmp_path, "--interval-ms", "200"):
        times = wait_for(tmp_path, 6)
    apart = [late - early for early, late in itertools.pairwise(times)]
    # A busy machine makes a sample late, and the next one comes at its own time; none comes early by more than that.
    assert sum(apart) / len(apart) >= 0.19


def test_a_long_interval_does_not_delay_the_end(tmp_path: Path) -> None:
    with sampled(tmp_path, "--interval-ms", "60000") as (job, watching):
        time.sleep(1)
        job.kill()
        job.wait()
        started = time.monotonic()
        assert watching.wait(60) == 0
        assert time.monotonic() - started < 30
    assert lines(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_job(tmp_path: Path, number: int) -> None:
    with sampled(tmp_path, "--interval-ms", "100") as (job, watching):
        wait_for(tmp_path, 1)
        job.send_signal(number)
        job.wait()
        assert watching.wait(60) == 0


def test_a_job_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with sampler(tmp_path, 4_194_304) as watching:  # larger than any process id
        assert watching.wait(60) == 1
        assert watching.stderr is not None
        assert b"No process 4194304" in watching.stderr.read()


def test_it_finishes_the_spans_of_a_job_that_was_killed(tmp_path: Path) -> None:
    writer = (
        "import sys, time\nfrom pathlib import Path\nfrom kennel.classifier.profiler.timeline import TRAIN, Timeline\n"
        "t = Timeline(Path(sys.argv[1]), 'algo-1')\nt.add(TRAIN, 0, 1000, {})\nt.flush()\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", writer, str(tmp_path)]
    with subprocess.Popen(command) as job, sampler(tmp_path, job.pid) as watching:
        deadline = time.monotonic() + 60
        while not (list(tmp_path.glob("framework/*.tmp")) and list(tmp_path.rglob("system/incremental/*/*.json"))):
            assert time.monotonic() < deadline, "one of them has written nothing"
            time.sleep(0.05)
        job.kill()
        job.wait()
        assert watching.wait(60) == 0
    assert len(list((tmp_path / "framework/pevents").rglob("*_pythontimeline.json"))) == 1
    assert not list((tmp_path / "framework").glob("*.tmp"))


LIMITED = """
import os, subprocess, sys, time
sys.path.insert(0, "/src")
from kennel.classifier.profiler.system import Machine, in_container
held = bytearray(os.urandom(1 << 20)) * 100
burn = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
program = [sys.executable, "-m", "kennel.classifier.profiler.sampler"]
command = [*program, "/out", "--pid", str(os.getpid()), "--interval-ms", "200"]
sampler = subprocess.Popen(command, env={"PYTHONPATH": "/src"})
machine = Machine(os.getpid(), container=in_container(os.getpid()))
print(in_container(os.getpid()), machine.cpu_limit, machine.memory_limit_bytes)
time.sleep(5)
sampler.terminate()
print(sampler.wait())
"""


@pytest.mark.docker
def test_a_containers_limits_are_what_its_use_is_measured_by(base_image: str, tmp_path: Path) -> None:
    mounts = [f"--volume={ROOT / 'src'}:/src:ro", f"--volume={tmp_path}:/out"]
    limits = ["--cpus=0.5", "--memory=400m", "--network=none"]
    printed = docker("run", "--rm", *limits, *mounts, base_image, "python3.11", "-c", LIMITED).stdout.split()
    assert printed == ["True", "0.5", str(400 << 20), "0"]
    values = collections.defaultdict(list)
    for line in lines(tmp_path):
        values[line["Name"], line["Dimension"]].append(line["Value"])
    used = values["container", "ContainerCPUUtilization"]
    assert 30 < sum(used) / len(used) < 150  # of half a core, which two programs want
    assert (
        20 < min(values["MemoryUsedPercent", ""]) <= max(values["MemoryUsedPercent", ""]) < 60
    )  # 100 MiB and Python's
    assert max(values["ReceiveBytesPerSecond", "Algorithm"]) == 0  # it has no network


def test_half_a_line_of_an_earlier_run_is_dropped(tmp_path: Path) -> None:
    value = [Value("memory", "MemoryUsedPercent", "", 1.0)]
    log = SystemLog(tmp_path, "algo-1")
    log.write(value, 1_764_036_000.0)
    log.close()
    [path] = (tmp_path / "system/incremental").rglob("*.json")
    with path.open("a") as file:
        file.write('{"Type":"cpu","Na')
    log = SystemLog(tmp_path, "algo-1")
    log.write(value, 1_764_036_001.0)
    log.close()
    assert [line["Timestamp"] for line in lines(tmp_path)] == [1_764_036_000.0, 1_764_036_001.0]


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "system").write_text("a file where the folder should be")
    log = SystemLog(tmp_path, "algo-1")
    for second in range(3):
        log.write([Value("memory", "MemoryUsedPercent", "", 1.0)], float(second))
    log.close()
    assert len(caplog.records) == 1
