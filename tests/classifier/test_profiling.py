"""The profile that a training leaves: what its steps are made of, where it lies, and what happens when it breaks."""

import collections
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from smdebug.profiler.algorithm_metrics_reader import LocalAlgorithmMetricsReader
from smdebug.profiler.analysis.utils.profiler_data_to_pandas import PandasFrame
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

from kennel.classifier.debugger.hook import attach
from kennel.classifier.profiler.profiler import Profiler
from kennel.classifier.profiler.settings import ProfileSettings, Window, node_name, profile_settings
from kennel.classifier.profiler.timeline import EVAL, TRAIN, Rotation, Timeline, finish
from kennel.contract.files import write_json
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths
from tests.conftest import make_photos

PARTS = ("DataLoaderIter", "HostToDevice", "Forward", "Backward(post-forward)", "Optimizer", "Synchronize")
ALWAYS_US = (0, 4_000_000_000_000_000)
QUICK = {
    "arch": "resnet18", "pretrained": "none", "crop_px": "32", "resize_px": "32", "batch_size": "8", "epochs": "2",
    "num_workers": "1", "warmup_epochs": "0", "precision": "fp32", "channels_last": "off", "checkpoints": "on",
}  # fmt: skip


def start(job: Path, **changes: str) -> "subprocess.Popen[str]":
    write_json(ContainerPaths(job).hyperparameters_file, QUICK | changes)
    return subprocess.Popen(
        [sys.executable, "-m", "kennel.classifier", "train", "--base-dir", str(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(job: Path, **changes: str) -> str:
    with start(job, **changes) as process:
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def events_of(folder: Path) -> list:
    return LocalAlgorithmMetricsReader(str(folder)).get_events(*ALWAYS_US)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training with the debugger, a loader process, checkpoints and a window of two steps leaves."""
    job = tmp_path_factory.mktemp("profiled") / "job"
    for seed, (channel, images) in enumerate({"train": 12, "validation": 4, "test": 4}.items()):
        make_photos(job / "input/data" / channel, images=images, seed=seed)
    train(job, profiler_start_step="1", profiler_steps="2", profiler_interval_ms="100")
    return job / "output/data/profiler"


@pytest.fixture(scope="module")
def events(profile: Path) -> list:
    return events_of(profile)


def of_mode(events: list, mode: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Step by step, the microseconds of each phase."""
    steps: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for event in events:
        if event.event_args.get("mode") == mode:
            steps[event.event_args["step_num"]][event.event_phase] = event.duration
    return iter(steps.items())


def test_the_parts_of_a_step_add_up_to_it(events: list) -> None:
    steps = dict(of_mode(events, "TRAIN"))
    assert list(steps) == ["0", "1", "2", "3", "4", "5"]  # 24 images, 8 a step, 2 epochs
    left = {number: phases[TRAIN] - sum(phases[part] for part in PARTS) for number, phases in steps.items()}
    assert all(microseconds >= 0 for microseconds in left.values()), left
    # What no part has is a few lines of Python; another program may get the processor there, but not every time.
    assert (
        sorted(left.values())[len(left) // 2]
        < 0.05 * sorted(phases[TRAIN] for phases in steps.values())[len(left) // 2]
    )


def test_a_step_holds_its_parts_one_after_the_other(events: list) -> None:
    for number in range(6):
        mine = [e for e in events if e.event_args.get("step_num") == str(number) and e.event_args["mode"] == "TRAIN"]
        [step] = [e for e in mine if e.event_phase == TRAIN]
        parts = sorted((e for e in mine if e.event_phase in PARTS), key=lambda e: e.start_time)
        assert [e.event_phase for e in parts] == list(PARTS)
        assert step.start_time <= parts[0].start_time
        assert step.end_time >= parts[-1].end_time
        assert all(a.end_time <= b.start_time + 1 for a, b in itertools.pairwise(parts))  # rounded down each


def test_validation_steps_lie_inside_the_validation_of_their_epoch(events: list) -> None:
    assert [number for number, _ in of_mode(events, "EVAL")] == ["0", "1"]  # 8 images, 8 a step, 2 epochs
    validations = sorted((e.start_time, e.end_time) for e in events if e.event_phase == "Validation")
    steps = sorted((e.start_time, e.end_time) for e in events if e.event_phase == EVAL)
    assert all(a[0] <= b[0] and b[1] <= a[1] + 1 for a, b in zip(validations, steps, strict=True))


def test_the_debuggers_time_is_within_that_of_forward_and_backward(events: list) -> None:
    for _, phases in of_mode(events, "TRAIN"):
        assert 0 < phases["Debugger"] <= phases["Forward"] + phases["Backward(post-forward)"] + phases["Synchronize"]


def test_each_batch_tells_which_worker_made_it_and_how_long_that_took(events: list) -> None:
    made = [e for e in events if e.event_phase == "DataLoaderWorker"]
    assert {(e.event_args["mode"], e.event_args["worker_id"]) for e in made} == {("TRAIN", 0), ("EVAL", 0)}
    assert [e.event_args["images"] for e in made if e.event_args["mode"] == "TRAIN"] == [8] * 6
    assert all(e.duration > 0 for e in made)


def test_beginning_and_end_are_measured_part_by_part(events: list, profile: Path) -> None:
    first = min(e.start_time for e in events if e.event_phase == TRAIN)
    last = max(e.end_time for e in events if e.event_phase == TRAIN)
    before = {e.event_name: e for e in events if e.event_phase == "Initialization"}
    assert before.keys() == {"Imports", "Channels", "Network", "Checkpoint", "Precision", "Loaders", "Debugger"}
    assert all(e.end_time <= first + 1 for e in before.values())
    after = [e for e in events if e.event_phase == "Finalization"]
    assert [e.event_name for e in after] == ["Operators", "Rules", "Artifact", "Report"]
    assert all(e.start_time >= last - 1 for e in after)
    [run] = [json.loads(path.read_text()) for path in (profile / "run").iterdir()]
    assert run["start_us"] == pytest.approx(before["Imports"].start_time, abs=20_000)


def test_checkpoints_are_measured_outside_of_steps(events: list) -> None:
    steps = [(e.start_time, e.end_time) for e in events if e.event_phase == TRAIN]
    saves = [(e.start_time, e.end_time) for e in events if e.event_phase == "Checkpoint"]
    assert len(saves) == 2
    assert not [1 for a in saves for b in steps if a[0] < b[1] - 1 and b[0] < a[1] - 1]


def test_what_does_not_change_is_told_once(profile: Path) -> None:
    [path] = (profile / "run").iterdir()
    run = json.loads(path.read_text())
    assert path.name == f"{run['pid']}-algo-1.json"
    assert (run["batch_size"], run["steps_per_epoch"], run["epochs"], run["num_workers"]) == (8, 3, 2, 1)
    assert (run["device"], run["gpus"], run["interval_ms"], run["operators"]) == ("cpu", 0, 100, [1, 2])
    assert run["cores"] == len(os.sched_getaffinity(0))
    assert 0 < run["cpu_limit"] <= run["cores"]
    assert run["memory_limit_bytes"] > 1 << 28


def test_system_metrics_cover_the_training(profile: Path, events: list) -> None:
    samples = LocalSystemMetricsReader(str(profile)).get_events(*ALWAYS_US)
    times_us = sorted({sample.timestamp * 1e6 for sample in samples})
    assert len(times_us) > 5
    assert times_us[0] < min(e.start_time for e in events if e.event_phase == TRAIN)
    assert times_us[-1] > max(e.end_time for e in events if e.event_phase == TRAIN)
    own = [s.value for s in samples if s.dimension == "ContainerCPUUtilization"]
    assert max(own) > 5  # the training computes


def test_smdebugs_own_analysis_finds_steps_and_loaders(profile: Path) -> None:
    frame = PandasFrame(str(profile))
    metrics = frame.get_all_framework_metrics()
    assert set(metrics[metrics["process"] == TRAIN]["step"]) == set(range(6))
    loaders = frame.get_all_dataloader_metrics(["DataLoaderIterInitialize"])
    assert set(loaders["framework_metric"]) == {"_MultiProcessingDataLoaderIter.__init__"}
    assert set(loaders["num_workers"]) == {1}


def test_operators_of_the_window_have_times_shapes_and_memory(profile: Path) -> None:
    [folder] = (profile / "framework/pytorch/detailed_profiling").glob("*/000000001")
    [table] = folder.glob("*_operators.json")
    document = json.loads(table.read_text())
    assert (document["first_step"], document["steps"], document["device"]) == (1, 2, "cpu")
    rows = document["operators"]
    convolutions = [row for row in rows if "conv" in row["name"] and [8, 3, 32, 32] in row["shapes"]]
    assert convolutions
    assert all(row["calls"] % 2 == 0 for row in convolutions)  # two steps
    assert sum(row["self_cpu_us"] for row in rows) <= document["wall_us"] * os.cpu_count()
    assert any(row["self_cpu_memory_bytes"] > 0 for row in rows)
    assert rows == sorted(rows, key=lambda row: -row["self_cpu_us"] - row["self_device_us"])
    [trace] = folder.glob("*_trace.json.gz")
    names = {event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert "aten::conv2d" in names


def test_off_leaves_no_file_and_no_hook(job: Path) -> None:
    output = train(job, profiler="off", debugger="off", epochs="1")
    assert not (job / "output/data/profiler").exists()
    assert "rofiler" not in output


@pytest.mark.parametrize("profiler", [Profiler(), None], ids=["off", "on"])
def test_measuring_puts_no_hook_on_the_network(profiler: Profiler | None, tmp_path: Path) -> None:
    """Off there is nothing at all; on, what is measured is the loop, and the debugger's own hooks where it has some."""
    profiler = profiler or Profiler(Timeline(tmp_path, "algo-1"))
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU())
    paths = ContainerPaths(tmp_path)
    attach(model, [], paths, choice="off", steps_per_epoch=1, profiler=profiler)
    for _ in profiler.steps([(torch.ones(1, 4), torch.ones(1))], TRAIN, 0, 1):
        with profiler.span("Forward"):
            model(torch.ones(1, 4)).sum().backward()
    hooks = [hook for part in model.modules() for name, hook in vars(part).items() if "hook" in name and hook]
    assert hooks == []
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_a_profiler_that_is_off_hands_things_through() -> None:
    profiler = Profiler()
    batches = [(1, 2), (3, 4)]
    assert list(profiler.steps(batches, TRAIN, 0, 1)) == batches  # type: ignore[comparison-overlap]
    assert profiler.hook(len) is len
    with profiler.span("Forward"):
        pass
    profiler.end_step()
    profiler.describe(arch="resnet18")
    profiler.close()


@pytest.mark.slow
def test_a_training_that_is_killed_leaves_files_that_the_readers_open(job: Path) -> None:
    make_photos(job / "more", images=200)
    (job / "input/data/train").rename(job / "few")
    (job / "more").rename(job / "input/data/train")
    folder = job / "output/data/profiler"
    with start(job, debugger="off", epochs="1000", profiler_interval_ms="100") as process:
        deadline = time.monotonic() + 200
        while (seen := len(timeline_steps(folder))) < 5:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while list((folder / "framework").glob("*.tmp")):  # the sampler notices within a second
            assert time.monotonic() < deadline
            time.sleep(0.1)
    steps = [e for e in events_of(folder) if e.event_phase == TRAIN]
    assert len(steps) >= seen
    assert LocalSystemMetricsReader(str(folder)).get_events(*ALWAYS_US)


def timeline_steps(folder: Path) -> list[dict]:
    """Steps in the file that is being written."""
    found = list((folder / "framework").glob("*_pythontimeline.json.tmp"))
    return [e for path in found for e in json.loads(path.read_text()) if e["name"] == TRAIN and e["ph"] == "X"]


def test_a_disk_that_takes_nothing_does_not_end_the_training(job: Path) -> None:
    folder = job / "output/data/profiler"
    folder.mkdir(parents=True)
    for name in ("framework", "system", "run"):
        (folder / name).write_text("no folder can be made here")
    output = train(job, debugger="off", epochs="1", profiler_start_step="0")
    assert "The profiler cannot write" in output
    assert (job / "model/meta.json").exists()


@pytest.mark.slow
def test_two_processes_write_a_set_of_spans_each_and_one_of_the_machine(job: Path) -> None:
    train(job, processes="2", debugger="off", num_workers="0", profiler_interval_ms="100")
    folder = job / "output/data/profiler"
    runs = [json.loads(path.read_text()) for path in (folder / "run").iterdir()]
    assert sorted((run["rank"], run["processes"], run["images_per_process"]) for run in runs) == [(0, 2, 4), (1, 2, 4)]
    steps = [e for e in events_of(folder) if e.event_phase == TRAIN]
    assert collections.Counter(e.node_id for e in steps) == {f"algo-1-{run['pid']}": 6 for run in runs}
    samples = LocalSystemMetricsReader(str(folder)).get_events(*ALWAYS_US)
    counted = collections.Counter((s.timestamp, s.name, s.dimension) for s in samples)
    assert set(counted.values()) == {1}


def test_a_resumed_run_finishes_what_the_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / "framework/4194304-algo-1_pythontimeline.json.tmp"
    timeline = Timeline(tmp_path, "algo-1")
    timeline.add(TRAIN, 0, 1000, {})
    timeline.flush()
    timeline.path.rename(left)
    assert [path.name.split("_")[1] for path in finish(tmp_path, "algo-1")] == ["4194304-algo-1"]


def settings_of(job: Path, request: object = None, **config: object) -> ProfileSettings | None:
    paths = ContainerPaths(job)
    if request is not None:
        write_json(paths.profiler_config_file, request)
    return profile_settings(TrainConfig(**config), paths)  # type: ignore[arg-type]


def test_without_a_request_both_kinds_of_metrics_come_back_with_the_output(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, profiler_interval_ms=200)
    assert settings is not None
    assert settings.folder == settings.system_folder == tmp_path / "output/data/profiler"
    assert (settings.interval_ms, settings.rotation, settings.window) == (200, Rotation(), Window(10, 3))


def test_with_a_request_the_platform_samples_and_uploads(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {"S3OutputPath": "s3://b/p", "ProfilingIntervalInMilliseconds": 1000})
    assert settings is not None
    assert (settings.folder, settings.system_folder) == (tmp_path / "output/profiler", None)
    assert (settings.interval_ms, settings.source) == (1000, "profilerconfig.json")
    settings = settings_of(tmp_path, profiler="full")
    assert settings is not None
    assert settings.system_folder == tmp_path / "output/data/profiler"


def test_the_parameters_that_the_sdk_sends_are_honoured(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        {
            "S3OutputPath": "s3://b/p",
            "ProfilingParameters": {
                "LocalPath": str(tmp_path / "elsewhere"),
                "RotateMaxFileSizeInBytes": "1000000",
                "RotateFileCloseIntervalInSeconds": "30",
                "FileOpenFailThreshold": "5",
                "DetailedProfilingConfig": '{"StartStep": 5, "NumSteps": 4, }',
                "PythonProfilingConfig": '{"StartStep": 5, "NumSteps": 1, "ProfilerName": "cprofile", }',
            },
        },
    )
    assert settings is not None
    assert settings.folder == tmp_path / "elsewhere"
    assert settings.rotation == Rotation(1_000_000, 30.0, 5)
    assert settings.window == Window(5, 4)


@pytest.mark.parametrize(
    "request_", [{"DisableProfiler": True}, {"ProfilingParameters": {"RotateMaxFileSizeInBytes": "much"}}]
)
def test_what_is_disabled_or_cannot_be_understood_is_off(tmp_path: Path, request_: dict) -> None:
    assert settings_of(tmp_path, request_) is None


def test_a_text_that_is_code_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = f"__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch()"
    assert settings_of(tmp_path, {"ProfilingParameters": {"DetailedProfilingConfig": code}}) is None
    assert not (tmp_path / "run").exists()
    assert "The profiler is off" in caplog.text


@pytest.mark.parametrize(
    ("current", "hosts", "node"),
    [
        ("algo-2", ["algo-1", "algo-2"], "algo-2"),
        ("worker_b", ["worker_a", "worker_b"], "algo-2"),
        (None, None, "algo-1"),
    ],
)
def test_a_node_has_a_name_that_readers_know(
    tmp_path: Path, current: str | None, hosts: list[str] | None, node: str
) -> None:
    paths = ContainerPaths(tmp_path)
    if current:
        write_json(paths.resource_config_file, {"current_host": current, "hosts": hosts})
    assert node_name(paths) == node
