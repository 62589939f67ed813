"""The files of the profiler: what smdebug's own reader makes of them, and what is left when something breaks."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from smdebug.profiler.algorithm_metrics_reader import LocalAlgorithmMetricsReader

from kennel.classifier.profiler.timeline import PHASES, TRAIN, Clock, Rotation, Timeline, finish, whole_events
from tests.profiles import MS, PARTS, write_timeline

pytestmark = pytest.mark.pure

ALL_US = (0, 4_000_000_000_000_000)


def events_of(folder: Path) -> list:
    return LocalAlgorithmMetricsReader(str(folder)).get_events(*ALL_US)


def finished(folder: Path) -> list[Path]:
    return sorted((folder / "framework/pevents").rglob("*.json"))


def test_smdebugs_reader_finds_every_span_with_its_phase_step_and_time(tmp_path: Path) -> None:
    write_timeline(tmp_path, steps=5)
    events = events_of(tmp_path)
    steps = [event for event in events if event.event_phase == TRAIN]
    assert [event.event_args["step_num"] for event in steps] == ["0", "1", "2", "3", "4"]
    assert [event.duration for event in steps] == [sum(PARTS.values()) * 1000] * 5
    assert steps[0].start_time == 1_764_036_000_500_000
    assert {event.event_phase for event in events} == set(PHASES) - {
        "Checkpoint",
        "GPU",
        "Debugger",
        "DataLoaderIterInitialize",
    }
    assert {event.pid for event in steps} == {os.getpid()}
    assert {event.node_id for event in steps} == {f"algo-1-{os.getpid()}"}


def test_a_file_is_named_by_hour_last_moment_process_and_node(tmp_path: Path) -> None:
    write_timeline(tmp_path, steps=1)
    end_us = 1_764_036_000_000_000 + (500 + sum(PARTS.values()) + 40 + 100) * 1000
    expected = tmp_path / f"framework/pevents/2025112502/{end_us}_{os.getpid()}-algo-1_pythontimeline.json"
    assert finished(tmp_path) == [expected]
    assert not list((tmp_path / "framework").glob("*.tmp"))


def test_files_are_turned_over_by_size_and_lose_nothing(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, "algo-1", rotation=Rotation(max_bytes=6_000))
    for step in range(100):
        timeline.add(TRAIN, step * MS, (step + 1) * MS, {"step_num": str(step)})
        timeline.flush()
    timeline.close()
    files = finished(tmp_path)
    assert len(files) > 2
    assert all(path.stat().st_size < 6_300 for path in files)
    assert sorted(int(event.event_args["step_num"]) for event in events_of(tmp_path)) == list(range(100))


def test_files_are_turned_over_by_age(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, "algo-1", rotation=Rotation(max_s=0))
    for step in range(3):
        timeline.add(TRAIN, step * MS, (step + 1) * MS, {"step_num": str(step)})
        timeline.flush()
    timeline.close()
    assert len(finished(tmp_path)) == 3


def test_the_file_that_is_being_written_is_whole_json_after_every_write(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, "algo-1")
    for step in range(3):
        timeline.add(TRAIN, step * MS, (step + 1) * MS, {"step_num": str(step)})
        timeline.flush()
        spans = [event for event in json.loads(timeline.path.read_text()) if event["ph"] == "X"]
        assert len(spans) == step + 1


def test_nothing_is_written_before_it_is_due(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, "algo-1", flush_s=3600)
    timeline.add(TRAIN, 0, MS, {})
    timeline.flush_when_due()
    assert not timeline.path.exists()


WRITER = """
import sys, time
from pathlib import Path
from kennel.classifier.profiler.timeline import TRAIN, Timeline
timeline = Timeline(Path(sys.argv[1]), "algo-1")
for step in range(50):
    timeline.add(TRAIN, step * 1_000_000, (step + 1) * 1_000_000, {"step_num": str(step)})
    timeline.flush()
print("written", flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_all_that_it_wrote(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert finish(tmp_path, "algo-1") == []  # it lives
        process.send_signal(signal.SIGKILL)
    assert len(finish(tmp_path, "algo-1")) == 1
    assert len(events_of(tmp_path)) == 50


def test_a_file_that_was_cut_in_the_middle_of_an_event_keeps_those_before(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, "algo-1", clock=Clock(1_764_036_000_000_000, 0))
    for step in range(10):
        timeline.add(TRAIN, step * MS, (step + 1) * MS, {"step_num": str(step)})
    timeline.flush()
    whole = timeline.path.read_bytes()
    cut = tmp_path / "framework/4194304-algo-1_pythontimeline.json.tmp"  # larger than any process id
    cut.write_bytes(whole[: whole.rindex(b'"step_num":"7"')])
    [path] = [file for file in finish(tmp_path, "algo-1") if "_4194304-" in file.name]
    assert [e["args"]["step_num"] for e in json.loads(path.read_text()) if e["ph"] == "X"] == [*"0123456"]
    assert path.name.startswith("1764036000007000_4194304-algo-1_")


def test_a_file_without_a_whole_span_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "framework/4194304-algo-1_pythontimeline.json.tmp"
    left.parent.mkdir()
    left.write_text('[\n{"name":"process_name","ph"')
    assert finish(tmp_path, "algo-1") == []
    assert not left.exists()


def test_whole_events_of_bytes_that_are_no_json() -> None:
    assert whole_events(b"\xff\x00\xfe") == []


def test_a_folder_that_cannot_be_written_is_one_warning_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "framework").write_text("a file where the folder should be")
    timeline = Timeline(tmp_path, "algo-1")
    for step in range(5):
        timeline.add(TRAIN, step * MS, (step + 1) * MS, {})
        timeline.flush()
    timeline.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "The training goes on" in caplog.text


FULL = """
import resource, signal, sys
from pathlib import Path
from kennel.classifier.profiler.timeline import TRAIN, Rotation, Timeline
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
timeline = Timeline(Path(sys.argv[1]), "algo-1")
for step in range(200):
    timeline.add(TRAIN, step * 1_000_000, (step + 1) * 1_000_000, {"step_num": str(step)})
    timeline.flush()
timeline.close()
"""


def test_a_disk_that_takes_no_more_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    assert resource.RLIM_INFINITY in resource.getrlimit(resource.RLIMIT_FSIZE)
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True)
    kept = [int(event.event_args["step_num"]) for event in events_of(tmp_path)]
    assert 20 < len(kept) < 200
    assert kept == list(range(len(kept)))
